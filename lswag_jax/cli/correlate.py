"""Correlates proxies with ground truth: scores of runs, or the proxies that a table publishes.

    python -m lswag_jax.cli.correlate --config=configs/correlate.py --workdir=results/correlate \\
        --config.correlate.truth=nbsz_json:zc_nasbench201.json

The working directory receives correlation.csv and correlation.parquet, one row per proxy and data
set, heat_map.png, averages.png, and ranks.png, a panel a data set with the ranks of its best proxy.
Nothing is written before all of it has been computed.
"""

import pathlib
import sys
import time
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, pictures, progress

SHOWN = ("n", "failures", "missing", "rho", "tau", "weighted_tau", "partial_rho", "top_overlap")
COUNTED = ("failures", "missing")  # which are shown where there are any


def main(config: ConfigDict, workdir: str) -> None:
    """Correlates as `config` says and writes the results to `workdir`."""
    from lswag_jax.analysis import report as correlation_report

    space, options = loading.load_space(config), config.correlate
    kinds = pictures.formats(config.plots.format)
    start = time.perf_counter()
    table = _table(options, space)
    seconds = {"tables": time.perf_counter() - start}
    start = time.perf_counter()
    with loading.in_section("correlate", options):
        rows = correlation_report.report(
            table,
            options.metric,
            loading.split(options.datasets),
            loading.split(options.proxies),
            params=options.params,
            reference=options.reference,
            nan_policy=options.nan_policy,
            n=options.resamples,
            level=options.level,
            seed=config.seed,
        )
    seconds["correlation"] = time.perf_counter() - start
    figures = _figures(table, rows, options)
    folder = pathlib.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    correlation_report.write(rows, folder)
    pictures.save(figures, folder, kinds)
    _show(rows)
    progress.log_seconds(seconds)
    logging.info("results in %s", folder.resolve())


def _table(options: ConfigDict, space):
    """The table of proxies and truth of a config.

    Raises:
        ValueError: neither truth nor scores are given, or they have nothing in common.
    """
    from lswag_jax.analysis import tables

    if not options.truth and not options.scores:
        raise ValueError("give correlate.truth, a table, or correlate.scores, or both.")
    truth = loading.load_truth(options.truth, space) if options.truth else None
    table: Any = truth
    if options.scores:
        table = tables.union(_scores(options, space, truth))
    if options.scores and truth:
        table, match = table.join(truth.only([options.metric]), space)
        logging.info("scores in %s: %s", options.truth, match)
        if len(match.unmatched) == len(table):
            raise ValueError(
                f"none of the scored genotypes is in {options.truth}: "
                f"{tables.name_some(match.unmatched)}."
            )
    failed = (f"{metric} on {of} {count}" for (of, metric), count in table.failures.items())
    logging.info("%d genotypes; failures: %s", len(table), ", ".join(failed) or "none")
    if table.duplicates:
        logging.warning("listed more than once: %s", tables.name_some(table.duplicates))
    return table.with_params(space) if options.params == "params" else table


def _scores(options: ConfigDict, space, truth) -> list:
    """Tables of scores, [data set=]path; without a data set, for all that the truth has.

    The proxies that a benchmark publishes, KIND:file, are of its own data sets.
    """
    from lswag_jax.analysis import converters as table_converters

    found = []
    for entry in loading.split(options.scores):
        dataset, _, name = entry.rpartition("=")
        if ":" in name:
            found.append(loading.load_truth(name, space))
            continue
        file = loading.scores_file(name)
        everywhere = truth.datasets if truth else (pathlib.Path(name).stem,)
        for each in (dataset,) if dataset else everywhere:
            found.append(table_converters.scores(file, space, each))
    return found


def _figures(table, rows, options: ConfigDict) -> dict:
    """The figures under the names of their files."""
    from lswag_jax.analysis import plots
    from lswag_jax.analysis import report as correlation_report

    proxies, datasets, values = correlation_report.grid(rows)
    low, high, n = (
        correlation_report.matrix(rows, key, proxies, datasets)
        for key in ("rho_low", "rho_high", "n")
    )
    level = f"{100 * options.level:.3g} %"
    told = f",\n{level} bootstrap intervals" if np.isfinite(low).any() else ""
    more = {
        "low_KxD": low,
        "high_KxD": high,
        "n_KxD": n,
        "title": f"rank correlation with {options.metric}{told}",
    }
    return {
        "heat_map": plots.heat_map(proxies, datasets, values, **more),
        "averages": plots.averages(proxies, datasets, values, **more),
        "ranks": plots.rank_panels(
            [_panel(table, rows, dataset, options) for dataset in datasets], options.metric
        ),
    }


def _panel(table, rows, dataset: str, options: ConfigDict) -> dict:
    """The best proxy of a data set beside the truth."""
    best = max((row for row in rows if row["dataset"] == dataset), key=lambda row: row["rho"])
    truth = table.values(dataset, options.metric, "drop")
    known = ~np.isnan(truth)
    return {
        "name": best["proxy"],
        "dataset": dataset,
        "scores": table.values(dataset, best["proxy"], options.nan_policy)[known],
        "truth": truth[known],
        "interval": (best["rho_low"], best["rho_high"]),
    }


def _show(rows) -> None:
    """Prints the main columns as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    keys = [key for key in SHOWN if key in rows[0]]
    keys = [key for key in keys if key not in COUNTED or any(row[key] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("data set", "proxy"):
        table.add_column(name, no_wrap=True)
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        values = (row[key] for key in keys)
        texts = (str(v) if isinstance(v, int) else f"{v:.3f}" for v in values)
        table.add_row(row["dataset"], row["proxy"], *texts)
    # As wide as a terminal is; a log is wider than what is taken for one.
    Console(stderr=True, width=None if sys.stderr.isatty() else 120).print(table)


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "correlate", "configs/correlate.py")


if __name__ == "__main__":
    run()
