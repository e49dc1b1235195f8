"""Reports: rank statistics of proxies against the truth, on one data set or on many."""

import io
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis.correlation import (
    bootstrap,
    checked,
    kendall,
    paired_bootstrap,
    partial_spearman,
    spearman,
    weighted_kendall,
)
from lswag_jax.analysis.correlation_parts import (
    ndcg,
    regret,
    top_overlap,
    within_best,
    within_bins,
)
from lswag_jax.analysis.tables import GroundTruth, is_accuracy
from lswag_jax.extras import extra
from lswag_jax.files import write_atomically
from lswag_jax.options import NumberOrZero, Numbers, Seed, typed

SIZES = 5  # quantile bins of parameter counts
Row = dict[str, Any]


@typed
def summary(
    scores: Mapping[str, Numbers],
    truth: Numbers,
    params: Numbers | None = None,
    *,
    reference: str = "",
    n: NumberOrZero = 1000,
    seed: Seed = 0,
    level: float = 0.95,
) -> list[Row]:
    """Rank statistics of several proxies against one truth.

    Args:
        scores: for each proxy `ScoreTable.values`: failures are -inf, or NaN to leave them out.
        truth: accuracy or another target [P], larger is better.
        params: parameter counts [P]; architectures that are NaN do not enter what needs them, and
            None leaves that out.
        reference: a proxy that the others are compared with; empty for none.
        n: resamples of the bootstrap, 0 for no intervals; all proxies see the same ones unless
            failures are left out.
        seed: of the bootstrap.
        level: of its intervals.

    Returns:
        One row a proxy: `proxy`; `rho` (Spearman), its interval `rho_low`, `rho_high`; `tau`
        (Kendall's tau-b), `tau_low`, `tau_high`; `weighted_tau`; `n` architectures that count;
        `failures`; `undefined`: rho was set to 0 since a side is constant; `top_overlap` (of the
        best 10 %), `ndcg` (nDCG@p, p 10 % of them, the truth in percent; NaN where it is
        negative), `regret` (of the best by the proxy, in units of the truth), `rho_best50` and
        `rho_best10` (among the best 50 and 10 % by truth); `partial_rho` (Spearman given `params`),
        `partial_undefined`, `rho_size1` to `rho_size5` (within fifths of `params`); `gain` (rho
        minus that of the reference where both have scores), `gain_low`, `gain_high` (paired
        bootstrap). What is not defined is NaN.

    Raises:
        ValueError: NaN in `truth`, shapes that differ, an unknown reference, or n below 0.

    Example:
        >>> rows = summary({"a": [1, 2, 3, -np.inf]}, [0.5, 0.7, 0.6, 0.4])
        >>> rows[0]["rho"], rows[0]["n"], rows[0]["failures"]
        (0.8, 4, 1)
    """
    if reference and reference not in scores:
        raise ValueError(f"there is no reference {reference!r} among {', '.join(scores)}.")
    options = {"n": n, "seed": seed, "level": level}
    rows = [_summary_row(name, s, truth, params, options) for name, s in scores.items()]
    for row in rows if reference else ():
        row |= _gain(scores[row["proxy"]], scores[reference], truth, options)
    return rows


def _summary_row(name, scores, truth, params, options: Mapping[str, Any]) -> Row:
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    others = () if params is None else (params,)
    checked(truth, *map(np.zeros_like, (scores, *others)))  # these may hold NaN
    failed, kept = ~np.isfinite(scores), ~np.isnan(scores)
    scores, truth = scores[kept], truth[kept]
    row: Row = {"proxy": name}
    for key, statistic in (("rho", spearman), ("tau", kendall)):
        row[key] = statistic(scores, truth)
        interval = _interval(options, bootstrap, statistic, scores, truth)
        row[f"{key}_low"], row[f"{key}_high"] = interval
    row["weighted_tau"] = weighted_kendall(scores, truth)
    undefined = len(scores) < 2 or np.ptp(truth) == 0 or (scores == scores[0]).all()
    row |= {"n": len(scores), "failures": int(failed.sum()), "undefined": bool(undefined)}
    row |= _best(scores, truth)
    if params is not None:
        row |= _given_params(scores, truth, np.asarray(params, np.float64)[kept])
    return row


def _given_params(scores: np.ndarray, truth: np.ndarray, params: np.ndarray) -> Row:
    known = ~np.isnan(params)
    arrays = scores[known], truth[known], params[known]
    rho = partial_spearman(*arrays, undefined=np.nan)
    row = {"partial_rho": float(np.nan_to_num(rho)), "partial_undefined": bool(np.isnan(rho))}
    within = within_bins(*arrays, SIZES)
    return row | {f"rho_size{i}": float(rho) for i, rho in enumerate(within, start=1)}


def _best(scores: np.ndarray, truth: np.ndarray) -> Row:
    many, tenth = len(scores) > 0, -(-len(scores) // 10)
    return {
        "top_overlap": top_overlap(scores, truth, tenth) if many else np.nan,
        "ndcg": ndcg(scores, truth, tenth) if many and truth.min() >= 0 else np.nan,
        "regret": regret(scores, truth) if many else np.nan,
        "rho_best50": within_best(scores, truth, 0.5),
        "rho_best10": within_best(scores, truth, 0.1),
    }


def _gain(scores, reference, truth, options: Mapping[str, Any]) -> Row:
    both = ~np.isnan(scores) & ~np.isnan(reference)
    arrays = [np.asarray(values, np.float64)[both] for values in (scores, reference, truth)]
    low, high = _interval(options, paired_bootstrap, spearman, *arrays)
    gain = spearman(arrays[0], arrays[2]) - spearman(arrays[1], arrays[2])
    return {"gain": gain, "gain_low": low, "gain_high": high}


def _interval(options: Mapping[str, Any], method, statistic, *arrays) -> tuple[float, float]:
    """A bootstrap interval; NaN where none is asked for or possible."""
    if not options["n"] or len(arrays[0]) < 2:
        return np.nan, np.nan
    return method(statistic, *arrays, **options)


@typed
def report(
    table: GroundTruth,
    truth: str,
    datasets: Sequence[str] = (),
    proxies: Sequence[str] = (),
    *,
    params: str = "",
    reference: str = "",
    nan_policy: str = "worst_rank",
    **options: Any,
) -> list[Row]:
    """`summary` of every data set of a table.

    Args:
        table: of proxies and accuracies.
        truth: metric that is the truth; architectures without it are left out.
        datasets: to report; empty for all that have the truth.
        proxies: metrics to report; empty for all but accuracies.
        params: metric of parameter counts; empty leaves out what needs them.
        reference: see `summary`; it is reported too. A data set without it has no `gain`.
        nan_policy: of failures, see `GroundTruth.values`; what was never tried is always left out.
        **options: of `summary`.

    Returns:
        Rows of `summary` with `dataset` before and `missing` behind: architectures with the truth
        that were never tried. A proxy without a value on a data set has no row there.

    Raises:
        ValueError: a metric or data set that the table does not have, a truth that is constant or
            known of one architecture, or a proxy without any value.
    """
    datasets = datasets or [name for name in table.datasets if truth in table.metrics(name)]
    if not datasets:
        known = dict.fromkeys(m for name in table.datasets for m in table.metrics(name))
        known = [metric for metric in known if is_accuracy(metric)] or known
        raise ValueError(
            f"the table has no {truth!r} on any of {', '.join(table.datasets)}, it has "
            f"{', '.join(known)}."
        )
    rows = [
        {"dataset": dataset} | row
        for dataset in datasets
        for row in _report(table, truth, dataset, proxies, params, reference, nan_policy, options)
    ]
    wanted = (*proxies, reference) if reference else proxies
    found = list(dict.fromkeys(row["proxy"] for row in rows))
    absent = [name for name in wanted if name not in found]
    if absent or not rows:
        those = ", ".join(name for name in found if name not in absent) or "nothing else"
        raise ValueError(
            f"{absent[0] if absent else 'no proxy'!r} has no value where {truth} is known: "
            f"{those} has."
        )
    return rows


def _report(table, truth, dataset, proxies, params, reference, nan_policy, options) -> list[Row]:
    target = table.values(dataset, truth, "drop")
    known = ~np.isnan(target)
    target = target[known]
    _check_truth(target, f"{truth} on {dataset}")
    there = table.metrics(dataset)
    others = [m for m in there if m != truth and not is_accuracy(m)]
    names = [m for m in proxies if m in there] if proxies else others
    if reference in there and reference not in names:
        names = [*names, reference]
    scores = {name: table.values(dataset, name, nan_policy)[known] for name in names}
    tried = {name: table.column(dataset, name).tried[known] for name in names}
    scores = {name: values for name, values in scores.items() if not np.isnan(values).all()}
    given = table.values(dataset, params, "drop")[known] if params else None
    reference = reference if reference in scores else ""
    rows = summary(scores, target, given, reference=reference, **options)
    for row in rows:
        name = row["proxy"]
        row["failures"] = int(table.column(dataset, name).failed[known].sum())
        row["missing"] = int((~tried[name]).sum())
    return rows


def _check_truth(target: np.ndarray, what: str) -> None:
    """Raise ValueError unless there is something to correlate with."""
    if len(target) < 2:
        raise ValueError(f"{what} is known of {len(target)} architectures, a correlation needs 2.")
    if np.ptp(target) == 0:
        raise ValueError(f"{what} is {target[0]:g} for all {len(target)} architectures.")


@typed
def grid(rows: Iterable[Row], key: str = "rho") -> tuple[list[str], list[str], np.ndarray]:
    """One statistic of a report as a matrix.

    Returns:
        Proxies, by falling mean over data sets; data sets; values [K, D], NaN where there is none.

    Raises:
        ValueError: no row, or one without the statistic.

    Example:
        >>> rows = [{"proxy": p, "dataset": "x", "rho": r} for p, r in (("a", 0.1), ("b", 0.7))]
        >>> grid(rows)
        (['b', 'a'], ['x'], array([[0.7],
               [0.1]]))
    """
    rows = list(rows)
    if not rows:
        raise ValueError("there are no rows of a report.")
    proxies = list(dict.fromkeys(row["proxy"] for row in rows))
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    values_KxD = matrix(rows, key, proxies, datasets)
    counts = (~np.isnan(values_KxD)).sum(1)
    mean = np.nansum(values_KxD, axis=1) / np.maximum(counts, 1)
    order = np.argsort(np.where(counts, -mean, np.inf), kind="stable")
    return [proxies[k] for k in order], datasets, values_KxD[order]


@typed
def matrix(
    rows: Iterable[Row], key: str, proxies: Sequence[str], datasets: Sequence[str]
) -> np.ndarray:
    """One statistic of a report for given proxies and data sets, such as those of `grid`.

    Returns:
        Values [K, D], NaN where there is none.

    Raises:
        ValueError: a row without the statistic.

    Example:
        >>> rows = [{"proxy": "a", "dataset": "x", "rho": 0.5, "rho_low": 0.25}]
        >>> matrix(rows, "rho_low", ["a"], ["x", "y"])
        array([[0.25,  nan]])
    """
    values = {}
    for row in rows:
        if lacking := [name for name in ("proxy", "dataset", key) if name not in row]:
            raise ValueError(f"a row has no {lacking[0]!r}, it has {', '.join(row)}.")
        values[row["proxy"], row["dataset"]] = row[key]
    found = [[values.get((p, d), np.nan) for d in datasets] for p in proxies]
    return np.array(found, np.float64)


@typed
def write(rows: Sequence[Row], folder: str | os.PathLike) -> None:
    """Writes `correlation.csv` and `correlation.parquet`, each replaced as a whole."""
    with extra("analysis"):
        import pyarrow
        from pyarrow import csv, parquet

    names = dict.fromkeys(key for row in rows for key in row)
    table = pyarrow.table(
        {name: pyarrow.array([row.get(name) for row in rows], from_pandas=True) for name in names}
    )
    for suffix, method in (("csv", csv.write_csv), ("parquet", parquet.write_table)):
        buffer = io.BytesIO()
        method(table, buffer)
        write_atomically(pathlib.Path(folder) / f"correlation.{suffix}", buffer.getvalue())
