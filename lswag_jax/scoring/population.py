"""Scoring populations: one program compiled for all genotypes of a space and batch shape."""

import functools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax.capture import adapters, chain, tape
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.patterns import PATTERN_LIMIT
from lswag_jax.proxies import Proxy, finish
from lswag_jax.scoring import devices as distributed
from lswag_jax.scoring.devices import Devices
from lswag_jax.scoring.inputs import check_inputs
from lswag_jax.scoring.measure import measure
from lswag_jax.scoring.table import Row, ScoreTable
from lswag_jax.spaces import Space

Array = jax.Array
Proxies = str | Proxy | Sequence[str | Proxy]


def make_scorer(
    space: Space,
    proxies: Proxies = ("lswag",),
    *,
    gradient_batch: int | None = None,
    loss: tape.Loss | None = None,
    batch_norm: str = "frozen",
    batch_size: int | None = None,
) -> Callable[[Mapping, Mapping, Array, Array], dict[str, Any]]:
    """A pure function that scores encoded genotypes; jit it, or call it under your own jit or mesh.

    Args:
        space: the search space.
        proxies: names or configured proxies.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        loss: per-sample loss of (logits, labels); None for that of the space's task.
        batch_norm: see `adapters.linen_network`.
        batch_size: architectures evaluated at once (vmap); None maps over them one by one, which
            is fastest on a CPU.

    Returns:
        `scorer(variables, encoded, images, labels, key=None)`: for each proxy with passes a
        dictionary of parts with a leading axis P, among them `score`; and `degenerate` [P]. The
        key is of the random tensors that some proxies draw. Matrix products have
        the caller's precision: wrap the call in `jax.default_matmul_precision("highest")`.

    Example:
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
    if space.chain(space.sample(np.random.default_rng(0), 1)[0]) is not None:
        raise ValueError(
            f"the networks of {space.name} have no shapes in common, so no one program scores "
            "them: use lswag_jax.score, which runs them block by block."
        )

    def scorer(variables, encoded, images, labels, key=None):
        draws = Draws(jax.random.key(0) if key is None else key)

        def one(encoded):
            def make(variables, mode):
                return adapters.linen_network(
                    space.network(), variables, encoded, batch_norm=mode, unscored=space.unscored
                )

            candidate = Candidate(
                make,
                space.active_variables(variables, encoded),
                batch_norm,
                "batch_stats" in variables,
                sizes=encoded,
                bin_range=space.bin_range,
                padded_maps=space.padded_maps,
                any_size=space.any_size,
            )
            return measure(
                candidate,
                images,
                labels,
                resolved,
                gradient_batch=gradient_batch,
                loss=loss or space.task.loss,
                draws=draws,
            )

        return jax.lax.map(one, encoded, batch_size=batch_size)

    return scorer


@functools.lru_cache(maxsize=32)
def _compiled(space, proxies, options, images, labels, each, devices, precision):
    """Executable of `make_scorer` for chunks of so many genotypes on each of the devices."""
    scorer = make_scorer(space, proxies, **dict(options))
    variables = jax.eval_shape(space.init, jax.random.key(0))
    variables = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, images.dtype), variables)
    encoded = {
        key: jax.ShapeDtypeStruct((each * len(devices), *value.shape[1:]), value.dtype)
        for key, value in space.encode(space.sample(np.random.default_rng(0), 1)).items()
    }
    with jax.default_matmul_precision(precision):
        key = jax.eval_shape(lambda: jax.random.key(0))
        run = distributed.over_devices(scorer, devices)
        return run.lower(variables, encoded, images, labels, key).compile()


@functools.lru_cache(maxsize=8)
def _initial(space: Space, seed: int, dtype) -> Any:
    """Initial variables, kept for later calls; drawn by a program that is compiled in a hurry."""
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(space.init, compiler_options=quick)
    return jax.tree.map(lambda v: v.astype(dtype), draw(jax.random.key(seed)))


def score(
    space: Space,
    genotypes: Sequence[Any],
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    seed: int = 0,
    repeats: int = 1,
    gradient_batch: int | None = None,
    batch_size: int | None = None,
    batch_norm: str = "frozen",
    loss: tape.Loss | None = None,
    precision: str = "highest",
    devices: Sequence[jax.Device] | None = None,
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
        seed: of the initial weights, and of what proxies draw; repeat r uses seed + r.
        repeats: initialisations; scores are averaged, `ScoreTable.per_repeat` keeps each.
        gradient_batch: the first so many samples are the gradient batch, all are the pattern
            batch; None takes all for both.
        batch_size: architectures evaluated at once on each device; None is 1 on a CPU and 8
            elsewhere, and always 1 where networks are chains (`Space.chain`).
        batch_norm: see `adapters.linen_network`.
        loss: per-sample loss of (logits, labels); None for that of the space's task.
        precision: of matrix products, see `jax.default_matmul_precision`.
        devices: of this process, over which each chunk is split; a chain runs on the first. None
            takes all, and in a job of several processes (`jax.distributed`) also the other
            processes': all of them then make the same calls and receive the same rows.

    Returns:
        A `ScoreTable` with one row a genotype, in the order given.

    Raises:
        ValueError: bad images, labels, proxies or genotypes.

    Example:
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
        space, genotypes, images, labels, resolved,
        seed=seed, repeats=repeats, gradient_batch=gradient_batch, batch_size=batch_size,
        batch_norm=batch_norm, loss=loss, precision=precision, devices=devices, timing=timing,
    )  # fmt: skip
    return ScoreTable(rows, resolved, timing)


def stream(
    space: Space,
    genotypes: Sequence[Any],
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    seed: int = 0,
    repeats: int = 1,
    gradient_batch: int | None = None,
    batch_size: int | None = None,
    batch_norm: str = "frozen",
    loss: tape.Loss | None = None,
    precision: str = "highest",
    devices: Sequence[jax.Device] | None = None,
    timing: dict[str, float] | None = None,
) -> Iterator[Row]:
    """Rows of `score` as they come, so that a caller can append each to a file.

    Args:
        space, genotypes, images, labels, proxies: as in `score`.
        seed, repeats, gradient_batch, batch_size, batch_norm, loss, precision, devices: likewise.
        timing: receives the seconds spent as `compile` and `score`.

    Yields:
        One row a genotype, in the order given.

    Raises:
        ValueError: bad images, labels, proxies or genotypes.
    """
    resolved = proxy_registry.resolve(proxies)
    images, labels = check_inputs(
        images,
        labels,
        image_shape=space.image_shape,
        task=space.task,
        limit=PATTERN_LIMIT,
        gradient_batch=gradient_batch,
    )
    for name, value in (("repeats", repeats), ("batch_size", batch_size or 1)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    for genotype in genotypes:
        space.check(genotype)
    timing = {} if timing is None else timing
    timing |= {"compile": 0.0, "score": 0.0}
    adapters.check_mode(batch_norm)
    hardware, each = Devices.of(devices), max(len(genotypes), 1)
    run, initial = None, []
    if genotypes and any(proxy.passes for proxy in resolved):
        began = time.perf_counter()
        options = {"gradient_batch": gradient_batch, "loss": loss, "batch_norm": batch_norm}
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (images, labels)]
        chained = space.chain(genotypes[0]) is not None
        hardware, each = (hardware.one_each(), 1) if chained else (hardware, _chunk(batch_size))
        runner = _chain_runner if chained else _elastic_runner
        run = runner(space, resolved, options, shapes, each, hardware.local, precision)
        seeds = range(seed, seed + repeats)
        images, labels, initial = _placed(space, seeds, images, labels, hardware.local)
        timing["compile"] = time.perf_counter() - began
    chunk, step = each * len(hardware.local), each * hardware.total
    for start in range(0, len(genotypes), step):
        members = list(hardware.own(genotypes[start : start + step], each))
        began = time.perf_counter()
        try:
            results = _run_chunk(members, chunk, run, initial, images, labels)
        except jax.errors.JaxRuntimeError as error:  # such as a device that is out of memory
            results = str(error).splitlines()[0]
        elapsed = time.perf_counter() - began
        timing["score"] += elapsed
        rows = _rows(space, members, results, resolved, elapsed / max(len(members), 1))
        yield from hardware.gather(list(rows))


def _placed(space, seeds, images, labels, devices) -> Any:
    """What every device holds: the batch, and for each seed the initial variables and a key."""
    initial = [(_initial(space, seed, images.dtype), jax.random.key(seed)) for seed in seeds]
    everywhere, _ = distributed.shardings(devices)
    return jax.device_put((images, labels, initial), everywhere)


def _chunk(batch_size: int | None) -> int:
    """Architectures evaluated at once on each device."""
    return batch_size or (1 if jax.default_backend() == "cpu" else 8)


def _elastic_runner(space, proxies, options, shapes, each, devices, precision) -> Callable:
    """A function of (variables, members, images, labels, key) by the space's compiled programs."""
    options = (*options.items(), ("batch_size", each if each > 1 else None))
    programs = [
        _compiled(space, some, options, *shapes, each, devices, precision)
        for some in proxy_registry.programs(proxies)
    ]
    _, split = distributed.shardings(devices)

    def scored(variables, members, *batch):
        encoded = jax.device_put(space.encode(members), split)
        return merged([run(variables, encoded, *batch) for run in programs])

    return scored


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `measure` returned for each set of proxies as one, on the host.

    `degenerate` is what every program finds so, since some of them see more samples than others.
    """
    results = jax.device_get(results)
    degenerate = np.logical_and.reduce([result["degenerate"] for result in results])
    return functools.reduce(operator.or_, results) | {"degenerate": degenerate}


def _chain_runner(space, proxies, options, shapes, each, devices, precision) -> Callable:
    """The same by a chain of compiled blocks, which are found when they are first met."""
    del shapes, each, devices
    if options["batch_norm"] == "through":
        raise ValueError(
            f"batch_norm='through' needs one program per network, which {space.name} lacks."
        )
    return functools.partial(_run_chain, space, proxies, options, precision)


def _run_chain(space, proxies, options, precision, variables, members, images, labels, key):
    """Measures one network block by block, with a leading axis of one."""
    chain.make_room()
    (genotype,) = members
    loss, batch_norm = options["loss"] or space.task.loss, options["batch_norm"]
    blocks = space.chain(genotype)
    own = space.extract(jax.device_get(variables), genotype)  # on the host: no program per shape
    candidate = Candidate(
        lambda variables, mode: chain.Chain(blocks, variables, mode),
        jax.device_put(own, images.sharding),
        batch_norm,
        has_batch_norm=True,
        any_size=space.any_size,
    )
    with jax.default_matmul_precision(precision):
        result = measure(
            candidate,
            images,
            labels,
            proxies,
            gradient_batch=options["gradient_batch"],
            loss=loss,
            draws=Draws(key),
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], result)


def _run_chunk(members, chunk, run, initial, images, labels) -> list[dict[str, Any]]:
    """Results of each repeat, as arrays with leading axis len(members)."""
    if not members:  # of a process that has none in the last round
        return []
    padded = members + members[-1:] * (chunk - len(members))
    results = [run(v, padded, images, labels, key) for v, key in initial]
    return [
        jax.tree.map(lambda leaf: leaf[: len(members)], jax.device_get(result))
        for result in results
    ]


def _rows(space, members, results, proxies: Sequence[Proxy], seconds: float) -> Iterator[Row]:
    """A row a genotype; where `results` is a message, of an architecture that could not be run."""
    finished = {}
    for proxy in proxies if not isinstance(results, str) else ():
        finished[proxy.key] = (
            [finish(proxy, result[proxy.key]) for result in results] if proxy.passes else []
        )
    for i, genotype in enumerate(members):
        row = {
            "id": space.format(genotype),
            "genotype": genotype.to_json(),
            "params": space.num_params(genotype),
            "macs": space.macs(genotype),
            "seconds": seconds,
        }
        if isinstance(results, str):
            yield row | {"error": results}
            continue
        yield row | {
            "degenerate": [bool(result["degenerate"][i]) for result in results] or [False],
            "parts": {
                name: {key: [part[key][i].tolist() for part in parts] for key in parts[0]}
                if parts
                else {}
                for name, parts in finished.items()
            },
        }
