"""Scores genotypes by zero-cost proxies: random ones of a space, or those of a file.

    python -m lswag_jax.cli.score --config=configs/quickstart.py --workdir=results/score

The working directory receives config.json, archive.jsonl (one row per genotype, as it is scored),
scores.csv, scores.parquet and a plot; with --config.score.fitness, a file that lswag-libra wrote or
names of proxies to merge, also ranking.csv, ranking.parquet and best.json. A killed run that is
started again resumes where it stopped.

With --shard=k/n a worker scores every n-th genotype into shard-k-of-n of the working directory;
without it the binary takes the rows of all shards. docs/scaling.md has the commands.
"""

import hashlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, pictures, progress


def main(config: ConfigDict, workdir: str, shard: Any = None) -> None:
    """Scores as `config` says and writes the results to `workdir`, or a shard's rows alone."""
    from lswag_jax import search
    from lswag_jax.analysis import plots
    from lswag_jax.scoring import devices as distributed
    from lswag_jax.scoring.fitness import Fitness
    from lswag_jax.scoring.table import ScoreTable
    from lswag_jax.search.results import first_usable

    fitness = Fitness.parse(config.score.fitness) if config.score.fitness else None
    kinds = pictures.formats(config.plots.format)
    needed = fitness.proxies if fitness else ()
    space, proxies = loading.load_space(config), loading.load_proxies(config, needed)
    options = loading.score_options(config)
    genotypes = load_genotypes(config, space)
    start = time.perf_counter()
    batch = loading.load_data(config, space)
    seconds, timing = {"data": time.perf_counter() - start}, {}
    ids = hashlib.sha256("\n".join(map(space.format, genotypes)).encode()).hexdigest()
    free: dict[str, Any] = {"fitness": fitness.to_json()} if fitness else {}
    free["total"] = len(genotypes)
    identity = loading.identity(config, space, proxies, genotypes_sha256=ids, free=free)
    if shard:
        genotypes, workdir = shard.share(genotypes), shard.folder(workdir)
    rows = loading.score_archive(
        "score", workdir, identity, space, genotypes, batch, proxies, options, timing
    )
    if shard or not distributed.is_first():
        return
    table = ScoreTable(rows, proxies)
    folder = pathlib.Path(workdir)
    table.to_csv(folder / "scores.csv")
    table.to_parquet(folder / "scores.parquet")
    by = fitness or Fitness((first_usable(table),))
    result = search.SearchResult(table, by(table), by.proxies)
    progress.log_statuses(table)
    if fitness:
        search.write_results(result, folder, space)
    if result.refusal:
        raise ValueError(result.refusal)
    where = pictures.about(space.name, config.data.source)
    figure = plots.score_against_params(table, by.proxies[0], result.best, where)
    pictures.save({"score_against_params": figure}, folder, kinds)
    logging.info("best of %d by %s: %s", len(table), by.name, table.ids[result.best])
    progress.log_seconds(seconds | timing)
    logging.info("results in %s", folder.resolve())


def load_genotypes(config: ConfigDict, space) -> list:
    """Distinct genotypes of a config: of its file, or random ones."""
    from lswag_jax import runs

    if not config.score.genotypes:
        genotypes = runs.draw(space, np.random.default_rng(config.seed), config.score.num)
        if short := runs.shortage(space, len(genotypes), config.score.num):
            logging.warning("%s", short)
        return genotypes
    return read_genotypes(config.score.genotypes, space, logging.warning)


def read_genotypes(file: str, space, tell: Callable[[str], None]) -> list:
    """Distinct genotypes of a file: a JSON list, JSON lines, or a search's best.json.

    Args:
        file: its path.
        space: of the genotypes.
        tell: is told where they were found in a space that builds other networks of them.

    Raises:
        ValueError: a genotype that is not of the space, named by its place in the file.
        FileNotFoundError: no such file.
    """
    path = pathlib.Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no genotype file {path}.")
    genotypes, items = [], _items(path)
    if not items:
        raise ValueError(f"{path} holds no genotype.")
    for i, item in enumerate(items):
        if isinstance(item, dict) and (other := _other_space(item.get("space"), space)):
            tell(f"genotype {i} of {path} was found in a space of {other}")
        item = item.get("genotype", item) if isinstance(item, dict) else item
        try:
            genotypes.append(space.parse(item) if isinstance(item, str) else space.from_json(item))
        except ValueError as error:
            raise ValueError(f"genotype {i} of {path} is not of {space.name}: {error}") from None
    return list(dict.fromkeys(genotypes))


def _other_space(there: Any, space) -> str:
    """How the space that a genotype was found in builds other networks; empty if it does not.

    Classes and choices may differ: the genotype has chosen.
    """
    if not isinstance(there, dict):
        return ""
    here = json.loads(json.dumps(space.describe()))
    keys = [
        key
        for key, value in there.items()
        if key in here and key not in ("name", "num_classes") and not isinstance(value, list | dict)
        if value != here[key]
    ]
    if not keys:
        return ""
    found = ", ".join(f"{key} {there[key]}, not {here[key]}" for key in keys)
    flags = [f"--config.space.{key}={there[key]}" for key in keys if key != "build"]
    same = f"set {' '.join(flags)}" if flags else "name that space"
    return f"{found}: for the same networks {same}, for others give its text."


def _items(path: pathlib.Path) -> list:
    """Entries of a JSON list, of JSON lines, or a single JSON object."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is no text: give a JSON list, JSON lines or a best.json."
        ) from None
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except (json.JSONDecodeError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} holds neither JSON nor JSON lines ({error}).") from None


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "score", "configs/quickstart.py", shared=True)


if __name__ == "__main__":
    run()
