"""The benchmark that chose `fitness="universal"`: what it may look at, and what it must hold to."""

import inspect
import json

import numpy as np
import pytest
from scipy import stats

from lswag_jax import spaces
from lswag_jax.scoring.fitness import Fitness
from tests.helpers import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def universal(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import universal

    return universal


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import search_judged

    return search_judged


def table(universal, space, columns, accuracy):
    networks = [str(i) for i in range(len(accuracy))]
    return universal.Table(space, space, networks, columns, np.asarray(accuracy, float))


def some(universal, rng, space, noise):
    """Accuracies with three columns that know them to a degree, `params` least."""
    y = rng.normal(size=60)
    sizes = zip(("macs", "nwot", "params"), noise, strict=True)
    return table(universal, space, {n: y + s * rng.normal(size=60) for n, s in sizes}, y)


def test_halves_are_whole_spaces_and_share_none(universal):
    assert not set(universal.DEVELOPMENT) & set(universal.HELD_OUT)
    assert {*universal.DEVELOPMENT, *universal.HELD_OUT} == set(universal.ORDER)


def test_merging_takes_scores_alone(universal, rng):
    """Accuracies are beside a table's columns, and a merge of it does not read them."""
    found = some(universal, rng, "nb201", (0.5, 0.5, 2))
    other = table(universal, "nb201", found.columns, -found.accuracy)
    fitness = Fitness.parse("universal")
    ranks = [stats.rankdata(found.columns[name]) / 60 for name in ("macs", "nwot")]
    np.testing.assert_allclose(universal.merged(fitness, found), np.log(ranks).sum(0), rtol=1e-13)
    np.testing.assert_array_equal(
        universal.merged(fitness, found), universal.merged(fitness, other)
    )
    assert list(inspect.signature(Fitness.merge).parameters) == ["self", "values"]


def test_a_table_without_a_column_has_no_merge_but_where_it_is_said(universal):
    values, accuracy = {"macs": np.arange(4.0)}, np.arange(4.0)
    fitness = Fitness(("macs", "nwot"))
    assert universal.merged(fitness, table(universal, "nb201", values, accuracy)) is None
    lacking = table(universal, "nb101", values, accuracy)  # its published NWOT
    np.testing.assert_array_equal(universal.merged(fitness, lacking), values["macs"])
    assert universal.merged(Fitness("nwot"), lacking) is None


def test_the_best_keeps_to_the_condition(universal):
    found = [table(universal, space, {}, [0.0, 1.0]) for space in ("nb201", "nb301")]
    rho, size = np.array([[0.9, 0.3], [0.5, 0.5], [0.4, 0.39]]), np.array([0.4, 0.4])
    assert universal.best(rho, size, found) == (1, True)
    assert universal.best(rho, np.array([0.4, 0.1]), found) == (0, True)
    assert universal.best(rho, np.array([1.0, 1.0]), found) == (0, False)


def test_a_choice_finds_the_columns_that_know_and_not_one_more(universal, rng):
    found = [some(universal, rng, space, (0.3, 9, 1.5)) for space in universal.DEVELOPMENT]
    chosen, rows = universal.choose(found, universal.merges(universal.shared_columns(found)))
    assert chosen.proxies == ("macs",)
    assert rows[0]["log_rank_sum"] > 0.9
    found = [some(universal, rng, space, (1, 1, 9)) for space in universal.DEVELOPMENT]
    chosen, _ = universal.choose(found, universal.merges(universal.shared_columns(found)))
    assert chosen.proxies == ("macs", "nwot")


def test_the_preset_follows_from_the_kept_figures(universal):
    chosen, simple = Fitness("swap"), universal.YARDSTICKS["MACs + NWOT"]
    rivals = {"MACs + NWOT": 0.5, "L-SWAG + MACs": 0.6}
    better, worse = {"chosen": 0.61, **rivals}, {"chosen": 0.55, **rivals}
    assert universal.preset((chosen, better), (chosen, {"MACs + NWOT": 0.5})) == chosen
    assert universal.preset((chosen, worse), (chosen, {"MACs + NWOT": 0.5})) == simple
    kept = json.loads((FOLDER / "results" / "universal.json").read_text())
    (figures,) = (t["rows"] for t in kept["tables"] if t["title"] == "preset")
    by_rule = dict(figures)["preset by the rule"]
    assert by_rule == universal.text_of(Fitness.parse("universal"))


def test_resamples_of_a_space_draw_the_same_networks_for_its_tasks(universal, rng, monkeypatch):
    monkeypatch.setattr(universal, "RESAMPLES", 20)
    found = some(universal, rng, "micro", (0.5, 1, 2))
    scores = np.stack(list(found.columns.values()))
    drawn = universal.resampled([found, found], [scores, scores])
    assert drawn.shape == (20, 3, 2)
    np.testing.assert_array_equal(drawn[..., 0], drawn[..., 1])
    assert drawn[:, 0, 0].std() > 0


def test_a_search_in_a_part_of_a_space_stays_in_it_and_finds_its_best(judged, rng):
    space = spaces.get("nasbench201")
    genotypes = list(dict.fromkeys(space.sample(rng, 40)))
    truth = rng.normal(size=len(genotypes))
    values = {"params": truth, "macs": -truth}
    pool = judged.part("toy", space, genotypes, values, truth, None)._replace(num=20)
    near = judged.Proposals(pool).mutate(rng, genotypes[0], m_prob=0.5)
    assert near in genotypes
    assert judged.Proposals(pool).crossover(rng, genotypes[0], genotypes[0]) == genotypes[0]
    whole = pool._replace(num=len(genotypes))
    assert judged.regret(whole, Fitness("params"), "random", 0) == 0
    assert judged.regret(whole, Fitness("macs"), "random", 0) == np.ptp(truth)
    rows = judged.judge(pool, 2)
    assert [row["fitness"] for row in rows] == ["#params", "MACs"]  # it has no other columns
    assert rows[0]["evolution"] < rows[1]["evolution"]
    assert len(judged.draw(rows).axes) == 3
