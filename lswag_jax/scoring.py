"""Scoring: the passes that a set of proxies needs, compiled once for all genotypes of a space."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from lswag_jax import adapters, tape
from lswag_jax import proxies as proxy_registry
from lswag_jax.inputs import check_inputs
from lswag_jax.macs import count_macs
from lswag_jax.patterns import PATTERN_LIMIT
from lswag_jax.probe import Probe, sizes_of
from lswag_jax.proxies import Proxy
from lswag_jax.scores import Row, ScoreTable
from lswag_jax.spaces import Space

Array = jax.Array
Proxies = str | Proxy | Sequence[str | Proxy]


def measure(
    network: tape.Network,
    images: Array,
    labels: Array,
    proxies: Sequence[Proxy],
    *,
    sizes: Mapping[str, Array] | None = None,
    layer_sets: np.ndarray | None = None,
    gradient_batch: int | None = None,
    loss: tape.Loss = tape.cross_entropy,
    batch_coupled: bool = False,
) -> dict[str, Any]:
    """Measures one network by every proxy, in shared passes; traced under jit and vmap.

    Args:
        network: from `lswag_jax.adapters`.
        images: [B, H, W, C], the pattern batch.
        labels: [B].
        proxies: configured proxies.
        sizes: active sizes of an elastic network (`Space.encode`); None reads the shapes.
        layer_sets: sets of present layers, bool [K, L]; None for all layers.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        loss: per-sample loss.
        batch_coupled: samples interact (batch statistics), so that a forward pass of the pattern
            batch cannot be put together from two.

    Returns:
        For each proxy its parts, and `degenerate`: the logits do not depend on the input.
    """
    passes = frozenset().union(*(proxy.passes for proxy in proxies))
    readers = [proxy for proxy in proxies if "gradients" in proxy.passes]
    num_gradients = gradient_batch or len(images) if readers else len(images)

    def first_layer(num_layers: int) -> int:
        sets = np.ones((1, num_layers), bool) if layer_sets is None else layer_sets
        return min(proxy.first_layer(sets) for proxy in readers)

    head, rest = images[:num_gradients], images[num_gradients:]
    recorded = tape.record(
        network,
        head,
        labels[:num_gradients] if readers else None,
        loss=loss,
        first_layer=first_layer if readers else 0,
    )
    activations = recorded.activations
    if "patterns" in passes and len(rest):
        more = tape.record(network, images if batch_coupled else rest).activations
        activations = (
            more
            if batch_coupled
            else [
                dataclasses.replace(a, post=jnp.concatenate([a.post, b.post]))
                for a, b in zip(activations, more, strict=True)
            ]
        )
    if "patterns" in passes and not activations:
        raise ValueError(
            "no activation function was found; known are "
            f"{', '.join(sorted(tape.ACTIVATIONS))} of jax.nn, tanh and erf-based GELU."
        )
    sizes = sizes_of(recorded, activations) if sizes is None else sizes
    if layer_sets is None:
        layer_sets = np.ones((1, len(recorded.layers)), bool)
    probe = Probe(
        recorded, activations, sizes["in_units"], sizes["out_units"], sizes["act_units"], layer_sets
    )
    parts = {proxy.name: proxy.measure(probe) for proxy in proxies if proxy.passes}
    return parts | {"degenerate": _constant(recorded.logits)}


def _constant(logits: Array) -> Array:
    """Whether all samples have the same logits, up to rounding; False for a single sample."""
    if len(logits) < 2:
        return jnp.zeros((), bool)
    scale = jnp.abs(logits).max()
    return jnp.abs(logits - logits[:1]).max() <= 16 * jnp.finfo(logits.dtype).eps * scale


def make_scorer(
    space: Space,
    proxies: Proxies = ("lswag",),
    *,
    gradient_batch: int | None = None,
    loss: tape.Loss = tape.cross_entropy,
    batch_norm: str = "frozen",
    batch_size: int | None = None,
) -> Callable[[Mapping, Mapping, Array, Array], dict[str, Any]]:
    """A pure function that scores encoded genotypes; jit it, or call it under your own jit or mesh.

    Args:
        space: the search space.
        proxies: names or configured proxies.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        loss: per-sample loss of (logits, labels).
        batch_norm: see `adapters.linen_network`.
        batch_size: architectures evaluated at once (vmap); None maps over them one by one, which
            is fastest on a CPU.

    Returns:
        `scorer(variables, encoded, images, labels)`: for each proxy a dictionary of parts with a
        leading axis P, among them `score`; and `degenerate` [P].

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (2.0,), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> encoded = space.encode(space.sample(np.random.default_rng(0), 2))
        >>> scorer = jax.jit(make_scorer(space, ("lswag", "swap")))
        >>> images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
        >>> scorer(space.init(jax.random.key(1)), encoded, images, jnp.arange(6) % 3)["swap"][
        ...     "score"].shape
        (2,)
    """
    resolved = proxy_registry.resolve(proxies)
    layer_sets = space.layer_sets()

    def scorer(variables, encoded, images, labels):
        def one(encoded):
            network = adapters.linen_network(
                space.network(), variables, encoded, batch_norm=batch_norm
            )
            return measure(
                network,
                images,
                labels,
                resolved,
                sizes=encoded,
                layer_sets=layer_sets,
                gradient_batch=gradient_batch,
                loss=loss,
                batch_coupled="batch_stats" in variables and batch_norm != "eval",
            )

        return jax.lax.map(one, encoded, batch_size=batch_size)

    return scorer


@functools.lru_cache(maxsize=32)
def _compiled(space, proxies, settings, images, labels, chunk, precision):
    """Executable of `make_scorer` for one chunk of genotypes, and the seconds it took."""
    start = time.perf_counter()
    scorer = make_scorer(space, proxies, **dict(settings))
    variables = jax.eval_shape(space.init, jax.random.key(0))
    variables = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, images.dtype), variables)
    encoded = {
        key: jax.ShapeDtypeStruct((chunk, *value.shape[1:]), value.dtype)
        for key, value in space.encode(space.sample(np.random.default_rng(0), 1)).items()
    }
    with jax.default_matmul_precision(precision):
        executable = jax.jit(scorer).lower(variables, encoded, images, labels).compile()
    return executable, time.perf_counter() - start


def score(
    space: Space,
    genotypes: Sequence[Any],
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    **settings: Any,
) -> ScoreTable:
    """Scores genotypes of a space at initialisation.

    All architectures see the same batch and slices of the same initial weights. One program is
    compiled for all genotypes of a space and batch shape, and kept for later calls.

    Args:
        space: the search space.
        genotypes: of this space.
        images: [B, H, W, C], floats, or uint8 that are divided by 255.
        labels: [B] integers.
        proxies: names (`proxies.names()`) or configured proxies.
        **settings: see `stream`.

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
        array([5587., 5587.])
    """
    resolved = proxy_registry.resolve(proxies)
    timing: dict[str, float] = {}
    rows = list(stream(space, genotypes, images, labels, resolved, timing=timing, **settings))
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
    loss: tape.Loss = tape.cross_entropy,
    precision: str = "highest",
    timing: dict[str, float] | None = None,
) -> Iterator[Row]:
    """Rows of `score` as they come, so that a caller can append each to a file.

    Args:
        space, genotypes, images, labels, proxies: as in `score`.
        seed: of the initial weights; repeat r uses seed + r.
        repeats: initialisations; scores are averaged, `ScoreTable.per_repeat` keeps each.
        gradient_batch: the first so many samples are the gradient batch, all are the pattern
            batch; None takes all for both.
        batch_size: architectures evaluated at once; None is 1 on a CPU and 8 elsewhere.
        batch_norm: see `adapters.linen_network`.
        loss: per-sample loss of (logits, labels).
        precision: of matrix products, see `jax.default_matmul_precision`.
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
        num_classes=space.num_classes,
        limit=PATTERN_LIMIT,
        gradient_batch=gradient_batch,
    )
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    for genotype in genotypes:
        space.check(genotype)
    timing = {} if timing is None else timing
    timing |= {"compile": 0.0, "score": 0.0}
    run = None
    if any(proxy.passes for proxy in resolved):
        chunk = batch_size or (1 if jax.default_backend() == "cpu" else 8)
        options = (
            ("gradient_batch", gradient_batch),
            ("loss", loss),
            ("batch_norm", batch_norm),
            ("batch_size", chunk if chunk > 1 else None),
        )
        shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (images, labels)]
        misses = _compiled.cache_info().misses
        run, seconds = _compiled(space, resolved, options, *shapes, chunk, precision)
        timing["compile"] = seconds if _compiled.cache_info().misses > misses else 0.0
    else:
        chunk = len(genotypes)
    variables = [_initial(space, seed + r, images.dtype) for r in range(repeats)] if run else []
    for start in range(0, len(genotypes), max(chunk, 1)):
        members = list(genotypes[start : start + chunk])
        began = time.perf_counter()
        results = _run_chunk(space, members, chunk, run, variables, images, labels)
        elapsed = time.perf_counter() - began
        timing["score"] += elapsed
        yield from _rows(space, members, results, resolved, elapsed / len(members))


@functools.lru_cache(maxsize=8)
def _initial(space: Space, seed: int, dtype) -> Any:
    return jax.tree.map(lambda v: v.astype(dtype), jax.jit(space.init)(jax.random.key(seed)))


def _run_chunk(space, members, chunk, run, variables, images, labels) -> list[dict[str, Any]]:
    """Results of each repeat, as arrays with leading axis len(members)."""
    padded = members + members[-1:] * (chunk - len(members))
    encoded = space.encode(padded) if run else None
    results = [run(v, encoded, images, labels) for v in variables]
    return [
        jax.tree.map(lambda leaf: leaf[: len(members)], jax.device_get(result))
        for result in results
    ]


def _rows(space, members, results, proxies: Sequence[Proxy], seconds: float) -> Iterator[Row]:
    finished = {
        proxy.name: [proxy.finish(result[proxy.name]) for result in results]
        for proxy in proxies
        if proxy.passes
    }
    for i, genotype in enumerate(members):
        yield {
            "id": space.format(genotype),
            "genotype": genotype.to_json(),
            "params": space.num_params(genotype),
            "macs": space.macs(genotype),
            "seconds": seconds,
            "degenerate": [bool(result["degenerate"][i]) for result in results] or [False],
            "parts": {
                name: {key: [part[key][i].tolist() for part in parts] for key in parts[0]}
                for name, parts in finished.items()
            }
            | {proxy.name: {} for proxy in proxies if not proxy.passes},
        }


def score_model(
    module: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    gradient_batch: int | None = None,
    batch_norm: str = "frozen",
    loss: tape.Loss = tape.cross_entropy,
    precision: str = "highest",
) -> ScoreTable:
    """Scores one Flax classifier of the user's own, Linen or NNX, with the weights it has.

    Args:
        module: a Linen module, or an NNX model (which holds its own weights).
        variables: of the Linen module; None for an NNX model.
        images: [B, H, W, C] or whatever the model takes, floats or uint8 (divided by 255).
        labels: [B] integers.
        proxies: names or configured proxies.
        args, kwargs: further arguments of the model's call. Arguments called train, training,
            is_training or deterministic are set for evaluation unless given.
        num_classes: for checking labels; None reads the width of the logits.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        batch_norm: see `adapters.linen_network`.
        loss: per-sample loss of (logits, labels).
        precision: of matrix products.

    Returns:
        A `ScoreTable` with one row.

    Raises:
        ValueError: bad images, labels or proxies; no weight layer or no activation was captured.

    Example:
        >>> class MLP(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(3)(nn.relu(nn.Dense(16)(x.reshape(len(x), -1))))
        >>> images = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype("float32")
        >>> variables = MLP().init(jax.random.key(0), images)
        >>> table = score_model(MLP(), variables, images, np.arange(8) % 3, ("lswag", "params"))
        >>> int(table["params"][0]), table.status[0]
        (323, 'ok')
    """
    resolved = proxy_registry.resolve(proxies)
    images, labels = check_inputs(
        images, labels, num_classes=num_classes, limit=PATTERN_LIMIT, gradient_batch=gradient_batch
    )
    if isinstance(module, nnx.Module):
        graph, weights = nnx.split(module)

        def adapt(weights):
            merged = nnx.merge(graph, weights)
            return adapters.nnx_network(merged, *args, batch_norm=batch_norm, **(kwargs or {}))

        params = nnx.state(module, nnx.Param)
        coupled = any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(module))
    elif isinstance(module, nn.Module):
        weights, params = variables, variables["params"]

        def adapt(weights):
            return adapters.linen_network(
                module, weights, *args, batch_norm=batch_norm, **(kwargs or {})
            )

        coupled = "batch_stats" in variables
    else:
        raise ValueError(f"module must be a Linen or NNX module, got {type(module).__name__}.")

    def forward(weights, images):
        return adapt(weights)(images, lambda *call: call[-1])

    logits = jax.eval_shape(forward, weights, images)
    check_inputs(images, labels, num_classes=logits.shape[-1])

    def run(weights, images, labels):
        return measure(
            adapt(weights),
            images,
            labels,
            resolved,
            gradient_batch=gradient_batch,
            loss=loss,
            batch_coupled=coupled and batch_norm != "eval",
        )

    start = time.perf_counter()
    with jax.default_matmul_precision(precision):
        executable = jax.jit(run).lower(weights, images, labels).compile()
    compiled = time.perf_counter()
    result = jax.device_get(executable(weights, images, labels))
    elapsed = time.perf_counter() - compiled
    result = jax.tree.map(lambda leaf: np.asarray(leaf)[None], result)
    row = {
        "id": type(module).__name__,
        "genotype": None,
        "params": sum(int(leaf.size) for leaf in jax.tree.leaves(params)),
        "macs": count_macs(forward, weights, images[:1]),
        "seconds": elapsed,
        "degenerate": [bool(result["degenerate"][0])],
        "parts": {
            proxy.name: {
                key: value.tolist() for key, value in proxy.finish(result[proxy.name]).items()
            }
            if proxy.passes
            else {}
            for proxy in resolved
        },
    }
    return ScoreTable([row], resolved, {"compile": compiled - start, "score": elapsed})
