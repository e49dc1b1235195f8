"""Scoring populations: one program compiled for all genotypes of a space and batch shape."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from lswag_jax import proxies as proxy_registry
from lswag_jax.options import typed
from lswag_jax.probe.patterns import PATTERN_LIMIT
from lswag_jax.proxies import Proxy
from lswag_jax.scoring import devices, notes, programs
from lswag_jax.scoring.costs import Costs
from lswag_jax.scoring.inputs import check_inputs
from lswag_jax.scoring.options import ScoreOptions
from lswag_jax.scoring.progress import Progress, Watch, watched
from lswag_jax.scoring.rows import Row, population_rows
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces import NetworkError, Space

Array = jax.Array
Proxies = str | Proxy | Sequence[str | Proxy]


@typed
def make_scorer(
    space: Space, proxies: Proxies = ("lswag",), **options: Any
) -> Callable[[Mapping, Mapping, Array, Array], dict[str, Any]]:
    """A pure function that scores encoded genotypes; jit it, or call it under your own jit or mesh.

    Args:
        space: the search space.
        proxies: names or configured proxies.
        **options: `gradient_batch`, `loss`, `batch_norm` and `batch_size` of `ScoreOptions`; here
            batch_size=None maps over architectures one by one, which is fastest on a CPU.

    Returns:
        `scorer(variables, encoded, images, labels, key=None)`: for each proxy with passes a
        dictionary of parts with a leading axis P, among them `score`; and `degenerate` [P]. The
        key is of the random tensors that some proxies draw. Matrix products have the caller's
        precision: wrap the call in `jax.default_matmul_precision("highest")`.

    Raises:
        ValueError: bad proxies or options, or a space whose networks run block by block.

    Example:
        >>> import numpy as np
        >>> from lswag_jax import spaces
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (2.0,), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> encoded = space.encode(space.sample(np.random.default_rng(0), 2))
        >>> scorer = jax.jit(make_scorer(space, ("lswag", "swap")))
        >>> images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
        >>> scorer(space.init(jax.random.key(1)), encoded, images, np.arange(6) % 3)["swap"][
        ...     "score"].shape
        (2,)
    """
    resolved = proxy_registry.resolve(proxies)
    if not space.is_elastic:
        raise ValueError(
            f"the networks of {space.name} have no shapes in common, so no one program scores "
            "them: use lswag_jax.score, which runs them one by one."
        )
    return programs.elastic_scorer(space, resolved, ScoreOptions.parse(options))


@typed
def score(
    space: Space,
    genotypes: Sequence[Any],
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    progress: Watch = False,
    **options: Any,
) -> ScoreTable:
    """Scores genotypes of a space at initialisation.

    All architectures see the same batch and slices of the same initial weights. One program is
    compiled for all genotypes of a space and batch shape, and kept for later calls; of many proxies
    one for each of their families (`proxies.programs`).

    Args:
        space: the search space.
        genotypes: of this space.
        images: [B, H, W, C], floats, or uint8 that are divided by 255.
        labels: [B] integers, or what the space's task takes.
        proxies: names (`proxies.names()`) or configured proxies.
        progress: True shows a bar of the networks scored, which says what is compiled, on a
            terminal or in a notebook, and lines elsewhere; a function is called with a
            `scoring.Progress` for each network.
        **options: `seed`, `repeats`, `gradient_batch`, `batch_size`, `batch_norm`, `loss`,
            `precision` and `devices`, see `ScoreOptions`.

    Returns:
        A `ScoreTable` with one row a genotype, in the order given.

    Raises:
        ValueError: bad images, labels, proxies, genotypes or options.
        ModuleNotFoundError: progress=True without rich or tqdm.

    Example:
        >>> import numpy as np
        >>> from lswag_jax import spaces
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (2.0,), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> rng = np.random.default_rng(0)
        >>> images = rng.normal(size=(6, 8, 8, 3)).astype("float32")
        >>> table = score(space, space.sample(rng, 2), images, np.arange(6) % 3, ("swap", "params"))
        >>> table["params"]
        array([18371., 18371.])
    """
    resolved = proxy_registry.resolve(proxies)
    timing: dict[str, float] = {}
    rows = stream(
        space, genotypes, images, labels, resolved, timing=timing, progress=progress, **options
    )
    return ScoreTable(rows, resolved, timing)


@typed
def stream(
    space: Space,
    genotypes: Sequence[Any],
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    timing: dict[str, float] | None = None,
    costs: Costs | None = None,
    progress: Watch = False,
    **options: Any,
) -> Iterator[Row]:
    """Rows of `score` as they come, so that a caller can append each to a file.

    Args:
        space, genotypes, images, labels, proxies: as in `score`.
        timing: receives the seconds spent as `compile` and `score`.
        costs: measures costs and remembers them; None measures every network.
        progress, **options: as in `score`.

    Yields:
        One row a genotype, in the order given.

    Raises:
        ValueError: bad images, labels, proxies, genotypes or options.
    """
    resolved = proxy_registry.resolve(proxies)
    settings = ScoreOptions.parse(options)
    images, labels = check_inputs(
        images,
        labels,
        image_shape=space.image_shape,
        task=space.task,
        limit=PATTERN_LIMIT,
        gradient_batch=settings.gradient_batch,
    )
    for genotype in genotypes:
        space.check(genotype)
    timing = {} if timing is None else timing
    timing |= {"compile": 0.0, "score": 0.0}
    costs = Costs(space, resolved) if costs is None else costs
    with watched(progress, "score", len(genotypes)) as tell:
        done = 0
        hardware, each = devices.Devices.of(settings.devices), max(len(genotypes), 1)
        run, initial, is_told = None, [], False
        if genotypes and any(proxy.passes for proxy in resolved):
            began = time.perf_counter()
            hardware = hardware if space.is_elastic else hardware.one_each()
            each = settings.members_at_once if space.is_elastic else 1
            run = programs.runner(space, genotypes, resolved, settings, images, labels, hardware)
            images, labels, initial = _placed(space, settings.seeds, images, labels, hardware.local)
            timing["compile"] = time.perf_counter() - began
        chunk, step = each * len(hardware.local), each * hardware.total
        for start in range(0, len(genotypes), step):
            members = list(hardware.own(genotypes[start : start + step], each))
            began = time.perf_counter()
            try:
                results = run_chunk(members, chunk, run, initial, images, labels)
            except (jax.errors.JaxRuntimeError, NetworkError) as error:  # such as out of memory
                results = str(error).splitlines()[0]
            each_took = (time.perf_counter() - began) / max(len(members), 1)
            rows = list(population_rows(space, members, results, resolved, each_took))
            if costs.proxies:
                for row, genotype in zip(rows, members, strict=True):
                    row["costs"] = costs(genotype)
            timing["score"] += time.perf_counter() - began
            for row, genotype in zip(rows, members, strict=True):
                told = _add_coverage(row, space, genotype, settings, images, initial)
                if told and not is_told:  # the first network that needs it stands for all
                    warnings.warn(told, stacklevel=2)
                    is_told = True
            for row in hardware.gather(rows):
                done += 1
                tell(Progress(done, len(genotypes)))
                yield row


def _add_coverage(row: Row, space: Space, genotype, settings, images: Array, initial) -> str:
    """Puts down what proxies see of a network without a plan; what a user should know of it."""
    if "error" in row:
        return row["error"] if row["id"] in row["error"] else f"{row['id']}: {row['error']}"
    if not initial:  # nothing was run
        return ""
    variables, _ = initial[0]
    coverage = programs.coverage_of(space, genotype, variables, settings.batch_norm, images)
    if coverage is None:
        return ""
    row["coverage"] = coverage.to_json()
    found = coverage.warnings()
    found += notes.of_outputs(coverage) if settings.loss is None else []
    return f"{row['id']} of {space.name}: {' '.join(found)}" if found else ""


def _placed(space: Space, seeds: Sequence[int], images: Array, labels: Array, local: Any) -> Any:
    """Puts on every device the batch, and for each seed the initial variables and a key."""
    initial = [
        (programs.initial_variables(space, seed, images.dtype), jax.random.key(seed))
        for seed in seeds
    ]
    everywhere, _ = devices.shardings(local)
    return jax.device_put((images, labels, initial), everywhere)


def run_chunk(members, chunk, run, initial, images, labels) -> list[dict[str, Any]]:
    """Results of each repeat, as arrays with leading axis len(members)."""
    if not members:  # of a process that has none in the last round
        return []
    padded = members + members[-1:] * (chunk - len(members))
    results = [run(v, padded, images, labels, key) for v, key in initial]
    return [
        jax.tree.map(lambda leaf: leaf[: len(members)], jax.device_get(result))
        for result in results
    ]
