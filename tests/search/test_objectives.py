"""A search by several objectives: its front, its files, and that measured costs are read back."""

import csv
import dataclasses
import itertools
import json

import numpy as np
import pytest

from lswag_jax.proxies import Latency
from lswag_jax.runs import Archive, Shard
from lswag_jax.scoring import Costs, costs
from lswag_jax.scoring import population as scoring
from lswag_jax.search import (
    EvolutionOptions,
    Objectives,
    PruningOptions,
    RandomOptions,
    run,
    search,
)
from lswag_jax.spaces import get
from tests.helpers.searches import CONFIG, EVOLUTION, WIDE, fake, fake_row, images

OBJECTIVES = Objectives.parse("swap,macs")
BOTH = {"proxies": ("swap", "macs"), "fitness": OBJECTIVES}
COSTS = {"proxies": ("swap", Latency()), "fitness": Objectives.parse("swap,latency")}


def failing(genotypes):
    """Rows of which those with a score above 8 failed."""
    for row in fake(WIDE)(genotypes):
        score = row["parts"]["swap"]["score"]
        yield row | {"parts": {"swap": {"score": ["NaN" if score[0] > 8 else score[0]]}}}


def hypervolume(result) -> float:
    """Area that the front covers, macs below 200,000."""
    area, last = 0.0, 0.0
    for i in sorted(result.front, key=lambda i: result.table["macs"][i]):
        swap = result.table["swap"][i]
        area += max(0.0, 2e5 - result.table["macs"][i]) * max(0.0, swap - last)
        last = max(last, swap)
    return area


def test_evolution_covers_more_than_random_search():
    options = EvolutionOptions(epochs=9, population=20, select=10, crossover=10, mutation=10)
    evolved, at_random = (
        [hypervolume(search(WIDE, fake(WIDE), each(seed), [], **BOTH)) for seed in range(3)]
        for each in (
            lambda seed: dataclasses.replace(options, seed=seed),
            lambda seed: RandomOptions(num=options.total, seed=seed),
        )
    )
    # Each pair starts from the same first population.
    assert all(more > less for more, less in zip(evolved, at_random, strict=True))


def test_no_failure_is_on_the_front():
    result = search(WIDE, failing, EVOLUTION, [], **BOTH)
    assert np.isneginf(result.fitness).any()
    assert (result.table.statuses["swap"][result.front] == "ok").all()
    points = np.stack([result.table["swap"], -result.table["macs"]], 1)
    good = np.flatnonzero(np.isfinite(points).all(1))
    for i in good:
        beaten = any((points[j] >= points[i]).all() and (points[j] > points[i]).any() for j in good)
        assert (i in result.front) == (not beaten)
    assert result.best == result.front[0]
    assert result.table["swap"][result.best] == np.nanmax(result.table["swap"]) == 8
    assert result.order[: len(result.front)].tolist() == result.front.tolist()


def test_without_a_network_that_has_all_objectives():
    def none(genotypes):
        for row in fake(WIDE)(genotypes):
            yield row | {"parts": {"swap": {"score": ["NaN"]}}}

    result = search(WIDE, none, RandomOptions(num=3), [], **BOTH)
    assert not len(result.front)
    assert result.refusal.startswith(
        "none of the 3 networks has a usable score (swap 3 nan; macs 3 ok)"
    )


@pytest.fixture(scope="module")
def whole():
    """The rows of a search that was not interrupted."""
    rows = []
    search(WIDE, failing, EVOLUTION, rows, **BOTH)
    return rows


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 17, 39, 40])
def test_resume_from_any_number_of_rows(size, whole):
    archive = whole[:size]
    search(WIDE, failing, EVOLUTION, archive, **BOTH)
    assert archive == whole


def test_a_search_is_extended(whole, tmp_path):
    shorter = dataclasses.replace(EVOLUTION, epochs=2)
    with Archive(tmp_path, CONFIG) as archive:
        search(WIDE, failing, shorter, archive, **BOTH)
        assert list(archive) == whole[:24]
        search(WIDE, failing, EVOLUTION, archive, **BOTH)
        assert list(archive) == whole


class Clock:
    """Measures by a clock that never gives the same twice, of any network."""

    def __init__(self, monkeypatch):
        self.names, ticks = [], itertools.count()

        def measure(space, genotype, _):
            self.names.append(space.format(genotype))
            noise = 1e-3 * (next(ticks) % 7)
            return {"latency": 1e-6 * space.num_params(genotype) + noise}

        monkeypatch.setattr(costs, "measure", measure)


@pytest.fixture
def clock(monkeypatch):
    def stream(space, genotypes, images, labels, proxies, *, timing, costs, **_):
        for g in genotypes:
            if stream.left == 0:
                raise KeyboardInterrupt
            stream.left -= 1
            yield fake_row(space, g) | {"costs": costs(g)}
        timing |= {"compile": 0.0, "score": 0.0}

    stream.left = -1
    monkeypatch.setattr(scoring, "stream", stream)
    found = Clock(monkeypatch)
    found.stream = stream
    return found


def run_timed(workdir, options=EVOLUTION, **arguments):
    more = COSTS | arguments
    return run(WIDE, *images(), more.pop("proxies"), options, workdir, **more)


@pytest.mark.parametrize("window", [None, (0.0, 0.025)])
def test_a_killed_run_reads_its_measurements_back(window, clock, tmp_path):
    options = dataclasses.replace(EVOLUTION, latency_window=window)
    for left in (5, 0, 9, 14):
        clock.stream.left = left
        with pytest.raises(KeyboardInterrupt):
            run_timed(tmp_path, options)
    clock.stream.left = -1
    lines = (tmp_path / "archive.jsonl").read_text().splitlines()
    measured = list(clock.names)
    result = run_timed(tmp_path, options)
    assert (tmp_path / "archive.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert len(result.table) == 40
    assert len(lines) == 28
    ids = result.table.ids
    if window:
        assert (result.table["latency"] <= 0.025).all()
        assert len(clock.names) == len(set(clock.names)) > 40  # each once, some of them refused
        text = (tmp_path / "costs" / "archive.jsonl").read_text()
        kept = [json.loads(line) for line in text.splitlines()]
        assert [row["id"] for row in kept] == clock.names
        values = {row["id"]: row["costs"]["latency"] for row in kept}
        assert [values[name] for name in ids] == result.table["latency"].tolist()
    else:
        assert not (tmp_path / "costs").exists()
    # Again, and as it was: what a clock would say now plays no part.
    number = len(clock.names)
    again = run_timed(tmp_path, options)
    assert len(clock.names) == number > len(measured)
    assert again.table.rows == result.table.rows
    assert again.front.tolist() == result.front.tolist()
    with open(tmp_path / "front.csv") as file:
        front = list(csv.DictReader(file))
    assert [row["id"] for row in front] == [ids[i] for i in result.front]
    assert [float(row["latency"]) for row in front] == result.table["latency"][
        result.front
    ].tolist()
    with open(tmp_path / "ranking.csv") as file:
        assert list(csv.DictReader(file))[: len(front)] == front
    assert json.loads((tmp_path / "best.json").read_text())["id"] == front[0]["id"]


def test_what_decides_a_run(clock, tmp_path):
    run_timed(tmp_path, fitness=Objectives.parse("swap,latency"))
    with pytest.raises(ValueError, match=r"fitness\.objectives"):
        run_timed(tmp_path, fitness=Objectives.parse("swap,+latency"))
    with pytest.raises(ValueError, match=r"proxies\.latency\.batch \(1 there, 4 here\)"):
        run_timed(tmp_path, proxies=("swap", Latency(batch=4)))
    longer = dataclasses.replace(EVOLUTION, epochs=5)
    assert len(run_timed(tmp_path, longer).table) == 48
    config = json.loads((tmp_path / "config.json").read_text())
    assert "latency_window" not in config["search"]  # as in folders of before


def test_mistakes(clock, tmp_path):
    windowed = RandomOptions(num=3, latency_window=(0, 1e-9), patience=20)
    with pytest.raises(ValueError, match="latency_window needs latency among the proxies"):
        run_timed(tmp_path, windowed, proxies="swap", fitness="swap")
    with pytest.raises(ValueError) as error:
        run_timed(tmp_path / "none", windowed)
    assert "macs in [0, inf] and latency in [0, 1e-09], then 20 random ones" in str(error.value)
    assert " macs and 0.0" in str(error.value)
    with pytest.raises(ValueError, match="latency_window must not be set with a shard"):
        RandomOptions(num=3, latency_window=(0, 1), shard=Shard(0, 2))
    with pytest.raises(ValueError, match=r"latency_window must be \(smallest, largest\)"):
        RandomOptions(latency_window=(2, 1))
    space = get("nasbench201", width=4, cells=1, image_size=8)
    with pytest.raises(ValueError, match="pruning has one fitness"):
        search(space, fake(space), PruningOptions(), [], **BOTH)


def test_windows_without_a_folder(clock):
    options = RandomOptions(num=6, latency_window=(0.0, 0.025))
    known = Costs(WIDE, COSTS["proxies"][1:])

    def evaluate(genotypes):
        for g in genotypes:
            yield fake_row(WIDE, g) | {"costs": known(g)}

    result = search(WIDE, evaluate, options, [], **COSTS, costs=known)
    assert (result.table["latency"] <= 0.025).all()
