"""Weighted tau (Vigna, WWW 2015), the Kendall correlation in which good architectures count more.

Equal to `scipy.stats.weightedtau` with its defaults, which calls Python for every exchange: of
423,624 architectures it takes about five times as long (benchmarks/speed_correlation.py).
"""

import numpy as np
from scipy import stats

from lswag_jax.options import Numbers, typed


@typed
def weighted_tau(x: Numbers, y: Numbers) -> float:
    """Weighted tau of two arrays [n]; NaN where one is constant.

        tau = <x, y> / sqrt(<x, x> <y, y>),
        <x, y> = sum over pairs i < j of sign(x_i - x_j) sign(y_i - y_j) (w_i + w_j)

    with w_i = 1 / (1 + r_i), r_i the rank of i from the best, 0. It is the mean of two values:
    ranked by x, and then by y where x is equal, and the other way round.

    Raises:
        ValueError: arrays that are not of one length, or hold NaN.

    Example:
        >>> round(weighted_tau(np.array([12, 2, 1, 12, 2]), np.array([1, 4, 7, 1, 0])), 4)
        -0.5669
    """
    values = np.asarray(x), np.asarray(y)
    if values[0].ndim != 1 or values[0].shape != values[1].shape:
        shapes = " and ".join(str(v.shape) for v in values)
        raise ValueError(f"correlated arrays must have one shape [n], got {shapes}.")
    if any(np.isnan(v).any() for v in values):
        raise ValueError("correlated arrays must not hold NaN.")
    x, y = (stats.rankdata(v, method="dense").astype(np.int64) - 1 for v in values)
    if len(x) < 2 or not x.any() or not y.any():
        return float("nan")
    order = np.lexsort((y, x))
    discordant, same = np.empty_like(x), np.empty_like(x)
    discordant[order] = _inversions(y[order])
    same[order] = np.cumsum(
        (np.diff(x[order], prepend=0) != 0) | (np.diff(y[order], prepend=0) != 0)
    )
    weight = np.empty(len(x))
    taus = []
    for ascending in (order, np.lexsort((x, y))):
        weight[ascending] = 1 / np.arange(len(x), 0, -1)
        pairs = (len(x) - 1) * weight.sum()
        within_x, within_y = pairs - _tied(x, weight), pairs - _tied(y, weight)
        product = within_x + within_y - pairs + _tied(same, weight) - 2 * weight @ discordant
        taus.append(product / np.sqrt(within_x * within_y))
    return float(np.mean(taus))


def _tied(group: np.ndarray, weight: np.ndarray) -> float:
    """Sum of w_i + w_j over pairs of the same group."""
    return ((np.bincount(group) - 1) * np.bincount(group, weight)).sum()


def _inversions(y: np.ndarray) -> np.ndarray:
    """Counts for each element the larger ones before it and the smaller ones behind it, [n].

    One bit at a time from the highest: among elements whose higher bits are equal, an inversion is
    a 1 before a 0. Then these are parted into zeros and ones, which keep their order.
    """
    value, place, count = y, np.arange(len(y)), np.zeros(len(y), np.int64)
    for bit in reversed(range(int(y.max()).bit_length())):
        one = value >> bit & 1
        first = np.flatnonzero(np.diff(value >> (bit + 1), prepend=-1))
        size = np.diff(first, append=len(y))
        start = np.repeat(first, size)
        zeros = np.repeat(size - np.add.reduceat(one, first), size)
        before = np.cumsum(one) - one
        ones_before = before - before[start]
        zeros_before = np.arange(len(y)) - start - ones_before
        count = count + np.where(one, zeros - zeros_before, ones_before)
        order = np.empty_like(place)
        order[start + np.where(one, zeros + ones_before, zeros_before)] = np.arange(len(y))
        value, place, count = value[order], place[order], count[order]
    found = np.empty_like(count)
    found[place] = count
    return found
