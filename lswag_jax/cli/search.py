"""Searches a space by zero-cost proxies; resumable by its working directory.

    python -m lswag_jax.cli.search --config=configs/quickstart.py --workdir=results/quickstart

The working directory receives config.json, archive.jsonl (one row per genotype, as it is scored),
ranking.csv, ranking.parquet, best.json and three plots; with --config.search.objectives=lswag,macs
front.csv and front.png too; and benchmark.json where accuracies are given:
--config.search.truth=FILE:DATASET:METRIC of a table (docs/benchmarks.md), or
FILE:GENOTYPES:ACCURACIES, two columns of any CSV file. A killed run resumes when started again.
Of pruning (configs/pruning.py) the archive has super-networks, the other files what is left.
--shard=k/n works as in lswag_jax.cli.score, for a random search.
"""

import json
import pathlib
import time
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, own_data, pictures, progress

STRATEGIES = ("evolution", "random", "pruning")
# What a unit of each window is: parameters, multiply-accumulates, seconds and bytes.
WINDOWS = {"params_window": 1e6, "macs_window": 1e6}
MEASURED = {"latency_window": 1e-3, "memory_window": 1e6}
# What decides the networks of each; a random search is ranked at its end, by whatever it measured.
_DECISIVE = {
    "evolution": (
        *(*WINDOWS, "epochs", "population", "select", "crossover", "mutation"),
        *("m_prob", "s_prob", "merge_last"),
    ),
    "random": (*WINDOWS, "num"),
    "pruning": ("prune_number", "decimals"),
}
INHERITED = "inherited_accuracy"  # the proxy of `search.supernet`


def main(config: ConfigDict, workdir: str, shard: Any = None) -> None:
    """Searches as `config` says and writes the results to `workdir`, or a shard's rows alone."""
    from lswag_jax import search
    from lswag_jax.scoring import devices as distributed
    from lswag_jax.search import runner

    fitness = _fitness(config)
    if INHERITED in fitness.proxies and not config.search.supernet:
        raise ValueError(
            f"the fitness {INHERITED} needs a trained super-network: set search.supernet."
        )
    measured = [name for name in fitness.proxies if name != INHERITED]
    measured += [key.removesuffix("_window") for key in MEASURED if _is_set(config.search[key])]
    kinds = pictures.formats(config.plots.format)
    space, proxies = loading.load_space(config), loading.load_proxies(config, measured)
    proxies, complete = _with_supernet(config, space, proxies)
    options, accuracies = options_of(config, shard), _accuracies(config, space)
    scored, expected = loading.score_options(config), search.total(space, options)
    start = time.perf_counter()
    batch = loading.load_data(config, space)
    seconds = {"data": time.perf_counter() - start}
    with progress.progress_bar("search", expected) as show:
        result = search.run(
            space,
            batch.images,
            batch.labels,
            proxies,
            options,
            workdir,
            config=loading.identity(
                config,
                space,
                proxies,
                search=_decisive(config, fitness),
                free={"fitness": fitness.to_json(), "total": expected},
            ),
            fitness=fitness,
            score_options=scored,
            complete=complete,
            progress=lambda p: show(p.done, runner.beside(fitness, p)),
        )
    if shard or not distributed.is_first():
        return
    seconds |= result.table.timing
    start = time.perf_counter()
    folder = pathlib.Path(workdir)
    progress.log_statuses(result.table)
    if result.refusal:
        raise ValueError(result.refusal)
    where = pictures.about(space.name, config.data.source)
    pictures.save(pictures.of_search(result, fitness, where, space), folder, kinds)
    _log_best(result, fitness)
    if accuracies is not None:
        _look_up(result, accuracies, space, config.search.truth, folder)
    if len(result.table) < expected and config.search.strategy == "evolution":
        logging.warning("%d networks, not %d: no more were found", len(result.table), expected)
        _set_total(folder, len(result.table))
    progress.log_seconds(seconds | {"plots": time.perf_counter() - start})
    logging.info("results in %s", folder.resolve())


def _set_total(folder: pathlib.Path, total: int) -> None:
    """Records how many networks a search has at its end, for reports."""
    from lswag_jax.files import write_atomically
    from lswag_jax.runs.compare import CONFIG, read_config

    config = read_config(folder)
    config["free"]["total"] = total
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _log_best(result: Any, fitness: Any) -> None:
    """Logs the best network; of several objectives the front first, and its best by the first."""
    row, by = result.table.rows[result.best], fitness.name
    if result.objectives:
        front = len(result.front)
        logging.info("front of %d by %s: %d networks, front.csv", len(result.table), by, front)
        by = fitness.proxies[0]
    logging.info("best of %d by %s: %s", len(result.table), by, row["id"])
    size, value = (row["params"] / 1e6, row["macs"] / 1e6), result.fitness[result.best]
    logging.info("%.4g M parameters, %.4g M MACs, fitness %.6g", *size, value)


def _fitness(config: ConfigDict) -> Any:
    """What networks are searched by: objectives where they are given, else the fitness."""
    from lswag_jax.scoring.fitness import Fitness
    from lswag_jax.scoring.objectives import Objectives

    search = config.search
    if not search.objectives:
        return Fitness.parse(search.fitness, search.merge_rule)
    if search.strategy == "pruning":
        raise ValueError(
            "search.objectives must be empty for pruning, which has search.fitness, got "
            f"{search.objectives!r}."
        )
    with loading.in_section("search", search):
        return Objectives.parse(search.objectives)


def _is_set(window: Any) -> bool:
    return tuple(window) != (0.0, float("inf"))


def _with_supernet(config: ConfigDict, space, proxies: tuple):
    """The proxies, with `inherited_accuracy` where a super-network is given, and what adds it.

    Raises:
        ValueError: the super-network is of another space, or the images held out are not those
            that it was not trained on.
    """
    if not config.search.supernet:
        return proxies, iter
    from lswag_jax import data as datasets
    from lswag_jax.training import model_files, supernet

    model, data = model_files.load(config.search.supernet), config.data
    pool = own_data.open_pool(data, data.split)
    _, held = datasets.hold_out(pool, config.search.hold_out, config.seed)
    if model.space != space:
        raise ValueError(f"the super-network {config.search.supernet} is of another space.")
    trained = model.provenance["validation images"]
    if trained != f"{held.where} ({held.size})":
        raise ValueError(
            f"the super-network {config.search.supernet} was not trained without {held.where} "
            f"({held.size}), its validation images being {trained}."
        )
    accuracies = supernet.Accuracies(model, held)
    return (*proxies, supernet.InheritedAccuracy()), accuracies.complete


def _decisive(config: ConfigDict, fitness) -> dict:
    """Options that decide which networks are evaluated; a fitness counts by what it holds."""
    options = loading.plain(config.search)
    keys = ("strategy", "supernet", *_DECISIVE[options["strategy"]])
    keys += tuple(key for key in MEASURED if _is_set(config.search[key]))
    if options["supernet"]:
        keys += ("hold_out",)
    found = {key: options[key] for key in keys}
    return found if options["strategy"] == "random" else found | {"fitness": fitness.to_json()}


def _accuracies(config: ConfigDict, space) -> dict[str, float] | None:
    """Accuracies of a tabular benchmark, where one is given."""
    from lswag_jax.analysis import lookup

    if not config.search.truth:
        return None
    parts = config.search.truth.rsplit(":", 2)
    if len(parts) != 3:
        raise ValueError(
            "search.truth must be file:data set:metric, or for a file that is no table "
            "file:column of genotypes:column of accuracies, got "
            f"{config.search.truth!r}."
        )
    path, column, metric = parts
    if not pathlib.Path(path).is_file():
        raise ValueError(f"search.truth: there is no file {path}.")
    return lookup.read(path, space, column, metric)


def _look_up(
    result, accuracies: dict[str, float], space, source: str, folder: pathlib.Path
) -> None:
    """Writes and logs what the benchmark says of the networks found."""
    from lswag_jax.analysis import lookup
    from lswag_jax.files import write_atomically

    found = lookup.look_up(result.table.rows, result.preference, accuracies, space=space)
    if found is None:
        logging.warning("none of the networks found is in %s", source)
        return
    record = {"source": source} | found._asdict()
    write_atomically(folder / "benchmark.json", json.dumps(record, indent=2) + "\n")
    if found.better:
        logging.warning(
            "%s lacks the %d best networks: the accuracy is that of %s",
            *(source, found.better, found.id),
        )
    logging.info(
        "benchmark accuracy %.4g, rank %d of %d; mean of the ten best %.4g",
        found.accuracy,
        found.rank,
        found.total,
        found.top,
    )


def options_of(config: ConfigDict, shard: Any):
    """The search's options; windows come in millions, that of latency in milliseconds."""
    from lswag_jax import search

    s = config.search
    if s.strategy not in STRATEGIES:
        raise ValueError(f"search.strategy must be one of {STRATEGIES}, got {s.strategy!r}.")
    if shard and s.strategy != "random":
        raise ValueError(
            f"{s.strategy} proposes networks by all those so far, so --shard is for "
            "search.strategy=random: use --distributed."
        )
    units = WINDOWS | MEASURED
    for cls in (search.EvolutionOptions, search.RandomOptions, search.PruningOptions):
        # Numbers of the other strategies too, so that a bad one is told whichever is asked for.
        loading.check_options(cls, s, "search", leave=(*units, "decimals"))
    for key, unit in units.items():
        if len(s[key]) != 2 or not s[key][0] <= s[key][1]:
            of = "millions" if unit == 1e6 else "milliseconds"
            raise ValueError(f"search.{key} must be (smallest, largest) in {of}, got {s[key]}.")
    # A window of costs that is not set must be none, since one that is has networks measured.
    windows = {
        key: tuple(unit * bound for bound in s[key]) if key in WINDOWS or _is_set(s[key]) else None
        for key, unit in units.items()
    }
    if s.strategy == "pruning":
        for key in units:
            if _is_set(s[key]):
                raise ValueError(f"search.{key} must not be set for pruning, got {s[key]}.")
        decimals = None if s.decimals < 0 else s.decimals
        return loading.load_options(search.PruningOptions, config, "search", decimals=decimals)
    shared = {"seed": config.seed} | windows
    if s.strategy == "random":
        return loading.load_options(search.RandomOptions, config, "search", shard=shard, **shared)
    return loading.load_options(search.EvolutionOptions, config, "search", **shared)


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "search", "configs/quickstart.py", shared=True)


if __name__ == "__main__":
    run()
