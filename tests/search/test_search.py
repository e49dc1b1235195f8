"""What searches select, rank and report."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import rankdata

from lswag_jax.scoring.fitness import Fitness
from lswag_jax.search import (
    EvolutionOptions,
    RandomOptions,
    evolution,
    search,
)
from tests.helpers.searches import EVOLUTION, FAKE, WIDE, fake


def test_evolution_finds_more_than_random_search():
    options = EvolutionOptions(epochs=9, population=20, select=5, crossover=10, mutation=10)
    evolved = search(WIDE, fake(WIDE), options, [], **FAKE)
    at_random = search(WIDE, fake(WIDE), RandomOptions(num=options.total), [], **FAKE)
    assert len(evolved.table) == len(at_random.table) == 200
    assert evolved.fitness.max() > at_random.fitness.max()
    generations = evolved.fitness.reshape(10, 20)
    assert generations[-1].mean() > generations[0].mean() + 2
    best_so_far = np.maximum.accumulate(generations.max(1))
    assert best_so_far[-1] > best_so_far[0]


def test_last_generation_counts_only_if_merged():
    merged, left_out = [], []
    search(WIDE, fake(WIDE), EVOLUTION, merged, **FAKE)
    options = dataclasses.replace(EVOLUTION, merge_last=False)
    search(WIDE, fake(WIDE), options, left_out, **FAKE)
    assert (len(merged), len(left_out)) == (40, 32)
    assert merged[:32] == left_out


def test_more_epochs_continue_a_search():
    archive, whole = [], []
    search(WIDE, fake(WIDE), dataclasses.replace(EVOLUTION, epochs=2), archive, **FAKE)
    search(WIDE, fake(WIDE), EVOLUTION, archive, **FAKE)
    search(WIDE, fake(WIDE), EVOLUTION, whole, **FAKE)
    assert archive == whole
    with pytest.raises(ValueError, match="holds 40 rows, but this run has only 24"):
        search(WIDE, fake(WIDE), dataclasses.replace(EVOLUTION, epochs=2), archive, **FAKE)


def test_merged_fitness_is_ranked_anew_over_the_whole_archive(monkeypatch):
    seen = []

    def spy(space, options, generation, rows, fitness, costs):
        seen.append((list(rows), None if fitness is None else fitness.copy()))
        return propose(space, options, generation, rows, fitness, costs)

    propose = evolution.propose
    monkeypatch.setattr(evolution, "propose", spy)
    both = {"proxies": ("swap", "nwot"), "fitness": Fitness(("swap", "nwot"), "rank_sum")}
    result = search(WIDE, fake(WIDE), EVOLUTION, [], **both)
    seen.append((result.table.rows, result.fitness))
    for generation, (rows, fitness) in enumerate(seen[1:], start=1):
        assert len(rows) == 8 * generation
        scores = [[row["parts"][p]["score"][0] for row in rows] for p in ("swap", "nwot")]
        np.testing.assert_array_equal(fitness, rankdata(scores, axis=1).sum(0))
    # Old rows change their ranks, and one may overtake another.
    assert not np.array_equal(seen[1][1], seen[-1][1][:8])


def test_failures_are_never_the_best():
    def evaluate(genotypes):
        for row in fake(WIDE)(genotypes):
            score = row["parts"]["swap"]["score"]
            yield row | {"parts": {"swap": {"score": ["NaN" if score[0] > 8 else score[0]]}}}

    result = search(WIDE, evaluate, EVOLUTION, [], proxies="swap", fitness="swap")
    assert np.isneginf(result.fitness).any()
    assert result.fitness[result.best] == 8.0
    assert result.table.status[result.best] == "ok"


def test_bad_fitness_is_reported_before_any_work():
    def evaluate(genotypes):
        raise AssertionError

    with pytest.raises(ValueError, match="no proxy 'lswag', it has swap"):
        search(WIDE, evaluate, EVOLUTION, [], proxies="swap")


def test_progress():
    told, archive = [], []
    search(WIDE, fake(WIDE), EVOLUTION, archive, **FAKE, progress=told.append)
    assert [p.done for p in told] == list(range(1, 41))
    assert {p.total for p in told} == {40}
    for p in told:
        scores = [row["parts"]["swap"]["score"][0] for row in archive[: p.done]]
        assert p.best["parts"]["swap"]["score"][0] == p.fitness
        if p.done < 10:
            assert p.fitness == max(scores)
        assert p.fitness >= max(scores[: int(p.done / 1.1)], default=0)
    resumed = archive[:30]
    told.clear()
    search(WIDE, fake(WIDE), EVOLUTION, resumed, **FAKE, progress=told.append)
    assert [p.done for p in told] == list(range(30, 41))
