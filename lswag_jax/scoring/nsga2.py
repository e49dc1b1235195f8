"""Which of several networks no other one beats, and how far apart those are.

Source: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002: non-dominated sorting (III-A),
crowding distance and the comparison made of both (III-B).

One network dominates another if it is at least as good in every objective and better in one. Values
are oriented so that larger is better.
"""

import numpy as np


def non_dominated(values_PxK: np.ndarray) -> np.ndarray:
    """Which points [P] no other one dominates; of equal points all or none.

    Args:
        values_PxK: finite, larger is better.

    Example:
        >>> non_dominated(np.array([[3, 1], [2, 2], [1, 1], [3, 1]])).tolist()
        [True, True, False, True]
    """
    # From the best by the first objective on (of equals by the second, ...): what dominates a
    # point stands before it, so the first that is left is always on the front.
    left = np.lexsort(values_PxK.T[::-1])[::-1]
    found = np.zeros(len(values_PxK), bool)
    while len(left):
        first, others = values_PxK[left[0]], values_PxK[left]
        equal = (others == first).all(1)
        found[left[equal]] = True
        left = left[(others > first).any(1)]
    return found


def front_numbers(values_PxK: np.ndarray) -> np.ndarray:
    """The front of each point [P]: 1 is not dominated, 2 by none but those of front 1, ...

    Args:
        values_PxK: larger is better; -inf in any objective marks a failure, which has the number 0.

    Example:
        >>> front_numbers(np.array([[3, 1], [2, 2], [1, 1], [9, -np.inf]])).tolist()
        [1, 1, 2, 0]
    """
    numbers = np.zeros(len(values_PxK), int)
    left, number = np.flatnonzero(np.isfinite(values_PxK).all(1)), 0
    while len(left):
        number, first = number + 1, non_dominated(values_PxK[left])
        numbers[left[first]] = number
        left = left[~first]
    return numbers


def crowding_distances(values_PxK: np.ndarray) -> np.ndarray:
    """How lonely each point [P] of one front is: inf at its ends.

    That is the distance between its two neighbours in each objective, as a share of the front's
    extent there, summed. An objective in which all are equal adds nothing.

    Args:
        values_PxK: finite.

    Example:
        >>> crowding_distances(np.array([[0, 8], [1, 6], [4, 0]]))
        array([inf,  2., inf])
    """
    distances = np.zeros(len(values_PxK))
    for values in np.asarray(values_PxK, np.float64).T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        if ordered[-1] > ordered[0]:
            gaps = (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
            distances[order[1:-1]] += gaps
            distances[order[[0, -1]]] = np.inf
    return distances


def crowded_fitness(values_PxK: np.ndarray) -> np.ndarray:
    """The crowded comparison as one number [P]: larger is better.

    It is minus the number of the front, plus at most a half, which grows with the crowding
    distance: first comes the better front, and within a front the lonelier point.

    Args:
        values_PxK: larger is better; -inf in any objective marks a failure, whose fitness is -inf.

    Example:
        >>> crowded_fitness(np.array([[0, 8], [1, 6], [4, 0], [0, 0], [9, -np.inf]])).round(3)
        array([-0.5  , -0.667, -0.5  , -2.   ,   -inf])
    """
    numbers, fitness = front_numbers(values_PxK), np.full(len(values_PxK), -np.inf)
    for number in range(1, numbers.max(initial=0) + 1):
        members = numbers == number
        with np.errstate(divide="ignore"):  # of a distance of 0; that of inf is 1 / (1 + 0)
            share = 1 / (1 + 1 / crowding_distances(values_PxK[members]))
        fitness[members] = -number + share / 2
    return fitness
