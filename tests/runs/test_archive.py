"""The archive on the disk: appending, repair, and the config it belongs to."""

import json

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import spaces
from lswag_jax.runs.archive import Archive, check_complete, extend, read_rows

CONFIG = {"seed": 0, "search": {"num": 5, "window": (1, 2.5)}, "log_every": 10}
ROWS = [{"id": "a", "x": 0.1}, {"id": "b", "x": [1, None]}, {"id": "c", "x": "é"}]


def fill(workdir, rows=ROWS, config=CONFIG):
    with Archive(workdir, config) as archive:
        for row in rows:
            archive.append(row)
    return workdir / "archive.jsonl"


def refusal(*arguments) -> str:
    with pytest.raises(ValueError) as error:
        Archive(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_come_back(tmp_path):
    path = fill(tmp_path / "new" / "run")
    assert len(path.read_text().splitlines()) == 3
    with Archive(path.parent, CONFIG) as archive:
        assert list(archive) == ROWS
        assert (len(archive), archive[1], archive[:2]) == (3, ROWS[1], ROWS[:2])
        archive.append({"id": "d"})
    assert [row["id"] for row in read_rows(path)[0]] == ["a", "b", "c", "d"]


def test_row_is_on_the_disk_when_append_returns(tmp_path):
    with Archive(tmp_path, CONFIG) as archive:
        for number, row in enumerate(ROWS, start=1):
            archive.append(row)
            assert read_rows(archive.path)[0] == ROWS[:number]


def test_row_is_the_same_before_and_after_a_resume(tmp_path):
    row = {"id": "a", "x": np.float32(0.1), "y": (1, np.nan), "z": np.arange(2)}
    with Archive(tmp_path, CONFIG) as archive:
        archive.append(row)
        appended = archive[0]
    with Archive(tmp_path, CONFIG) as archive:
        assert archive[0] == appended


def test_every_truncation_of_the_last_line_is_repaired(tmp_path):
    path = fill(tmp_path)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for size in range(start, len(whole)):
        path.write_bytes(whole[:size])
        assert read_rows(path) == (ROWS[:2], start)
        assert path.stat().st_size == size  # reading changes nothing
        with Archive(tmp_path, CONFIG) as archive:
            assert list(archive) == ROWS[:2]
            archive.append(ROWS[2])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"\x00" * 9, b'{"id": "c"\xff}\n', b"\n", b"[3]\n", b"{}\n"])
def test_garbled_last_line_is_cut(tmp_path, garbage):
    path = fill(tmp_path, ROWS[:2])
    whole = path.read_bytes()
    path.write_bytes(whole + garbage)
    with Archive(tmp_path, CONFIG) as archive:
        assert list(archive) == ROWS[:2]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"\x00\x00", b'{"id": "b', b"", b"7"])
def test_garbled_middle_line_is_named(tmp_path, garbage):
    path = fill(tmp_path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], garbage, *lines[2:]]))
    damaged = path.read_bytes()
    assert refusal(tmp_path, CONFIG) == f"line 2 of {path} is not a row of an archive."
    assert path.read_bytes() == damaged


def test_other_config_is_refused(tmp_path):
    path = fill(tmp_path)
    before = path.read_bytes(), (tmp_path / "config.json").read_bytes()
    other = {"seed": 1, "search": {"num": 5, "window": (1, 3)}, "name": "x"}
    message = refusal(tmp_path, other)
    assert message == (
        f"workdir {tmp_path} holds a run of another config, which differs in "
        "seed (0 there, 1 here), search.window ([1, 2.5] there, [1, 3] here), "
        'log_every (10 there, absent here), name (absent there, "x" here): give another workdir.'
    )
    assert before == (path.read_bytes(), (tmp_path / "config.json").read_bytes())


def test_run_of_another_kind_is_refused(tmp_path):
    """A training in the folder of a search would leave the search without its config."""
    fill(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    for _ in range(2):  # nothing is left behind that would let it in later
        with pytest.raises(ValueError, match=r"kind, whose rows are in archive\.jsonl: give"):
            Archive(tmp_path, {"kind": "training"}, name="metrics.jsonl")
    assert (tmp_path / "config.json").read_bytes() == before
    (tmp_path / "archive.jsonl").unlink()
    (tmp_path / "genotypes.jsonl").write_text('{"width": 4}\n' * 2)  # of the user
    with Archive(tmp_path, {"kind": "training"}, name="metrics.jsonl") as archive:
        archive.append({"id": "start"})
    assert refusal(tmp_path, CONFIG).startswith(f"workdir {tmp_path} holds a run of another kind")


@pytest.mark.parametrize(
    ("name", "value"), [("jax_enable_x64", True), ("jax_default_prng_impl", "rbg")]
)
def test_settings_that_change_numbers_are_compared(tmp_path, name, value):
    fill(tmp_path)
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        message = refusal(tmp_path, CONFIG)
    finally:
        jax.config.update(name, before)
    assert f"differs in {name} (absent there, {json.dumps(value)} here): give" in message


def test_many_differences_are_counted(tmp_path):
    """A part that is not there at all is one difference, however many keys it has."""
    fill(tmp_path)
    other = {f"key{i}": i for i in range(9)} | {"search": CONFIG["search"]} | {"more": CONFIG}
    message = refusal(tmp_path, CONFIG | other)
    assert "key4 (absent there, 4 here), 5 more: give another workdir." in message
    message = refusal(tmp_path, CONFIG | {"more": CONFIG})
    assert "differs in more (only here): give" in message


def test_exempt_keys_may_differ(tmp_path):
    fill(tmp_path)
    other = CONFIG | {"log_every": 1, "search": {"num": 6, "window": (1, 2.5)}}
    assert "search.w" in refusal(tmp_path, other | {"search": {"window": (2, 3)}}, ("log_every",))
    assert "log_every" in refusal(tmp_path, other, ("log", "sea"))
    with Archive(tmp_path, other, ("log_every",)) as archive:
        assert len(archive) == 3
    assert json.loads((tmp_path / "config.json").read_text())["log_every"] == 1
    with Archive(tmp_path, CONFIG | {"search": {}}, ("log_every", "search")) as archive:
        assert len(archive) == 3


def test_what_does_not_change_rows_may_differ(tmp_path):
    """A longer search, another list of genotypes, images that were moved."""
    data = {"data": {"source": "a"}, "data_sha256": "x", "genotypes_sha256": "1"}
    fill(tmp_path, config=CONFIG | data)
    longer = {"search": {"num": 9, "epochs": 3, "window": (1, 2.5)}, "genotypes_sha256": "2"}
    moved = {"data": {"source": "b", "data_dir": "c"}, "data_sha256": "x"}
    with Archive(tmp_path, CONFIG | longer | moved) as archive:
        assert list(archive) == ROWS
    found = json.loads((tmp_path / "config.json").read_text())
    assert (found["search"]["num"], found["data"]["source"]) == (9, "b")
    other = CONFIG | longer | {"data": {"source": "d", "data_dir": "c"}, "data_sha256": "y"}
    message = refusal(tmp_path, other)
    assert 'data.source ("b" there, "d" here): give' in message
    assert "sha256" not in message
    message = refusal(tmp_path, other | {"data": moved["data"]})
    assert "differs in the images or labels (of the same source, but not those of" in message


def test_versions_that_wrote_rows(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    fill(tmp_path, ROWS[:2])
    assert json.loads(path.read_text())["versions"] == {lswag_jax.__version__: 0}
    monkeypatch.setattr(lswag_jax, "__version__", "99.0")
    with Archive(tmp_path, CONFIG):
        pass
    assert "99.0" not in path.read_text()  # it wrote none
    with Archive(tmp_path, CONFIG) as archive:
        archive.append(ROWS[2])
    assert json.loads(path.read_text())["versions"]["99.0"] == 2


def test_a_row_that_is_there_twice_is_counted_once(tmp_path):
    path = fill(tmp_path)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.warns(UserWarning, match=r"3 of 6 rows of .* are of networks that it has already"):
        assert read_rows(path) == (ROWS, path.stat().st_size)


def test_config_of_a_run_without_rows_is_replaced(tmp_path):
    path = fill(tmp_path, [])
    path.write_bytes(b'{"id"')  # killed while writing the first row
    with Archive(tmp_path, {"seed": 5}) as archive:
        assert len(archive) == 0
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 5}
    assert not list(tmp_path.glob(".*"))
    assert path.read_bytes() == b""


def test_config_that_cannot_be_compared(tmp_path):
    assert "plain values only" in refusal(tmp_path, {"x": object()})
    fill(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "no readable config.json" in refusal(tmp_path, CONFIG)
    (tmp_path / "config.json").unlink()
    assert "no readable config.json" in refusal(tmp_path, CONFIG)


def test_versions_that_were_edited(tmp_path):
    fill(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"versions": [1]}))
    assert "versions of config.json of" in refusal(tmp_path, CONFIG)


def test_windows_with_infinity_are_configs(tmp_path):
    config = {"window": (0, np.inf)}
    fill(tmp_path, config=config)
    with Archive(tmp_path, config) as archive:
        assert len(archive) == 3


def test_extend_keeps_known_rows_and_evaluates_the_others(rng):
    space = spaces.get("autoformer_tiny")
    genotypes = space.sample(rng, 4)
    rows = [{"id": space.format(g)} for g in genotypes]
    calls = []

    def evaluate(missing):
        calls.append(missing)
        return ({"id": space.format(g)} for g in missing)

    archive = rows[:2]
    assert extend(archive, 0, space, genotypes, evaluate) == 4
    assert archive == rows
    assert extend(archive, 0, space, genotypes, evaluate) == 4
    assert calls == [genotypes[2:]]
    check_complete(archive, 4)
    with pytest.raises(ValueError, match="holds 4 rows, but this run has only 3"):
        check_complete(archive, 3)


def test_extend_refuses_rows_of_another_search(rng):
    space = spaces.get("autoformer_tiny")
    first, second = space.sample(rng, 2)
    row = {"id": space.format(first)}
    with pytest.raises(ValueError, match=r"row 1 of the archive is of '.*', but this"):
        extend([row], 0, space, [second], lambda _: iter(()))
    with pytest.raises(ValueError, match="an evaluated row is of"):
        extend([], 0, space, [second], lambda _: iter([row]))


def test_options_of_a_training_have_the_names_that_are_asked_for(tmp_path):
    with Archive(tmp_path, {"options": {"epochs": 2}}) as archive:
        archive.append(ROWS[0])
    message = refusal(tmp_path, {"options": {"epochs": 3}})
    assert "differs in epochs (2 there, 3 here): give" in message
