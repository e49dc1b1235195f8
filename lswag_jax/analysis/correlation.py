"""Rank correlation of proxies with the truth, with bootstrap intervals over architectures.

Every statistic takes arrays [..., n] and correlates along the last axis, so that a bootstrap hands
it many resamples at once. Failed architectures may be -inf: they share the worst rank. A statistic
is undefined where an input is constant; it is then 0, or the value of `undefined`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from lswag_jax.analysis.weighted_tau import weighted_tau
from lswag_jax.options import Number, Numbers, Seed, typed

Statistic = Callable[..., Any]
_CHUNK = 1 << 20  # numbers of one array resampled at a time


@typed
def spearman(x: Numbers, y: Numbers, undefined: float = 0.0) -> Any:
    """Spearman's rho: the Pearson correlation of average ranks.

    Args:
        x, y: values [..., n]; -inf is the worst rank.
        undefined: what to return where an input is constant (NaN makes such cases visible).

    Returns:
        A float, or an array [...].

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    x, y = checked(x, y)
    return _given(_pearson(_centred_ranks(x), _centred_ranks(y)), undefined)


@typed
def kendall(x: Numbers, y: Numbers, undefined: float = 0.0) -> Any:
    """Kendall's tau-b: (concordant - discordant) / sqrt((pairs - ties_x) (pairs - ties_y)).

    Args:
        x, y: values [..., n]; -inf is the worst rank.
        undefined: what to return where an input is constant (NaN makes such cases visible).

    Returns:
        A float, or an array [...].

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> round(kendall([1, 2, 3, 4], [10, 20, 40, 30]), 4)
        0.6667
    """
    x, y = checked(x, y)
    taus = np.full(x.shape[:-1], np.nan)
    for i in np.ndindex(taus.shape) if x.shape[-1] > 1 else ():
        taus[i] = stats.kendalltau(x[i], y[i]).statistic
    return _given(taus, undefined)


@typed
def partial_spearman(x: Numbers, y: Numbers, given: Numbers, undefined: float = 0.0) -> Any:
    """Spearman's rho of x and y with a third quantity held fixed.

    The Pearson correlation of what is left of the ranks of x and y after a linear regression on
    the ranks of z:

        rho_xy.z = (rho_xy - rho_xz rho_yz) / sqrt((1 - rho_xz^2) (1 - rho_yz^2))

    Args:
        x, y: values [..., n]; -inf is the worst rank.
        given: z, for example parameter counts, [..., n].
        undefined: what to return where x or y is constant or has the order of z.

    Returns:
        A float, or an array [...].

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> x, z = [1, 2, 3, 4], [1, 1, 2, 2]
        >>> partial_spearman(x, [1, 2, 4, 3], z), partial_spearman(x, z, z, undefined=np.nan)
        (0.0, nan)
    """
    x, y, given = checked(x, y, given)
    ranks_x, ranks_y, ranks_z = (_centred_ranks(v) for v in (x, y, given))
    rest_x, rest_y = (_residual(ranks, ranks_z) for ranks in (ranks_x, ranks_y))
    return _given(_pearson(rest_x, rest_y), undefined)


@typed
def weighted_kendall(x: Numbers, y: Numbers, undefined: float = 0.0) -> Any:
    """Kendall's tau with hyperbolic weights, so that the best architectures count most.

    See `lswag_jax.analysis.weighted_tau`. The weights are of both rankings, by x and by y.

    Args:
        x, y: values [..., n]; -inf is the worst rank.
        undefined: what to return where an input is constant (NaN makes such cases visible).

    Returns:
        A float, or an array [...].

    Raises:
        ValueError: NaN values, or shapes that differ.

    Example:
        >>> round(weighted_kendall([1, 2, 3, 4], [1, 2, 4, 3]), 4), kendall([1, 2], [1, 2])
        (0.52, 1.0)
    """
    x, y = checked(x, y)
    taus = np.full(x.shape[:-1], np.nan)
    for i in np.ndindex(taus.shape):
        taus[i] = weighted_tau(x[i], y[i])
    return _given(taus, undefined)


@typed
def bootstrap(
    statistic: Statistic, *arrays: Numbers, n: Number = 1000, seed: Seed = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic, architectures drawn with replacement.

    Args:
        statistic: of arrays [..., P], such as `spearman`; gives [...].
        *arrays: one value an architecture, [P] each; drawn together.
        n: resamples.
        seed: of the draw.
        level: probability that the interval covers.

    Returns:
        Its lower and its upper end.

    Raises:
        ValueError: fewer than two architectures, NaN values, shapes that differ, or a level outside
            (0, 1).

    Example:
        >>> x = np.arange(50.0)
        >>> low, high = bootstrap(spearman, x, x + np.sin(x) * 20)
        >>> bool(0 < low < high < 1)
        True
    """
    arrays = checked(*arrays)
    size = arrays[0].shape[-1]
    if size < 2:
        raise ValueError(f"a bootstrap needs at least 2 architectures, got {size}.")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}.")
    interval = stats.bootstrap(
        arrays,
        lambda *resampled, axis: statistic(*resampled),
        n_resamples=n,
        batch=max(_CHUNK // size, 1),
        vectorized=True,
        paired=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


@typed
def paired_bootstrap(
    statistic: Statistic,
    first: Numbers,
    second: Numbers,
    *others: Numbers,
    n: Number = 1000,
    seed: Seed = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of statistic(first, *others) - statistic(second, *others) on the same resamples.

    Args:
        statistic: as in `bootstrap`.
        first, second: scores of two proxies [P].
        *others: what both are compared with, such as accuracies [P].
        n, seed, level: as in `bootstrap`.

    Returns:
        Its lower and its upper end; an interval without 0 tells the two proxies apart.

    Raises:
        ValueError: as `bootstrap`.

    Example:
        >>> truth = np.arange(50.0)
        >>> low, _ = paired_bootstrap(spearman, truth, np.sin(truth), truth)
        >>> low > 0
        True
    """

    def difference(a, b, *rest):
        return statistic(a, *rest) - statistic(b, *rest)

    return bootstrap(difference, first, second, *others, n=n, seed=seed, level=level)


def checked(*arrays: Any) -> tuple[np.ndarray, ...]:
    """Arrays as float64; ValueError unless they have one shape [..., n] and hold no NaN."""
    arrays = tuple(np.asarray(a, np.float64) for a in arrays)
    shapes = [a.shape for a in arrays]
    if len(set(shapes)) != 1 or not shapes[0]:
        raise ValueError(f"correlated arrays must have one shape [..., n], got {shapes}.")
    nans = [int(np.isnan(a).sum()) for a in arrays]
    if any(nans):
        raise ValueError(
            f"correlated arrays must not hold NaN, got {nans} of them: drop these architectures or "
            "give them -inf, the worst rank."
        )
    return arrays


def _centred_ranks(x: np.ndarray) -> np.ndarray:
    return stats.rankdata(x, axis=-1) - (x.shape[-1] + 1) / 2


def _residual(ranks: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Residuals of a regression of centred ranks on others; rounding errors become 0."""
    square = (given**2).sum(-1, keepdims=True)
    slope = (ranks * given).sum(-1, keepdims=True) / np.where(square > 0, square, 1)
    rest = ranks - slope * given
    total = (ranks**2).sum(-1, keepdims=True)
    return np.where((rest**2).sum(-1, keepdims=True) > 1e-13 * total, rest, 0)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of centred values; NaN where one is constant."""
    scale = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    ratio = (x * y).sum(-1) / np.where(scale > 0, scale, np.nan)
    return np.clip(ratio, -1, 1)


def _given(value: Any, undefined: float) -> Any:
    """`undefined` in the place of NaN; a float for a single number."""
    value = np.where(np.isnan(value), undefined, value)
    return float(value) if value.ndim == 0 else value
