"""Fitness: merged tables, orientation, and the file that score and search take."""

import json

import numpy as np
import pytest

from lswag_jax import proxies
from lswag_jax.scoring.fitness import Fitness
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
