"""Entropy and information gain of discretised scores.

Source: the plotting notebook of NAS-Bench-Suite-Zero (Krishnakumar et al., NeurIPS 2022), whose
rules are the defaults; the others are ours. All quantities are in bits; n architectures.
"""

from typing import Literal, get_args

import numpy as np
from scipy import stats

from lswag_jax.options import Count, Number, Numbers, Seed, Size, typed

Bins = Literal["equal_width", "equal_freq"]
BINS = get_args(Bins)
BIN_COUNTS = ("nbsz", "cube_root")
MOST_BINS = 100_000
Estimator = Literal["ml", "miller_madow"]
ESTIMATORS = get_args(Estimator)


@typed
def num_bins(n: Count, rule: str | int = "nbsz") -> int:
    """How many bins each variable is cut into.

        nbsz       round(1 + 3.322 ln n): Sturges' constant, though it is meant for log10
        cube_root  max(4, floor(n^(1/3) / 1.5)): three variables jointly have few empty cells

    Args:
        n: architectures.
        rule: one of these, or the number itself.

    Raises:
        ValueError: another rule, or fewer than 2 bins.

    Example:
        >>> num_bins(1000), num_bins(500), num_bins(1000, "cube_root"), num_bins(500, 10)
        (24, 22, 6, 10)
    """
    if rule == "nbsz":
        return round(1 + 3.322 * np.log(n))
    if rule == "cube_root":
        return max(4, int(round(n ** (1 / 3), 9) / 1.5))
    if isinstance(rule, bool) or not isinstance(rule, int) or not 2 <= rule <= MOST_BINS:
        raise ValueError(
            f"n_bins must be one of {BIN_COUNTS} or an integer from 2 to {MOST_BINS}, got {rule!r}."
        )
    return rule


@typed
def discretise(values: Numbers, n_bins: Size, bins: str = "equal_width") -> np.ndarray:
    """The bin of each value.

        equal_width  the range of the finite values in n_bins parts; the last edge is put up by 1
                     so that the maximum falls into the last part; -inf has a separate bin
        equal_freq   floor((r - 1/2) n_bins / n) of the ascending rank r in 1..n, ties averaged

    Args:
        values: [n]; -inf marks a failure.
        n_bins: parts.
        bins: one of `BINS`.

    Returns:
        Integers [n].

    Raises:
        ValueError: unknown bins, or NaN or +inf.

    Example:
        >>> discretise([0.0, 1.0, 2.0, 30.0], 3), discretise([0.0, 1.0, 2.0, 30.0], 2, "equal_freq")
        (array([1, 1, 1, 3]), array([0, 0, 1, 1]))
    """
    values = np.asarray(values, np.float64)
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("values to discretise must be finite, or -inf for a failure.")
    if bins == "equal_width":
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, n_bins + 1)
        edges[-1] = max(high + 1, np.nextafter(high, np.inf))  # beyond 2^53 a one adds nothing
        return np.digitize(values, edges)
    if bins == "equal_freq":
        return ((stats.rankdata(values) - 0.5) * n_bins / len(values)).astype(int)
    raise ValueError(f"bins must be one of {BINS}, got {bins!r}.")


@typed
def entropy(*labels: Numbers, estimator: str = "ml") -> float:
    """Joint entropy of discrete variables.

        ml            H = -sum_c p_c log2 p_c,  p_c the share of cell c
        miller_madow  H + (m - 1) / (2 n ln 2),  m the number of cells that are occupied

    Args:
        *labels: integers [n] each.
        estimator: one of `ESTIMATORS`.

    Raises:
        ValueError: an unknown estimator; labels of several lengths, none, or NaN.

    Example:
        >>> entropy([0, 0, 1, 1]), entropy([0, 0, 1, 1], [0, 1, 0, 1])
        (1.0, 2.0)
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}.")
    count = np.unique(_cells(labels), return_counts=True)[1]
    n = count.sum()
    bits = np.log2(n) - (count * np.log2(count)).sum() / n
    if estimator == "miller_madow":
        bits += (len(count) - 1) / (2 * n * np.log(2))
    return float(bits)


def _cells(labels: tuple[np.ndarray, ...]) -> np.ndarray:
    """One integer [n] for each combination of labels, no larger than n."""
    shapes = [np.shape(label) for label in labels]
    if not labels or len(shapes[0]) != 1 or not shapes[0][0] or len(set(shapes)) > 1:
        raise ValueError(f"labels must be arrays of one length [n], n > 0, got shapes {shapes}.")
    if any(np.isnan(label).any() for label in labels):
        raise ValueError("labels must not be NaN.")
    cells = np.zeros(len(labels[0]), np.int64)
    for label in labels:
        index = np.unique(label, return_inverse=True)[1]
        cells = np.unique(cells * (index.max() + 1) + index, return_inverse=True)[1]
    return cells


@typed
def conditional_entropy(y: Numbers, *given: Numbers, estimator: str = "ml") -> float:
    """H(y | given) = H(given, y) - H(given).

    Args:
        y: integers [n].
        *given: integers [n] each.
        estimator: see `entropy`.

    Example:
        >>> conditional_entropy([0, 1, 0, 1], [0, 0, 1, 1])
        1.0
    """
    return entropy(*given, y, estimator=estimator) - entropy(*given, estimator=estimator)


@typed
def information_gain(y: Numbers, first: Numbers, second: Numbers, estimator: str = "ml") -> float:
    """IG = H(y | first) - H(y | first, second): what the second tells of y beyond the first.

    Args:
        y, first, second: integers [n].
        estimator: see `entropy`; by "miller_madow" the gain may be negative.

    Example:
        >>> information_gain([0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1])
        1.0
    """
    without = conditional_entropy(y, first, estimator=estimator)
    return without - conditional_entropy(y, first, second, estimator=estimator)


@typed
def gain_p_value(
    y: Numbers,
    first: Numbers,
    second: Numbers,
    estimator: str = "ml",
    permutations: Number = 100,
    seed: Seed = 0,
) -> float:
    """How often chance gives this information gain: the second shuffled within bins of the first.

        p = (1 + #{IG of a shuffle >= IG}) / (1 + permutations)

    Args:
        y, first, second: integers [n].
        estimator: see `entropy`.
        permutations: shuffles, one at least.
        seed: of them.

    Example:
        >>> y = np.arange(60) % 2
        >>> round(gain_p_value(y, np.zeros(60, int), y), 3)
        0.01
    """
    rng, first, second = np.random.default_rng(seed), np.asarray(first), np.asarray(second)
    gain = information_gain(y, first, second, estimator)
    order, shuffled, as_large = np.argsort(first, kind="stable"), second.copy(), 0
    for _ in range(permutations):
        shuffled[order] = second[np.lexsort((rng.random(len(first)), first))]
        as_large += information_gain(y, first, shuffled, estimator) >= gain - 1e-12
    return (1 + as_large) / (1 + permutations)
