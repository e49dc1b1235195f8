"""Measures of a ranking where it is used: among the best, for the chosen one, within a size."""

import numpy as np

from lswag_jax.analysis.correlation import checked, spearman
from lswag_jax.options import Numbers, PositiveShare, Size, typed


@typed
def top_overlap(x: Numbers, y: Numbers, k: int) -> float:
    """Share of the k best by x among the k best by y; of ties at the border, what is expected.

        sum_i p_i(x) p_i(y) / k

    with p_i the probability that i is among the k best when ties are broken at random.

    Args:
        x, y: values [n], larger is better.
        k: how many, from 1 to n.

    Raises:
        ValueError: NaN values, shapes that differ, or another k.

    Example:
        >>> top_overlap([1, 2, 3, 4], [1, 3, 2, 4], 2), top_overlap([0, 0, 0, 0], [1, 3, 2, 4], 2)
        (0.5, 0.5)
    """
    x, y = checked(x, y)
    if not 1 <= k <= x.shape[-1]:
        raise ValueError(f"k must be from 1 to the {x.shape[-1]} architectures, got {k}.")
    return float(_chance_of_top(x, k) @ _chance_of_top(y, k) / k)


@typed
def ndcg(x: Numbers, y: Numbers, p: int) -> float:
    """nDCG@p: how good the p best by x are, the first of them counting most.

    With i(j) the j-th best by x, and Z the largest value that any order has,

        sum over j = 1..p of (2^y_i(j) - 1) / log2(1 + j) / Z

    of Tybl and Neumann, CVPR 2025, equation 14. Of ties by x it is the mean over their orders. One
    percent more of accuracy is worth twice as much: give percents.

    Args:
        x: values [n], larger is better; -inf is the worst rank.
        y: accuracies [n] in percent.
        p: how many, from 1 to n.

    Returns:
        1 for the best order; 0 where all of y are 0.

    Raises:
        ValueError: NaN values, shapes that differ, negative y, or another p.

    Example:
        >>> round(ndcg([1, 3, 2], [2, 1, 0], 1), 4), ndcg([5, 4, 3], [2, 1, 0], 3)
        (0.3333, 1.0)
    """
    x, y = checked(x, y)
    if not 1 <= p <= x.shape[-1]:
        raise ValueError(f"p must be from 1 to the {x.shape[-1]} architectures, got {p}.")
    if y.min() < 0:
        raise ValueError(f"accuracies of nDCG must be at least 0, got {y.min():g}.")
    gains = np.exp2(y - y.max()) - np.exp2(-y.max())  # over 2^max, so that none is too large
    ideal = _discounts(y, p) @ gains
    return float(_discounts(x, p) @ gains / ideal) if ideal > 0 else 0.0


@typed
def regret(x: Numbers, y: Numbers) -> float:
    """What choosing the best by x loses: max y - y of it, the mean of those where several tie.

    Args:
        x, y: values [n], larger is better.

    Returns:
        In units of y, 0 or more.

    Raises:
        ValueError: NaN values, shapes that differ, or nothing to choose from.

    Example:
        >>> regret([1, 3, 2], [90, 92, 95])
        3.0
    """
    x, y = checked(x, y)
    if not x.size:
        raise ValueError("the regret of a choice needs at least 1 architecture, got 0.")
    return float(y.max() - y[x == x.max()].mean())


@typed
def within_bins(x: Numbers, y: Numbers, given: Numbers, bins: Size = 5) -> np.ndarray:
    """Spearman's rho inside each quantile bin of a third quantity.

    Args:
        x, y: values [n]; -inf is the worst rank.
        given: [n], for example parameter counts; equal values are in one bin.
        bins: how many.

    Returns:
        [bins], from the smallest; NaN where a bin holds nothing to correlate.

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> within_bins([1, 2, 3, 4], [1, 2, 4, 3], [5, 5, 7, 7], bins=2)
        array([ 1., -1.])
    """
    x, y, given = checked(x, y, given)
    edges = np.quantile(given, np.arange(1, bins) / bins) if given.size else np.zeros(bins - 1)
    own = np.searchsorted(edges, given)
    parts = [own == i for i in range(bins)]
    return np.array([spearman(x[part], y[part], undefined=np.nan) for part in parts])


@typed
def within_best(x: Numbers, y: Numbers, fraction: PositiveShare) -> float:
    """Spearman's rho among the best by y, with those that tie with the last.

    Args:
        x, y: values [n], larger is better.
        fraction: of the architectures, in (0, 1].

    Returns:
        NaN where there is nothing to correlate.

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> within_best([4, 3, 1, 2], [1, 2, 3, 4], 0.5)
        1.0
    """
    x, y = checked(x, y)
    best = y >= np.quantile(y, 1 - fraction) if y.size else np.zeros(0, bool)
    return spearman(x[best], y[best], undefined=np.nan)


def _discounts(x: np.ndarray, p: int) -> np.ndarray:
    """1 / log2(1 + rank) of the p largest and 0 of the others; its mean over the orders of ties."""
    ranks = np.arange(1, len(x) + 1)
    by_rank = np.where(ranks <= p, 1 / np.log2(1 + ranks), 0)
    _, group, size = np.unique(-x, return_inverse=True, return_counts=True)
    means = np.add.reduceat(by_rank, np.cumsum(size) - size) / size
    return means[group]


def _chance_of_top(x: np.ndarray, k: int) -> np.ndarray:
    """Probability of each to be among the k largest, ties being broken at random."""
    border = np.partition(x, -k)[-k]
    above, at = x > border, x == border
    return np.where(at, (k - above.sum()) / at.sum(), above)
