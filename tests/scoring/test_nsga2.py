"""Fronts and crowding distances are those of their definitions, however points coincide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lswag_jax import proxies
from lswag_jax.scoring.nsga2 import (
    crowded_fitness,
    crowding_distances,
    front_numbers,
    non_dominated,
)
from lswag_jax.scoring.objectives import Objectives
from lswag_jax.scoring.table import ScoreTable

# Few different values, so that ties and equal points are common.
POINTS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(0, 14), st.integers(1, 4)),
    elements=st.sampled_from([-np.inf, -1.5, 0.0, 1.0, 2.0, 3.0]),
)
QUICK = settings(max_examples=200, derandomize=True)


def dominates(a, b) -> bool:
    """The definition, written down for one pair."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(
        x > y for x, y in zip(a, b, strict=True)
    )


def numbers_by_definition(points) -> list[int]:
    """Front after front, every pair compared."""
    found = [0] * len(points)
    left = [i for i, point in enumerate(points) if -np.inf not in point]
    number = 0
    while left:
        number += 1
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        for i in front:
            found[i] = number
        left = [i for i in left if i not in front]
    return found


@given(POINTS)
@QUICK
def test_fronts(points):
    numbers = front_numbers(points)
    assert numbers.tolist() == numbers_by_definition(points.tolist())
    finite = points[np.isfinite(points).all(1)]
    by_definition = [number == 1 for number in numbers_by_definition(finite.tolist())]
    assert non_dominated(finite).tolist() == by_definition


@given(POINTS)
@QUICK
def test_crowded_comparison(points):
    """A better front comes first, then the greater distance; failures come last."""
    numbers, fitness = front_numbers(points), crowded_fitness(points)
    np.testing.assert_array_equal(np.isneginf(fitness), numbers == 0)
    distances = np.zeros(len(points))
    for number in set(numbers) - {0}:
        members = numbers == number
        distances[members] = crowding_distances(points[members])
    for i, j in zip(*np.nonzero(numbers[:, None] * numbers), strict=True):
        if numbers[i] != numbers[j]:
            assert (fitness[i] > fitness[j]) == (numbers[i] < numbers[j])
        elif distances[i] == distances[j]:
            assert fitness[i] == fitness[j]
        else:
            assert (fitness[i] > fitness[j]) == (distances[i] > distances[j])


def test_crowding_distances_by_hand():
    # Neighbours in x: 4 of 10, then 9 of 10; in y: 5 of 8, then 7 of 8.
    points = np.array([[0, 8], [10, 0], [1, 7], [4, 3]])
    np.testing.assert_allclose(
        crowding_distances(points), [np.inf, np.inf, 4 / 10 + 5 / 8, 9 / 10 + 7 / 8]
    )
    constant = np.array([[2, 0], [2, 1], [2, 4]])
    np.testing.assert_allclose(crowding_distances(constant), [np.inf, 1, np.inf])
    np.testing.assert_array_equal(crowding_distances(np.ones((3, 2))), [0, 0, 0])
    np.testing.assert_array_equal(crowding_distances(np.ones((1, 2))), [0])


def table_of(*points) -> ScoreTable:
    rows = [
        {"id": str(i), "genotype": {}, "params": 1, "macs": macs, "seconds": 0.0}
        | {"degenerate": [False], "parts": {"swap": {"score": [swap]}}}
        for i, (swap, macs) in enumerate(points)
    ]
    return ScoreTable(rows, proxies.resolve(("swap", "macs", "params")))


def test_directions():
    table = table_of((5.0, 3), (9.0, 7), (8.0, 8), (np.nan, 1), (5.0, 3))
    assert Objectives.parse("swap,macs").front(table).tolist() == [1, 0, 4]
    assert Objectives.parse("macs,swap").front(table).tolist() == [0, 4, 1]
    assert Objectives.parse("swap,+macs").front(table).tolist() == [1, 2]
    assert Objectives.parse("-swap,-macs").front(table).tolist() == [0, 4]
    # The failed one is the smallest, and stays out where that counts too.
    assert Objectives.parse("macs,-swap").front(table).tolist() == [0, 4]
    fitness = Objectives.parse("swap,macs,params")(table)
    assert np.isneginf(fitness).tolist() == [False, False, False, True, False]


def test_as_plain_values():
    objectives = Objectives.parse(["swap", "-macs"])
    assert Objectives.from_json(objectives.to_json()) == objectives
    assert objectives.proxies == ("swap", "macs")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lswag", "objectives must be two or more, got 'lswag': for one give a fitness."),
        ("", "objectives must be two or more, got ''"),
        ("macs,-macs", "objectives must be names, none twice, got 'macs,-macs'."),
        ("macs,-", "objectives must be names, none twice, got 'macs,-'."),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(ValueError) as error:
        Objectives.parse(spec)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("spec", ["lswag,++macs", "lswag,+-macs"])
def test_one_sign_alone(spec):
    """What is left of two is no proxy's name."""
    with pytest.raises(ValueError, match=r"unknown proxy '[+-]macs'"):
        proxies.resolve(Objectives.parse(spec).proxies)
