"""Evaluates LIBRA's choice on the architectures that it was made on and on held-out ones."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lswag_jax.analysis import correlation
from lswag_jax.analysis.libra.choice import LibraOptions
from lswag_jax.analysis.libra.selection import Selection, checked, choose_from
from lswag_jax.options import Number, typed


class Evaluation(NamedTuple):
    """Spearman of the merged proxies with the accuracy.

    Attributes:
        selection: made on all architectures.
        in_sample: rho of it on the same architectures; optimistic, since they chose it.
        split_half: [S] for each seed the rho on one half of a choice made on the other.
        split_proxies: the choice of each seed.
    """

    selection: Selection
    in_sample: float
    split_half: np.ndarray
    split_proxies: tuple[tuple[str, ...], ...]


@typed
def evaluate(
    scores: Mapping[str, np.ndarray],
    accuracy: np.ndarray,
    params: np.ndarray,
    options: LibraOptions | None = None,
    seeds: Number = 5,
) -> Evaluation:
    """Chooses on all architectures, and on random halves to be tested on the other halves.

    Args:
        scores, accuracy, params, options: see `select`.
        seeds: random halvings. Of an odd number the half that is tested on is the larger.

    Raises:
        ValueError: as `select`, fewer than four architectures, or a half whose accuracies are all
            the same.

    Example:
        >>> y = np.arange(40.0)
        >>> scores = {"a": y + 9 * np.sin(y), "b": y + 9 * np.cos(5 * y), "size": y % 7}
        >>> found = evaluate(scores, y, y % 7, LibraOptions(window=0.2))
        >>> found.selection.proxies, round(found.in_sample, 2), found.split_half.shape
        (('b', 'a'), 0.94, (5,))
    """
    options = options or LibraOptions()
    pool = checked(scores, accuracy, params, options.fill)
    selection = choose_from(*pool, options)
    size = len(pool[1])
    if size < 4:
        raise ValueError(f"split halves need at least 4 architectures, got {size}.")
    unreported = dataclasses.replace(options, permutations=0)
    rhos, chosen = [], []
    for seed in range(seeds):
        half, rest = halves(size, seed)
        for index in (half, rest):
            if np.ptp(pool[1][index]) == 0:
                raise ValueError(
                    f"all {len(index)} accuracies of a half (seed {seed}) are "
                    f"{pool[1][index][0]:g}: give more architectures, or another target."
                )
        picked = choose_from(*_take(pool, half), unreported)
        rhos.append(_rho(picked, *_take(pool, rest)[:2]))
        chosen.append(picked.proxies)
    return Evaluation(selection, _rho(selection, *pool[:2]), np.array(rhos), tuple(chosen))


def halves(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the indices of a random half of n architectures, and of the other half.

    Example:
        >>> [sorted(half.tolist()) for half in halves(5, 0)]
        [[2, 4], [0, 1, 3]]
    """
    order = np.random.default_rng(seed).permutation(size)
    return order[: size // 2], order[size // 2 :]


def _take(pool, index: np.ndarray):
    """The architectures of an index; the pool is what `checked` returns."""
    scores, accuracy, params = pool
    return {name: v[index] for name, v in scores.items()}, accuracy[index], params[index]


def _rho(selection: Selection, scores, accuracy: np.ndarray) -> float:
    return correlation.spearman(selection.fitness.merge(scores), accuracy)
