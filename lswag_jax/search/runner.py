"""A search from images to result files, resumed by its working directory."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax.options import typed
from lswag_jax.proxies import Proxy
from lswag_jax.runs.archive import Archive, Evaluate
from lswag_jax.runs.identity import data_sha256, describe, device
from lswag_jax.runs.shards import open_archive, reuse
from lswag_jax.scoring import devices as distributed
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring.costs import Costs
from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.objectives import Objectives
from lswag_jax.scoring.options import ScoreOptions
from lswag_jax.scoring.progress import Progress, Watch, watched
from lswag_jax.scoring.rows import Row, check_costs
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.search import evolution, pruning, random_search
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.pruning import PruningOptions
from lswag_jax.search.random_search import MEASURED, RandomOptions
from lswag_jax.search.results import SearchResult, unusable, write_results
from lswag_jax.spaces import Space, supernet_of

Options = EvolutionOptions | RandomOptions | PruningOptions
COSTS = "costs"  # folder of what was measured for windows


@typed
def search(
    space: Space,
    evaluate: Evaluate,
    options: Options,
    archive: list[Row] | Archive,
    *,
    proxies: scoring.Proxies = ("lswag",),
    fitness: str | Sequence[str] | Fitness | Objectives = ("lswag",),
    progress: Watch = False,
    costs: Costs | None = None,
) -> SearchResult:
    """Searches by evolution, at random or by pruning, whichever the options are of.

    Args:
        space: the search space.
        evaluate: yields a row for each genotype, in order; those of `searched`.
        options: `EvolutionOptions`, `RandomOptions` or `PruningOptions`.
        archive: rows evaluated before, from which the search resumes; receives the new ones.
        proxies: the proxies that the rows hold.
        fitness: those searched by, see `Fitness.parse`; several are merged over the whole
            archive, anew in each generation, or over the removals of a round. `Objectives` in its
            place compares networks as NSGA-II does.
        progress: a function, called with a `Progress` after each new row and once for an archive
            that is resumed; True shows a bar, with the best fitness, see `lswag_jax.score`.
        costs: measures for windows of latency and memory, and remembers; None measures anew.

    Returns:
        All that was evaluated, `refusal` telling where none of it can be ranked; of pruning the
        network alone that is left, as one of `space`.

    Raises:
        ValueError: bad proxies or fitness, windows that cannot be met, a space that cannot be
            pruned, or an archive of another search.

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
    resolved, fitness = proxy_registry.resolve(proxies), _parsed(fitness)
    objectives = fitness if isinstance(fitness, Objectives) else None
    costs = Costs(space, resolved) if costs is None else costs
    _check_windows(options, resolved)

    def rank(rows: Sequence[Row]) -> np.ndarray:
        return fitness(ScoreTable(rows, resolved))

    rank([])  # a proxy that the rows will not hold is reported before any work
    rows: Sequence[Row] = archive
    by, expected = fitness.proxies, total(space, options)
    with watched(progress, "search", expected, functools.partial(beside, fitness)) as tell:
        if progress is not False:
            evaluate = _reporting(evaluate, archive, expected, rank, tell)
        if isinstance(options, EvolutionOptions):
            evolution.search(space, evaluate, rank, options, archive, costs)
        elif isinstance(options, RandomOptions):
            random_search.search(space, evaluate, options, archive, costs)
        else:
            by = ()  # what is left was not scored itself, but as the last super-network
            rows = [_prune(space, evaluate, options, archive, resolved, fitness)]
    return SearchResult(ScoreTable(rows, resolved), rank(rows), by, objectives)


def _parsed(fitness: str | Sequence[str] | Fitness | Objectives) -> Fitness | Objectives:
    return fitness if isinstance(fitness, Objectives) else Fitness.parse(fitness)


def beside(fitness: Fitness | Objectives, at: Progress) -> str:
    """What a bar says: the best fitness so far; of several objectives nothing."""
    return f"best {at.fitness:.6g}" if isinstance(fitness, Fitness) else ""


def _check_windows(options: Options, proxies: Sequence[Proxy]) -> None:
    """Raise ValueError for a window of a cost that is not measured."""
    windows = () if isinstance(options, PruningOptions) else options.measured
    for name in windows:
        if name not in [proxy.key for proxy in proxies]:
            raise ValueError(f"{name}_window needs {name} among the proxies.")


def _prune(
    space: Space,
    evaluate: Evaluate,
    options: PruningOptions,
    archive: list[Row] | Archive,
    proxies: Sequence[Proxy],
    fitness: Fitness | Objectives,
) -> Row:
    """The row of the network that is left, as one of `space`."""
    if isinstance(fitness, Objectives):
        raise ValueError("pruning has one fitness, of one or several proxies, and no objectives.")
    if fitness.rule == "product" and len(fitness.proxies) > 1:
        raise ValueError("pruning merges losses, which may be negative: not by rule 'product'.")

    supernet = supernet_of(space)
    whole = supernet.format(supernet.full)

    def score_removals(rows: Sequence[Row]) -> np.ndarray:
        table = ScoreTable(rows, proxies)
        scores = pruning.removal_scores(table, fitness, options.decimals)
        if rows[0]["id"] == whole and (scores == scores[0]).all():  # later rounds may have ties
            raise ValueError(unusable(table, fitness.proxies) or _all_equal(len(scores)))
        return scores

    def _all_equal(count: int) -> str:
        kept = "" if options.decimals is None else f" to {options.decimals} decimals"
        return (
            f"pruning has nothing to choose by: without any of the {count} operations of "
            f"{space.name} the loss by {fitness.name} is the same{kept}, give other proxies."
        )

    final = supernet.final(pruning.search(supernet, evaluate, score_removals, options, archive))
    if refusal := unusable(ScoreTable(archive, proxies), fitness.proxies):
        raise ValueError(refusal)
    last: Any = archive[-1]
    return last | {"id": space.format(final), "genotype": final.to_json()}


@typed
def searched(space: Space, options: Options) -> Space:
    """The space whose genotypes a search evaluates: of pruning the super-network.

    Raises:
        ValueError: the space cannot be pruned.
    """
    return supernet_of(space) if isinstance(options, PruningOptions) else space


@typed
def total(space: Space, options: Options) -> int:
    """Genotypes that a search evaluates; fewer only if the space has no more legal ones.

    Raises:
        ValueError: the space cannot be pruned.

    Example:
        >>> from lswag_jax import spaces
        >>> total(spaces.get("nasbench201"), PruningOptions())
        58
    """
    if isinstance(options, PruningOptions):
        return pruning.num_evaluations(supernet_of(space), options)
    return options.total


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


@typed
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
    fitness: str | Sequence[str] | Fitness | Objectives = ("lswag",),
    score_options: ScoreOptions | None = None,
    complete: Callable[[Iterable[Row]], Iterable[Row]] = iter,
    progress: Watch = False,
) -> SearchResult:
    """Searches a space by scoring its networks on images, and writes the result files.

    Killed at any moment and called again with the same arguments it resumes where it stopped,
    and ends with the same archive. `workdir` receives `config.json`, `archive.jsonl` (a row an
    evaluated genotype), and at the end `ranking.csv`, `ranking.parquet` and `best.json`, with
    several objectives also `front.csv`. In a job of several processes (`jax.distributed`) all of
    them make the same call; the first writes. What was measured for windows of latency and memory
    is kept in `workdir/costs`, of networks outside of them too, and not measured again.

    A random search with a `shard` writes its rows to `workdir/shard-k-of-n` and no results; the
    same search without one, when the workers have ended, takes their rows.

    Args:
        space: the search space.
        images, labels: as in `lswag_jax.score`.
        proxies: names or configured proxies to score by.
        options: `EvolutionOptions`, `RandomOptions` or `PruningOptions`.
        workdir: folder of the run.
        config: what the run is, compared when it is resumed; None takes these arguments. A
            checksum of the images and labels is added as `data_sha256`.
        exempt: keys of the config, dotted where nested, that may differ on resuming.
        fitness: see `search`.
        score_options: how networks are scored, such as `seed`; None takes the defaults.
        complete: adds to the rows what is not measured on untrained networks, such as
            `training.supernet.InheritedAccuracy`, named in `proxies` too.
        progress: see `search`.

    Returns:
        The result, with the seconds spent in `result.table.timing`.

    Raises:
        ValueError: bad arguments, a workdir of another config, windows that cannot be met.
    """
    resolved, fitness = proxy_registry.resolve(proxies), _parsed(fitness)
    settings = score_options or ScoreOptions()
    timing = {"compile": 0.0, "score": 0.0}
    if config is None:
        config = _describe(space, resolved, options, fitness, settings)
    config = dict(config) | {"data_sha256": data_sha256(images, labels)}
    scored = searched(space, options)

    def evaluate(genotypes: Sequence[Any]) -> Iterator[Row]:
        spent: dict[str, float] = {}
        probed = [proxy for proxy in resolved if proxy.is_zero_cost]
        yield from complete(
            scoring.stream(
                scored,
                genotypes,
                images,
                labels,
                probed,
                timing=spent,
                costs=costs,
                **settings.keywords(),
            )
        )
        for key in timing:
            timing[key] += spent[key]

    shard = options.shard if isinstance(options, RandomOptions) else None
    folder = shard.folder(workdir) if shard else workdir
    with open_archive(folder, config, exempt) as (archive, found), contextlib.ExitStack() as stack:
        costs = _costs(space, resolved, options, folder, stack)
        result = search(
            space,
            reuse(scored, found, evaluate),
            options,
            archive,
            proxies=resolved,
            fitness=fitness,
            progress=progress,
            costs=costs,
        )
    result.table.timing |= timing
    if not shard:
        distributed.on_first(lambda: write_results(result, workdir, space))
    return result


def _costs(
    space: Space,
    proxies: Sequence[Proxy],
    options: Options,
    folder: str | os.PathLike,
    stack: contextlib.ExitStack,
) -> Costs:
    """What measures the costs of a run; with windows of them it resumes from the run's folder."""
    costs = Costs(searched(space, options), proxies)
    if isinstance(options, PruningOptions) or not options.measured:
        return costs
    described = {proxy.key: dataclasses.asdict(proxy) for proxy in costs.proxies}
    config = {"space": space.describe(), "proxies": described, **device(proxies)}
    opened = open_archive(os.path.join(folder, COSTS), config, check=check_costs)
    archive, _ = stack.enter_context(opened)
    return Costs(space, proxies, archive)


def _describe(space, proxies: Iterable[Proxy], options, fitness, settings) -> dict:
    """The arguments of a run as plain values, but for those that say where it runs."""
    unset = {f"{n}_window" for n in MEASURED if getattr(options, f"{n}_window", None) is None}
    decisive = {
        k: v for k, v in dataclasses.asdict(options).items() if k != "shard" and k not in unset
    }
    more: dict[str, Any] = {"search": {"kind": type(options).__name__} | decisive}
    if not isinstance(options, RandomOptions):  # which is ranked at its end
        more["fitness"] = fitness.to_json()
    return describe(space, proxies, settings, **more)
