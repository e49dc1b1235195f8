"""A search from images to result files, resumed by its working directory."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax import scoring
from lswag_jax.merge import merge_table
from lswag_jax.proxies import Proxy
from lswag_jax.scores import Row, ScoreTable
from lswag_jax.search import evolution, random_search
from lswag_jax.search.archive import Archive, Evaluate
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.random_search import RandomOptions
from lswag_jax.search.results import SearchResult, write_results
from lswag_jax.spaces import Space

Options = EvolutionOptions | RandomOptions


class Progress(NamedTuple):
    """Where a search stands: rows done, rows expected in total, and the best row so far.

    The best is looked for whenever the archive has grown by a tenth, since scores may depend on
    the pool.
    """

    done: int
    total: int
    best: Row
    fitness: float


def search(
    space: Space,
    evaluate: Evaluate,
    options: Options,
    archive: list[Row] | Archive,
    *,
    proxies: scoring.Proxies = ("lswag",),
    fitness: str | Sequence[str] = ("lswag",),
    merge_rule: str = "log_rank_sum",
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Searches by evolution or at random, whichever the options are of.

    Args:
        space: the search space.
        evaluate: yields a row for each genotype, in order.
        options: `EvolutionOptions` or `RandomOptions`.
        archive: rows evaluated before, from which the search resumes; receives the new ones.
        proxies: the proxies that the rows hold.
        fitness: names of those searched by; several are merged over the whole archive, anew in
            each generation.
        merge_rule: see `lswag_jax.merge`.
        progress: called after each new row, and once for an archive that is resumed.

    Raises:
        ValueError: bad proxies, fitness or rule, windows that cannot be met, or an archive of
            another search.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.get("autoformer_tiny")
        >>> evaluate = lambda genotypes: scoring.stream(
        ...     space, genotypes, np.zeros((1, 224, 224, 3)), [0], "params")
        >>> options = RandomOptions(num=20, params_window=(5e6, 6e6))
        >>> result = search(space, evaluate, options, [], proxies="params", fitness="params")
        >>> result.table["params"].max() == result.fitness[result.best] <= 6e6
        np.True_
    """
    resolved = proxy_registry.resolve(proxies)

    def rank(rows: Sequence[Row]) -> np.ndarray:
        return merge_table(ScoreTable(rows, resolved), fitness, merge_rule)

    rank([])  # a bad fitness or rule is reported before any work
    if progress:
        evaluate = _reporting(evaluate, archive, options.total, rank, progress)
    if isinstance(options, EvolutionOptions):
        evolution.search(space, evaluate, rank, options, archive)
    else:
        random_search.search(space, evaluate, options, archive)
    return SearchResult(ScoreTable(archive, resolved), rank(archive))


def _reporting(
    evaluate: Evaluate,
    archive: Sequence[Row],
    total: int,
    rank: Callable[[Sequence[Row]], np.ndarray],
    progress: Callable[[Progress], None],
) -> Evaluate:
    """`evaluate`, with progress told once the taker of a row has appended it to the archive."""
    ranked, best, value = 0, 0, -np.inf

    def report() -> None:
        nonlocal ranked, best, value
        if len(archive) >= 1.1 * ranked:
            scores = rank(archive)
            ranked, best = len(archive), int(np.argmax(scores))
            value = float(scores[best])
        progress(Progress(len(archive), total, archive[best], value))

    def reporting(genotypes: Sequence[Any]) -> Iterator[Row]:
        for row in evaluate(genotypes):
            yield row
            report()

    if archive:
        report()
    return reporting


def run(
    space: Space,
    images: Any,
    labels: Any,
    proxies: scoring.Proxies,
    options: Options,
    workdir: str | os.PathLike,
    *,
    config: Mapping[str, Any] | None = None,
    exempt: Sequence[str] = (),
    fitness: str | Sequence[str] = ("lswag",),
    merge_rule: str = "log_rank_sum",
    score_settings: Mapping[str, Any] | None = None,
    complete: Callable[[Iterable[Row]], Iterable[Row]] = iter,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Searches a space by scoring its networks on images, and writes the result files.

    Killed at any moment and called again with the same arguments it goes on where it was, and
    ends with the same archive. `workdir` receives `config.json`, `archive.jsonl` (a row an
    evaluated genotype), and at the end `ranking.csv`, `ranking.parquet` and `best.json`.

    Args:
        space: the search space.
        images, labels: as in `lswag_jax.score`.
        proxies: names or configured proxies to score by.
        options: `EvolutionOptions` or `RandomOptions`.
        workdir: folder of the run.
        config: what the run is, compared when it is resumed; None takes these arguments. A
            checksum of the images and labels is added as `data_sha256`.
        exempt: keys of the config, dotted where nested, that may differ on resuming.
        fitness: names of the proxies searched by; several are merged.
        merge_rule: see `lswag_jax.merge`.
        score_settings: further arguments of `lswag_jax.scoring.stream`, such as `seed`.
        complete: adds to the rows what is not measured on untrained networks, such as
            `training.supernet.InheritedAccuracy`, named in `proxies` too.
        progress: see `search`.

    Returns:
        The result, with the seconds spent in `result.table.timing`.

    Raises:
        ValueError: bad arguments, a workdir of another config, windows that cannot be met.
    """
    resolved = proxy_registry.resolve(proxies)
    fitness = (fitness,) if isinstance(fitness, str) else tuple(fitness)
    settings = dict(score_settings or {})
    timing = {"compile": 0.0, "score": 0.0}
    if config is None:
        config = _describe(space, resolved, options, fitness, merge_rule, settings)
    config = dict(config) | {"data_sha256": data_sha256(images, labels)}

    def evaluate(genotypes: Sequence[Any]) -> Iterator[Row]:
        spent: dict[str, float] = {}
        probed = [proxy for proxy in resolved if proxy.untrained]
        yield from complete(
            scoring.stream(space, genotypes, images, labels, probed, timing=spent, **settings)
        )
        for key in timing:
            timing[key] += spent[key]

    with Archive(workdir, config, exempt) as archive:
        result = search(
            space,
            evaluate,
            options,
            archive,
            proxies=resolved,
            fitness=fitness,
            merge_rule=merge_rule,
            progress=progress,
        )
    result.table.timing |= timing
    write_results(result, workdir)
    return result


def _describe(space, proxies: Iterable[Proxy], options, fitness, merge_rule, settings) -> dict:
    """The arguments of a run as plain values."""
    return {
        "space": dataclasses.asdict(space),
        "proxies": {p.key: {"name": p.name} | dataclasses.asdict(p) for p in proxies},
        "search": {"kind": type(options).__name__} | dataclasses.asdict(options),
        "fitness": fitness,
        "merge_rule": merge_rule,
        "score": {
            key: value.__qualname__ if callable(value) else value for key, value in settings.items()
        },
    }


def data_sha256(*arrays: Any) -> str:
    """Checksum of arrays, with their shapes and dtypes."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
