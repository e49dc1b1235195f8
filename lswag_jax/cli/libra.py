"""Chooses by LIBRA the proxies that rank a benchmark best together, from its accuracies.

    python -m lswag_jax.cli.libra --config=configs/libra.py:runlocal --workdir=results/libra

The working directory receives selection.json (which --config.search.fitness and
--config.score.fitness take), candidates.csv, report.csv and candidates.png. The choice uses labels:
what it is worth is the figure on the halves that it was not made on.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, pictures
from lswag_jax.files import write_csv


def main(config: ConfigDict, workdir: str) -> None:
    """Chooses as `config` says and writes the results to `workdir`."""
    from lswag_jax.analysis import libra, plots

    options, space = _options(config), loading.load_space(config)
    kinds = pictures.formats(config.plots.format)
    benchmark, source = _benchmark(config, space)
    (scores, accuracy, params), seeds = benchmark[:3], config.libra.seeds
    found = libra.evaluate(scores, accuracy, params, options, seeds)
    alone = dataclasses.replace(options, second="none", third="none", permutations=0)
    best = libra.evaluate(scores, accuracy, params, alone, seeds)
    report = _report({"LIBRA": found, "best proxy": best})
    selection, folder = found.selection, pathlib.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    selection.save(folder / "selection.json", benchmark=source, rho={"in_sample": found.in_sample})
    candidates = [c._asdict() for c in selection.candidates]
    for name, rows in (("candidates", candidates), ("report", report)):
        write_csv(folder / f"{name}.csv", {key: [row[key] for row in rows] for key in rows[0]})
    where = f"{source['metric']} of {space.name} on {source['dataset']}"
    pictures.save({"candidates": plots.candidates(selection, where)}, folder, kinds)
    _log(selection, report, benchmark, source)
    logging.info("results in %s", folder.resolve())


def _benchmark(config: ConfigDict, space: Any) -> tuple[Any, dict[str, str]]:
    """The arrays of a config's table, and what they are of."""
    from lswag_jax.analysis import converters as table_converters
    from lswag_jax.analysis import libra

    options = config.libra
    if not options.truth:
        raise ValueError("give a table of accuracies: --config.libra.truth=FILE or KIND:FILE.")
    table = loading.load_truth(options.truth, space)
    dataset = options.dataset or table.datasets[0]
    if options.scores:
        own = table_converters.scores(loading.scores_file(options.scores), space, dataset)
        rest = [metric for metric in table.metrics(dataset) if metric not in own.metrics(dataset)]
        table, match = own.join(table.only(rest), space)
        logging.info("%s: %s", options.scores, match)
    proxies = _proxies(options.proxies)
    table = table.with_params(space)
    benchmark = libra.gather(table, dataset, options.metric, proxies or None)
    source = {key: options[key] for key in ("truth", "scores", "metric")} | {"dataset": dataset}
    return benchmark, source


def _proxies(names: str) -> dict[str, str]:
    """The candidates of a config, `NAME` or `NAME=METRIC`, and their metrics."""
    found: dict[str, str] = {}
    for item in loading.split(names):
        name, _, metric = item.partition("=")
        if not name or name in found:
            why = f"names {name} twice" if name else f"has {item!r} without a name"
            raise ValueError(f"libra.proxies {why}: give NAME or NAME=METRIC, each name once.")
        found[name] = metric or name
    return found


def _options(config: ConfigDict) -> Any:
    """LIBRA's options; numbers in texts are numbers."""
    from lswag_jax.analysis.libra import LibraOptions

    options = loading.plain(config.libra.options)
    if options["n_bins"].isdecimal():
        options["n_bins"] = int(options["n_bins"])
    with loading.in_section("libra.options", options):
        return LibraOptions(**options)


def _report(evaluations: dict[str, Any]) -> list[dict[str, Any]]:
    """A row an evaluation: rho in-sample beside that of split halves."""
    return [
        {
            "name": name,
            "proxies": "+".join(e.selection.fitness.proxies),
            "in_sample": e.in_sample,
            "split_half": float(np.mean(e.split_half)),
            "split_half_std": float(np.std(e.split_half)),
            "split_half_seeds": " ".join(f"{rho:.4f}" for rho in e.split_half),
            "split_half_proxies": " ".join("+".join(names) for names in e.split_proxies),
        }
        for name, e in evaluations.items()
    ]


def _log(selection: Any, report: list[dict[str, Any]], benchmark: Any, source: Any) -> None:
    """The choice and what it is worth, as lines."""
    from lswag_jax.proxies import PROXIES

    logging.info(
        "%s on %s: %d architectures, %d left out for want of a score; bias of the target %.3f",
        source["metric"], source["dataset"], selection.n, benchmark.left_out,
        selection.accuracy_bias,
    )  # fmt: skip
    for c in sorted(selection.candidates, key=lambda c: -c.rho):
        chosen = selection.proxies.index(c.name) + 1 if c.name in selection.proxies else " "
        chance = "" if np.isnan(c.p_value) else f"  p {c.p_value:.3f}"
        logging.info(
            "z%s %-16s rho %6.3f  gain %6.3f bits%s  bias %6.3f",
            chosen, c.name, c.rho, c.ig, chance, c.bias,
        )  # fmt: skip
    for row in report:
        logging.info(
            "%-10s %s: rho %.3f in-sample, %.3f +- %.3f on the other half",
            row["name"], row["proxies"], row["in_sample"], row["split_half"], row["split_half_std"],
        )  # fmt: skip
    strange = [name for name in selection.proxies if name not in PROXIES]
    if strange:
        logging.warning(
            "%s is no proxy of lswag_jax: score and search will want it under the name of one, as "
            "in --config.libra.proxies=macs=flops,...",
            strange[0],
        )


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "libra", "configs/libra.py")


if __name__ == "__main__":
    run()
