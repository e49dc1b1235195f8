"""Files of a run that were edited: a sentence that names the file, the key and the value."""

import json
import shutil

import numpy as np
import pytest

from lswag_jax import search, spaces
from lswag_jax.cli import report
from lswag_jax.scoring.rows import check_costs

SPACE = spaces.get("nasbench201", width=4, cells=1)
IMAGES, LABELS = np.ones((4, *SPACE.image_shape), np.float32), np.arange(4) % 2
OPTIONS = search.EvolutionOptions(epochs=2, population=3, select=2, mutation=1, crossover=1)


def run(workdir):
    return search.run(SPACE, IMAGES, LABELS, ("params", "macs"), OPTIONS, workdir, fitness="params")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder)
    report.main(str(folder))
    return folder


ABSENT = object()
ROWS = {
    "no genotype": ("genotype", ABSENT, r"row 2 of .*archive.jsonl \('.*'\) lacks genotype\."),
    "no seconds": ("seconds", ABSENT, "lacks seconds"),
    "no sizes": ("params", ABSENT, "lacks params"),
    "genotype": ("genotype", 3, "genotype of row 2 .* must be a mapping or None, got 3"),
    "a word": ("params", "many", "params of row 2 .* must be a number or None, got 'many'"),
    "a list": ("macs", [], "macs of row 2 .* must be a number or None"),
    "no number": ("params", None, "has no params or macs, and no error that says why"),
    "seconds": ("seconds", "x", "seconds of row 2 .* must be a number, got 'x'"),
    "generation": ("generation", None, "generation of row 2 .* must be an integer of at least 0"),
    "letters": ("generation", "x", "generation of row 2"),
    "parts": ("parts", None, "parts of row 2 .* must be a mapping, got None"),
    "a proxy's parts": ("parts", {"nwot": None}, "parts.nwot of row 2 .* must be a mapping"),
    "a part": ("parts", {"nwot": {"score": 1}}, "parts.nwot.score of row 2 .* must be a list"),
    "costs": ("costs", {"memory": "x"}, "costs.memory of row 2 .* must be a number"),
    "degenerate": ("degenerate", [1], "degenerate of row 2 .* must be a list of"),
}


def test_rows_of_measured_costs():
    """NaN, of a network that cannot be run, is none that was edited."""
    check_costs({"id": "a", "costs": {"latency": "NaN", "memory": 3}}, "row 1")
    with pytest.raises(ValueError, match="costs of row 1 must be a mapping, got None"):
        check_costs({"id": "a"}, "row 1")


@pytest.mark.parametrize("name", ROWS)
def test_an_edited_row(name, finished, tmp_path):
    """Where a run is reported, and where it is resumed; nothing of it is changed."""
    key, value, words = ROWS[name]
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    first, second, *rest = (folder / "archive.jsonl").read_text().splitlines()
    row = json.loads(second) | {key: value}
    edited = json.dumps({k: v for k, v in row.items() if v is not ABSENT})
    text = "\n".join([first, edited, *rest]) + "\n"
    (folder / "archive.jsonl").write_text(text)
    for go_on in (lambda: report.main(str(folder)), lambda: run(folder)):
        with pytest.raises(ValueError, match=words) as error:
            go_on()
        assert str(error.value).endswith(".")
    assert (folder / "archive.jsonl").read_text() == text


CONFIGS = {
    "nothing": ({"space": ABSENT, "proxies": ABSENT}, "space of .*config.json must be a mapping"),
    "space": ({"space": 3}, "space of .* must be a mapping, got 3"),
    "no name": ({"space": {}}, "space.name of .* must be a string, got None"),
    "no proxies": ({"proxies": {}}, "config.json names no proxies"),
    "a list": ({"proxies": []}, "proxies of .* must be a mapping"),
    "a proxy": ({"proxies": {"nwot": None}}, "proxies.nwot of .* must be a mapping, got None"),
    "search": ({"search": None}, "search of .* must be a mapping, got None"),
    "data": ({"data": None}, "data of .* must be a mapping, got None"),
    "free": ({"free": None}, "free of .* must be a mapping, got None"),
    "total": ({"free": {"total": "many"}}, "free.total of .* must be an integer"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_edited_config(name, finished, tmp_path):
    values, words = CONFIGS[name]
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text()) | values
    kept = {key: value for key, value in config.items() if value is not ABSENT}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=words):
        report.main(str(folder))


TRAININGS = {
    "nothing": ({}, {}, "space of .*config.json must be a mapping, got None"),
    "no options": ({"space": {"name": "darts"}}, {}, "options of .* must be a mapping"),
    "a row": (
        {"space": {"name": "darts"}, "options": {"epochs": 3}},
        {"loss": 1.0, "epoch": 1},
        "step of row 'train 1' of .*metrics.jsonl must be a number, got None",
    ),
    "a loss": (
        {"space": {"name": "darts"}, "options": {"epochs": 3}},
        {"loss": "low", "epoch": 1, "step": 3},
        "loss of row 'train 1' of .* must be a number or one of .*, got 'low'",
    ),
}


def test_a_validation_that_is_not_finite(tmp_path, capsys):
    """It is no edit: training writes NaN as a text, and goes on."""
    config = {"space": {"name": "darts"}, "options": {"epochs": 3}, "genotype": "g"}
    rows = [
        {"id": f"{kind} {epoch}", "epoch": epoch, "step": epoch, "loss": loss}
        for epoch in (1, 2)
        for kind, loss in (("train", 1.0), ("eval", ("NaN", "Infinity")[epoch - 1]))
    ]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report.main(str(tmp_path))
    assert "newest validation: loss inf" in capsys.readouterr().out


@pytest.mark.parametrize("name", TRAININGS)
def test_an_edited_training(name, tmp_path):
    config, row, words = TRAININGS[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"id": "train 1"} | row) + "\n")
    with pytest.raises(ValueError, match=words):
        report.main(str(tmp_path))
