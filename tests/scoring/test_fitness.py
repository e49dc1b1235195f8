"""Fitness: merged tables, orientation, and the file that score and search take."""

import inspect
import json
import typing

import numpy as np
import pytest
from scipy import stats

from lswag_jax import proxies, search, spaces
from lswag_jax.scoring.fitness import PRESETS, Fitness
from lswag_jax.scoring.table import ScoreTable


def table(swap, nwot):
    rows = [
        {
            "id": str(i),
            "genotype": {},
            "params": i,
            "macs": i,
            "seconds": 0.0,
            "degenerate": [False],
            "parts": {"swap": {"score": [a]}, "nwot": {"score": [b]}},
        }
        for i, (a, b) in enumerate(zip(swap, nwot, strict=True))
    ]
    return ScoreTable(rows, proxies.resolve(("swap", "nwot")))


def test_one_proxy_is_not_ranked_and_several_are():
    pool = table([1.0, 2.0, "NaN"], ["-Infinity", 5.0, 6.0])
    np.testing.assert_array_equal(Fitness("swap")(pool), [1, 2, -np.inf])
    np.testing.assert_array_equal(Fitness(("swap", "nwot"), "rank_sum")(pool), [3, 5, 4])
    with pytest.raises(ValueError, match="no proxy 'zen', it has swap, nwot"):
        Fitness(("swap", "zen"))(pool)


def test_a_flipped_proxy_counts_reversed_and_its_failures_stay_last():
    pool = table([1.0, 2.0, "NaN"], [5.0, 6.0, 7.0])
    np.testing.assert_array_equal(Fitness("swap", flipped=("swap",))(pool), [-1, -2, -np.inf])
    flipped = Fitness(("nwot", "swap"), "rank_sum", ("swap",))
    np.testing.assert_array_equal(flipped(pool), [1 + 3, 2 + 2, 3 + 1])
    assert flipped.name == "nwot+-swap"


def test_a_proxy_named_twice_counts_twice(rng):
    a, b = rng.normal(size=(2, 9))
    doubled = Fitness(("a", "b", "a"), "rank_sum").merge({"a": a, "b": b})
    np.testing.assert_array_equal(
        doubled - Fitness(("a", "b"), "rank_sum").merge({"a": a, "b": b}),
        np.argsort(np.argsort(a)) + 1,
    )


def test_pool_changes_a_merged_order():
    """A rank sums up who else is there: this is why a search ranks its whole archive anew."""
    fitness = Fitness(("swap", "nwot"), "rank_sum")
    before = fitness(table([1.0, 9.0], [2.0, 1.0]))
    after = fitness(table([1.0, 9.0, 5.0], [2.0, 1.0, 0.0]))
    assert before[0] == before[1]
    assert after[1] > after[2]
    np.testing.assert_array_equal(after, [4, 5, 3])


def sized(nwot):
    """A table whose MACs fall by the network, with the NASWOT given."""
    rows = [
        {"id": str(i), "genotype": {}, "params": i, "macs": 100 - 7 * i, "seconds": 0.0,
         "degenerate": [False], "parts": {"nwot": {"score": [value]}}}
        for i, value in enumerate(nwot)
    ]  # fmt: skip
    return ScoreTable(rows, proxies.resolve(("nwot", "macs", "params")))


def test_universal_is_the_sum_of_the_log_ranks_of_scipy():
    nwot = [5.0, 9.0, 9.0, -3.0, "NaN"]
    pool = sized(nwot)
    ranks = [stats.rankdata([100, 93, 86, 79, 72]), stats.rankdata([5, 9, 9, -3, -np.inf])]
    expected = np.log(np.array(ranks) / 5).sum(0)
    found = Fitness.parse("universal")
    np.testing.assert_allclose(found(pool), expected, rtol=1e-14)
    assert np.argmax(found(pool)) == 1


def test_a_preset_brings_its_rule_and_stands_alone(tmp_path):
    found = Fitness.parse("universal", "min_rank")
    assert found == Fitness.parse(("universal",)) == Fitness(*PRESETS["universal"])
    path = tmp_path / "selection.json"
    path.write_text(json.dumps({"fitness": found.to_json()}))
    assert Fitness.load(path) == found
    with pytest.raises(ValueError, match="'universal' is a merge already, name it alone, got zico"):
        Fitness.parse("zico, universal")
    for names, rule in PRESETS.values():
        assert [proxy.key for proxy in proxies.resolve(names)] == list(names)
        assert Fitness(names, rule).flipped == ()


def test_a_search_by_universal(rng):
    space, nwot = spaces.get("nasbench201"), iter(rng.normal(size=30).tolist())

    def evaluate(genotypes):
        for g in genotypes:
            yield {
                "id": space.format(g), "genotype": g.to_json(), "params": 1, "macs": space.macs(g),
                "degenerate": [False], "parts": {"nwot": {"score": [next(nwot)]}},
            }  # fmt: skip

    options = search.RandomOptions(num=30)
    found = search.search(
        space, evaluate, options, [], proxies=("macs", "nwot"), fitness="universal"
    )
    ranks = [stats.rankdata(found.table.values(name)) / 30 for name in ("macs", "nwot")]
    np.testing.assert_allclose(found.fitness, np.log(ranks).sum(0), rtol=1e-13)
    assert found.by == ("macs", "nwot")
    with pytest.raises(ValueError, match="no proxy 'nwot', it has macs"):
        search.search(space, evaluate, options, [], proxies="macs", fitness="universal")


def test_no_label_enters_a_fitness():
    """What is called label-free takes scores of networks and nothing else."""
    hints = typing.get_type_hints(Fitness.__call__)
    assert list(inspect.signature(Fitness.__call__).parameters) == ["self", "table"]
    assert hints["table"] is ScoreTable
    assert list(inspect.signature(Fitness.merge).parameters) == ["self", "values"]
    assert list(inspect.signature(Fitness.parse).parameters) == ["spec", "rule"]
    assert set(PRESETS["universal"][0]) <= set(proxies.names())  # scores of untrained networks
    pool = sized([1.0, 2.0, 3.0])
    trained = [row | {"accuracy": a} for row, a in zip(pool.rows, (9.0, 1.0, 5.0), strict=True)]
    same = ScoreTable(trained, pool.proxies)
    np.testing.assert_array_equal(
        Fitness.parse("universal")(pool), Fitness.parse("universal")(same)
    )


def test_file(tmp_path):
    path, fitness = tmp_path / "selection.json", Fitness(("a", "b"), "vote", ("b",))
    path.write_text(json.dumps({"fitness": fitness.to_json(), "more": 1}))
    assert Fitness.load(path) == Fitness.parse(str(path), "rank_sum") == fitness
    assert Fitness.parse(fitness) is fitness
    assert Fitness.parse("a, b") == Fitness.parse(("a", "b")) == Fitness(("a", "b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not a readable JSON file"),
        ("[]", "must hold an object with the key 'fitness'"),
        ('{"fitness": 3}', "bad fitness: a fitness must be an object with the keys"),
        ('{"fitness": {"proxies": "swap"}}', "proxies of a fitness must be a list of names"),
        ('{"fitness": {"proxies": []}}', "at least one proxy"),
        ('{"fitness": {"proxies": ["a"], "weights": []}}', "must be an object with the keys"),
        ('{"fitness": {"proxies": ["a"], "rule": "best"}}', "unknown merge rule 'best'"),
        ('{"fitness": {"proxies": ["a"], "rule": []}}', "unknown merge rule"),
        ('{"fitness": {"proxies": ["a"], "flipped": ["b"]}}', "'b' is not among a"),
    ],
)
def test_bad_files(text, expected, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=expected) as error:
        Fitness.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="not a readable JSON file"):
        Fitness.parse(str(tmp_path / "absent.json"))
