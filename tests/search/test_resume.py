"""Searches end the same whether they were killed or not, and a run writes its result files."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest
from pyarrow import parquet

from lswag_jax.runs import Archive
from lswag_jax.scoring import ScoreOptions
from lswag_jax.scoring import population as scoring
from lswag_jax.search import RandomOptions, run, search
from tests.helpers.searches import (
    CONFIG,
    EVOLUTION,
    FAKE,
    REAL_OPTIONS,
    SPACE,
    WIDE,
    fake,
    images,
    run_and_kill,
    run_real,
    without_seconds,
)


class Finished(NamedTuple):
    """A search that came to its end."""

    rows: list[dict]
    best: int


@pytest.fixture(scope="module")
def uninterrupted() -> Finished:
    archive = []
    result = search(WIDE, fake(WIDE), EVOLUTION, archive, **FAKE)
    return Finished(archive, result.best)


def finish(workdir):
    with Archive(workdir, CONFIG) as archive:
        result = search(WIDE, fake(WIDE), EVOLUTION, archive, **FAKE)
        return Finished(list(archive), result.best)


def test_seed_decides():
    archives = []
    for seed in (0, 0, 1):
        archives.append([])
        options = dataclasses.replace(EVOLUTION, seed=seed)
        search(WIDE, fake(WIDE), options, archives[-1], **FAKE)
    assert archives[0] == archives[1] != archives[2]


@pytest.mark.parametrize("options", [EVOLUTION, RandomOptions(num=30)])
def test_resume_from_any_number_of_rows(options):
    whole = []
    search(WIDE, fake(WIDE), options, whole, **FAKE)
    for size in range(len(whole) + 1):
        archive = whole[:size]
        evaluated = []

        def evaluate(genotypes, evaluated=evaluated):
            evaluated.extend(genotypes)
            return fake(WIDE)(genotypes)

        search(WIDE, evaluate, options, archive, **FAKE)
        assert archive == whole
        assert len(evaluated) == len(whole) - size


def test_resume_from_every_byte_of_a_row(tmp_path):
    """Of a random search, which is quick; evolution is cut in a row below."""

    def rows():
        with Archive(tmp_path, CONFIG) as archive:
            search(WIDE, fake(WIDE), RandomOptions(num=6), archive, **FAKE)
            return list(archive)

    complete, path = rows(), tmp_path / "archive.jsonl"
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for size in range(ends[3], ends[4] + 1):
        path.write_bytes(whole[:size])
        assert rows() == complete
        assert path.read_bytes() == whole


def test_resume_after_kills(tmp_path, uninterrupted):
    path = tmp_path / "archive.jsonl"
    run_and_kill(tmp_path, "slow", 3)  # in the first population
    run_and_kill(tmp_path, "half", 17)
    assert not path.read_bytes().endswith(b"\n")
    assert path.read_bytes().count(b"\n") == 17
    run_and_kill(tmp_path, "slow", 24)  # at the end of a generation
    assert 24 <= path.read_bytes().count(b"\n") < 40
    assert finish(tmp_path) == uninterrupted


def test_real_search_is_resumed_after_a_kill(tmp_path):
    run_and_kill(tmp_path / "killed", "real", 8)
    assert 8 <= len((tmp_path / "killed" / "archive.jsonl").read_text().splitlines()) < 24
    resumed = run_real(tmp_path / "killed", REAL_OPTIONS)
    told = []
    whole = run_real(tmp_path / "whole", REAL_OPTIONS, progress=told.append)
    assert without_seconds(resumed.table.rows) == without_seconds(whole.table.rows)
    assert resumed.best == whole.best
    best = [json.loads((tmp_path / d / "best.json").read_text()) for d in ("killed", "whole")]
    assert best[0] == best[1]
    assert len(told) == len(whole.table)

    # The result files, of the whole run.
    table, workdir = whole.table, tmp_path / "whole"
    assert best[1]["id"] == table.ids[whole.best]
    assert best[1]["score"] == best[1]["proxies"]["nwot"] == whole.fitness.max()
    assert set(best[1]) == {
        "id",
        "genotype",
        "score",
        "status",
        "params",
        "macs",
        "proxies",
        "space",
    }
    assert SPACE.from_json(best[1]["genotype"]) == SPACE.parse(best[1]["id"])
    ranking = parquet.read_table(workdir / "ranking.parquet").to_pydict()
    assert ranking["id"][0] == best[1]["id"]
    assert ranking["rank"] == sorted(ranking["rank"])
    assert ranking["fitness"] == sorted(table["nwot"], reverse=True)
    lines = (workdir / "ranking.csv").read_text().splitlines()
    assert lines[0].replace('"', "").split(",")[:3] == ["rank", "fitness", "id"]
    assert len(lines) == 25
    assert set(table.timing) == {"compile", "score"}
    assert table.timing["score"] > 0
    assert {p.name for p in workdir.iterdir()} == {
        *("archive.jsonl", "config.json", "ranking.csv", "ranking.parquet", "best.json")
    }
    # Scores are those of `score`, and the file holds the rows.
    again = scoring.score(SPACE, [SPACE.parse(i) for i in table.ids[:3]], *images(), "nwot")
    np.testing.assert_allclose(again["nwot"], table["nwot"][:3], rtol=1e-6)


def test_finished_search_evaluates_nothing_and_other_arguments_are_refused(tmp_path, monkeypatch):
    def stream(space, genotypes, images, labels, proxies, *, timing, **_):
        yield from fake(space)(genotypes)
        timing |= {"compile": 0.5, "score": 1.0}

    monkeypatch.setattr(scoring, "stream", stream)
    arguments = (SPACE, *images(), FAKE["proxies"])
    options = RandomOptions(num=6)
    first = run(*arguments, options, tmp_path, fitness="swap")
    assert first.table.timing == {"compile": 0.5, "score": 1.0}
    second = run(*arguments, options, tmp_path, fitness=("swap",))
    assert second.table.timing == {"compile": 0.0, "score": 0.0}
    assert second.table.rows == first.table.rows
    again = run(*arguments, options, tmp_path, fitness="nwot")  # ranked anew
    assert again.table.rows == first.table.rows
    twice = ScoreOptions(repeats=2)
    with pytest.raises(ValueError, match=r"score\.repeats \(1 there, 2 here\): give another"):
        run(*arguments, options, tmp_path, fitness="swap", score_options=twice)
    with pytest.raises(ValueError, match="holds 6 rows, but this run has only 5 networks"):
        run(*arguments, RandomOptions(num=5), tmp_path, fitness="swap")
    other = (SPACE, images()[0] + 1, *arguments[2:])
    with pytest.raises(ValueError, match="the images or labels"):
        run(*other, options, tmp_path, fitness="swap")
    more = RandomOptions(num=9)
    result = run(*arguments, more, tmp_path, fitness="swap")
    assert result.table.rows[:6] == first.table.rows
    evolution = dataclasses.replace(EVOLUTION, epochs=1)
    run(*arguments, evolution, tmp_path / "evolution", fitness="swap")
    longer = dataclasses.replace(EVOLUTION, epochs=2)
    with pytest.raises(ValueError, match=r'fitness\.proxies \(\["swap"\] there, \["nwot"\] here'):
        run(*arguments, longer, tmp_path / "evolution", fitness="nwot")
    run(*arguments, longer, tmp_path / "evolution", fitness="swap")
    mine = {"note": "mine"}
    run(*arguments, options, tmp_path / "mine", config=mine, fitness="swap")
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["note"] == "mine"
