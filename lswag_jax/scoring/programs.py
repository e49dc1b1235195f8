"""Compiled programs that measure networks of a space: one for all of it, or block by block."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax.capture import adapters, chain
from lswag_jax.probe import Candidate, Draws
from lswag_jax.proxies import Proxy
from lswag_jax.scoring import devices
from lswag_jax.scoring.measure import measure
from lswag_jax.scoring.options import ScoreOptions
from lswag_jax.spaces import Space

Array = jax.Array
Results = dict[str, Any]
Run = Callable[[Any, Sequence[Any], Array, Array, Array], Results]


def elastic_scorer(
    space: Space, proxies: Sequence[Proxy], options: ScoreOptions
) -> Callable[..., Results]:
    """A pure function that measures encoded genotypes, see `make_scorer`."""

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
                options.batch_norm,
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
                proxies,
                gradient_batch=options.gradient_batch,
                loss=options.loss or space.task.loss,
                draws=draws,
            )

        return jax.lax.map(one, encoded, batch_size=options.batch_size)

    return scorer


def runner(
    space: Space,
    proxies: Sequence[Proxy],
    options: ScoreOptions,
    images: Array,
    labels: Array,
    hardware: devices.Devices,
    is_chain: bool,
) -> Run:
    """A function of (variables, genotypes, images, labels, key) that measures a chunk of them.

    Args:
        space, proxies, options: what to measure, and how.
        images, labels: arrays of the shapes that it will be called with.
        hardware: devices of this process.
        is_chain: the networks have no program in common and run block by block, one at a time.

    Raises:
        ValueError: a mode of BatchNorm that chains do not have.
    """
    if is_chain:
        if options.batch_norm == "through":
            raise ValueError(
                f"batch_norm='through' needs one program per network, which {space.name} lacks."
            )
        return functools.partial(_run_chain, space, proxies, options)
    each = options.members_at_once
    mapped = ScoreOptions(
        gradient_batch=options.gradient_batch,
        loss=options.loss,
        batch_norm=options.batch_norm,
        batch_size=each if each > 1 else None,
    )
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (images, labels)]
    programs = [
        _compiled(space, some, mapped, *shapes, each, hardware.local, options.precision)
        for some in proxy_registry.programs(proxies)
    ]
    _, split = devices.shardings(hardware.local)

    def run(variables, genotypes, *batch):
        encoded = jax.device_put(space.encode(genotypes), split)
        return merged([program(variables, encoded, *batch) for program in programs])

    return run


@functools.lru_cache(maxsize=32)
def _compiled(space, proxies, options, images, labels, each, local_devices, precision):
    """Compiles `elastic_scorer` for chunks of `each` genotypes on each of the devices."""
    scorer = elastic_scorer(space, proxies, options)
    variables = jax.eval_shape(space.init, jax.random.key(0))
    variables = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, images.dtype), variables)
    encoded = {
        key: jax.ShapeDtypeStruct((each * len(local_devices), *value.shape[1:]), value.dtype)
        for key, value in space.encode(space.sample(np.random.default_rng(0), 1)).items()
    }
    with jax.default_matmul_precision(precision):
        key = jax.eval_shape(lambda: jax.random.key(0))
        run = devices.over_devices(scorer, local_devices)
        return run.lower(variables, encoded, images, labels, key).compile()


def _run_chain(space, proxies, options, variables, members, images, labels, key) -> Results:
    """Measures one network block by block, with a leading axis of one."""
    chain.drop_programs_when_full()
    (genotype,) = members
    blocks = space.chain(genotype)
    own = space.extract(jax.device_get(variables), genotype)  # on the host: no program per shape
    candidate = Candidate(
        lambda variables, mode: chain.Chain(blocks, variables, mode),
        jax.device_put(own, images.sharding),
        options.batch_norm,
        has_batch_norm=True,
        any_size=space.any_size,
    )
    with jax.default_matmul_precision(options.precision):
        result = measure(
            candidate,
            images,
            labels,
            proxies,
            gradient_batch=options.gradient_batch,
            loss=options.loss or space.task.loss,
            draws=Draws(key),
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], result)


@functools.lru_cache(maxsize=8)
def initial_variables(space: Space, seed: int, dtype) -> Mapping[str, Any]:
    """Initial variables, kept for later calls; drawn by a program that is compiled in a hurry."""
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    draw = jax.jit(space.init, compiler_options=quick)
    return jax.tree.map(lambda v: v.astype(dtype), draw(jax.random.key(seed)))


def merged(results: Sequence[Results]) -> Results:
    """Joins, on the host, what `measure` returned for each set of proxies.

    `degenerate` is what every program finds so, since some of them see more samples than others.
    """
    results = jax.device_get(results)
    degenerate = np.logical_and.reduce([result["degenerate"] for result in results])
    return functools.reduce(operator.or_, results) | {"degenerate": degenerate}


def count() -> int:
    """How many compiled programs are kept."""
    return _compiled.cache_info().currsize


def clear() -> None:
    """Drops the compiled programs and initial variables that are kept for later calls."""
    _compiled.cache_clear()
    initial_variables.cache_clear()
