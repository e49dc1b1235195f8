"""Seconds of every rank statistic over all 423,624 cells of NAS-Bench-101.

    python benchmarks/run.py speed_correlation --data=../shared/data

The proxy is the parameter count, the truth the mean test accuracy; medians of five runs, in seconds
of the processor, on one core.
"""

import argparse
import functools
import pathlib
import statistics
import time

import numpy as np
import tables
from scipy import stats

from lswag_jax.analysis import correlation, correlation_parts
from lswag_jax.analysis import report as correlation_report


def seconds(function) -> float:
    """Median of five runs."""
    found = []
    for _ in range(5):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return statistics.median(found)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    arguments = parser.parse_args()
    path = pathlib.Path(arguments.data) / "tables" / "nasbench101_full.npz"
    with np.load(path, allow_pickle=False) as arrays:
        params, truth = (arrays[name].astype(float) for name in ("params_M", "mean_test_acc_108"))
    noisy = params + np.random.default_rng(0).normal(size=len(params))
    of_two = {
        name: getattr(correlation, name) for name in ("spearman", "kendall", "weighted_kendall")
    }
    of_two |= {
        "top_overlap": functools.partial(correlation_parts.top_overlap, k=len(params) // 10),
        "regret": correlation_parts.regret,
        "within_best": functools.partial(correlation_parts.within_best, fraction=0.1),
        "scipy.stats.spearmanr": stats.spearmanr,
        "scipy.stats.kendalltau": stats.kendalltau,
        "scipy.stats.weightedtau": stats.weightedtau,
    }
    of_three = {
        "partial_spearman": correlation.partial_spearman,
        "within_bins": correlation_parts.within_bins,
    }
    print(f"{len(params)} architectures")
    runs = {name: functools.partial(run, noisy, truth) for name, run in of_two.items()}
    for name, function in of_three.items():
        runs[name] = functools.partial(function, noisy, truth, params)
    scores = {"params and noise": noisy}
    runs["all of them, one proxy"] = functools.partial(
        correlation_report.summary, scores, truth, params, n=0
    )
    tables.show_figures("CPU seconds", {name: seconds(run) for name, run in runs.items()}, 2)


if __name__ == "__main__":
    main()
