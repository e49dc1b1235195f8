"""Searches a space by zero-cost proxies; resumable by its working directory.

    python -m lswag_jax.cli.search --config=configs/quickstart.py --workdir=results/quickstart

The working directory receives config.json, archive.jsonl (a row an evaluated genotype, as it
comes), ranking.csv, ranking.parquet, best.json and three plots. A killed run that is started again
goes on where it was.
"""

import pathlib
import time

from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common


def main(config: ConfigDict, workdir: str) -> None:
    """Searches as `config` says and writes the results to `workdir`."""
    from lswag_jax import plots, search

    space, proxies = common.load_space(config), common.load_proxies(config)
    options = _options(config)
    fitness = common.split(config.search.fitness)
    settings = common.score_settings(config)
    start = time.perf_counter()
    batch = common.load_data(config, space)
    seconds = {"data": time.perf_counter() - start}
    with common.progress_bar("search", options.total) as show:
        result = search.run(
            space,
            batch.images,
            batch.labels,
            proxies,
            options,
            workdir,
            config=common.identity(config, space, proxies, search=common.plain(config.search)),
            fitness=fitness,
            merge_rule=config.search.merge_rule,
            score_settings=settings,
            progress=lambda p: show(p.done, f"best {p.fitness:.6g}"),
        )
    seconds |= result.table.timing
    start = time.perf_counter()
    folder, best = pathlib.Path(workdir), result.best
    name = "+".join(fitness)
    plots.save(plots.best_so_far(result.fitness, name), folder / "best_so_far.png")
    shown = fitness[0] if len(fitness) == 1 else proxies[0].key
    plots.save(
        plots.score_against_params(result.table, shown, best), folder / "score_against_params.png"
    )
    parts = result.table.parts.get("lswag", {})
    if "lambda_l" in parts:
        plots.save(plots.layer_factors(parts, best), folder / "best_layers.png")
    row = result.table.rows[best]
    logging.info(
        "best of %d by %s: %s (%.3f M parameters, %.1f M MACs, fitness %.6g)",
        len(result.table),
        name,
        row["id"],
        row["params"] / 1e6,
        row["macs"] / 1e6,
        result.fitness[best],
    )
    statuses = result.table.status
    logging.info("status: %s", {s: int((statuses == s).sum()) for s in sorted(set(statuses))})
    common.log_seconds(seconds | {"plots": time.perf_counter() - start})
    logging.info("results in %s", folder.resolve())


def _options(config: ConfigDict):
    """The search's options; windows come in millions."""
    from lswag_jax import search

    s = config.search
    shared = {
        "seed": config.seed,
        "params_window": tuple(1e6 * bound for bound in s.params_window),
        "macs_window": tuple(1e6 * bound for bound in s.macs_window),
    }
    if s.strategy == "random":
        return search.RandomOptions(num=s.num, **shared)
    if s.strategy != "evolution":
        raise ValueError(f"search.strategy must be 'evolution' or 'random', got {s.strategy!r}.")
    keys = ("epochs", "population", "select", "crossover", "mutation", "m_prob", "s_prob")
    return search.EvolutionOptions(
        **shared, **{key: s[key] for key in keys}, merge_last=s.merge_last
    )


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "results/search")


if __name__ == "__main__":
    run()
