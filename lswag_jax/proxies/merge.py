"""Merging proxies: one score from several, by their ranks over a pool.

Sources of the rules: log_rank_sum AZ-NAS (Lee and Ham, CVPR 2024), rank_sum TE-NAS (Chen et al.,
ICLR 2021), dense_rank_sum its pruning. In the formulas r is the ascending rank of an architecture
by one proxy, in 1..P with ties averaged, so that the best has rank P; K proxies, P architectures.
"""

from collections.abc import Callable

import numpy as np
import scipy

from lswag_jax.files import nearest_first
from lswag_jax.options import Numbers, typed


@typed
def merge(values: Numbers, rule: str = "log_rank_sum") -> np.ndarray:
    """One score for each architecture of a pool, from its scores by several proxies.

    Args:
        values: [K, P], larger is better; -inf marks a failure (`ScoreTable.values`). Failures
            share the worst ranks; by the two rules that read values instead of ranks, z_sum and
            product, an architecture that failed any proxy comes last.
        rule: one of `RULES`: "log_rank_sum" sum_k log(r_k / P), "rank_sum" sum_k r_k,
            "dense_rank_sum" the same where equal values count as one, "min_rank" min_k r_k,
            "top_log" -sum_k log((P + 1 - r_k) / P), "z_sum" the sum of standardised values,
            "product" prod_k of values, which must be positive, and "vote", the number of
            architectures beaten by a majority of the proxies minus those lost to.

    Returns:
        Scores [P], float64, larger is better.

    Raises:
        ValueError: an unknown rule, a bad shape, NaN or +inf, or a value that the rule forbids.

    Example:
        >>> merge(np.array([[1.0, 2.0, 3.0], [5.0, 9.0, 7.0]]), "rank_sum")
        array([2., 5., 5.])
    """
    check_rule(rule)
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values to merge must be [K, P] with K >= 1, got {values.shape}.")
    for bad in (np.isnan(values), np.isposinf(values)):
        if bad.any():
            k, p = np.argwhere(bad)[0]
            raise ValueError(
                f"values to merge must be finite, or -inf for a failure, got {values[k, p]} from "
                f"proxy {k} for architecture {p}."
            )
    return RULES[rule](values) if values.size else np.zeros(values.shape[1])


def check_rule(rule: str) -> None:
    """Raise ValueError unless the rule is one of `RULES`."""
    if not isinstance(rule, str) or rule not in RULES:
        raise ValueError(f"unknown merge rule {rule!r}, known are {nearest_first(rule, RULES)}.")


def _ranks(values: np.ndarray, method: str = "average") -> np.ndarray:
    """Ascending ranks [K, P] in 1..P; what ties have says SciPy's method."""
    return scipy.stats.rankdata(values, method=method, axis=1)


def _top_log(values: np.ndarray) -> np.ndarray:
    size = values.shape[1]
    return -np.log((size + 1 - _ranks(values)) / size).sum(0)


def _z_sum(values: np.ndarray) -> np.ndarray:
    """Mean and standard deviation (ddof 0) are those of the architectures that did not fail."""
    pool = np.ma.masked_array(values, np.isneginf(values))
    mean = pool.mean(1, keepdims=True).filled(0.0)
    std = pool.std(1, keepdims=True).filled(0.0)
    return ((values - mean) / np.where(std > 0, std, 1.0)).sum(0)


def _product(values: np.ndarray) -> np.ndarray:
    failed = np.isneginf(values)
    if (values[~failed] <= 0).any():
        raise ValueError(
            f"merge rule 'product' needs positive values, got {values[~failed].min()}."
        )
    return np.where(failed.any(0), -np.inf, np.where(failed, 1.0, values).prod(0))


def _vote(values: np.ndarray) -> np.ndarray:
    """One architecture against all at a time: memory stays K * P."""
    ranks = _ranks(values)
    duels = (np.sign(own[:, None] - ranks).sum(0) for own in ranks.T)
    return np.array([np.sign(duel).sum() for duel in duels])


RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log_rank_sum": lambda values: np.log(_ranks(values) / values.shape[1]).sum(0),
    "rank_sum": lambda values: _ranks(values).sum(0),
    "dense_rank_sum": lambda values: _ranks(values, "dense").astype(np.float64).sum(0),
    "min_rank": lambda values: _ranks(values).min(0),
    "top_log": _top_log,
    "z_sum": _z_sum,
    "product": _product,
    "vote": _vote,
}
