"""Compiled programs that measure networks of a space: one for all of it, or block by block."""

import collections
import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax.capture import adapters, chain
from lswag_jax.capture.coverage import Coverage, batch_statistics
from lswag_jax.capture.record import Program
from lswag_jax.probe import Candidate, Draws
from lswag_jax.probe.candidate import shapes_of
from lswag_jax.proxies import Proxy
from lswag_jax.scoring import devices
from lswag_jax.scoring.faults import FAULTS, why
from lswag_jax.scoring.measure import measure
from lswag_jax.scoring.options import ScoreOptions
from lswag_jax.scoring.waiting import said
from lswag_jax.spaces import NetworkError, Space, initial

Array = jax.Array
Results = dict[str, Any]
# Multiply-accumulates of all runs of a network's own program, below which optimising it costs more
# (10 to 14 seconds of a CPU core) than it gains (a run ten to twenty times as fast).
WORTH_OPTIMISING = 2 * 10**8
# Those of forward passes that a narrower program must save to be compiled, which takes 10 CPU
# seconds: L-SWAG saves as many over 3 to 8 10^10 (AutoFormer-Tiny at 32 and 224 px).
WORTH_NARROWING = 4 * 10**10
Run = Callable[[Any, Sequence[Any], Array, Array, Array], Results]


def elastic_scorer(
    space: Space, proxies: Sequence[Proxy], options: ScoreOptions, whole: Space | None = None
) -> Callable[..., Results]:
    """A pure function that measures encoded genotypes, see `make_scorer`.

    Args:
        space, proxies, options: what to measure, and how.
        whole: the space whose variables it takes, where `space` is one that it was narrowed to.
    """

    def scorer(variables, encoded, images, labels, key=None):
        draws = Draws(jax.random.key(0) if key is None else key)
        if whole not in (None, space):
            draws = dataclasses.replace(draws, shapes=shapes_of(variables))
            variables = space.corner(variables)

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
            return _measured(space, proxies, options, candidate, images, labels, draws)

        return jax.lax.map(one, encoded, batch_size=options.batch_size)

    return scorer


def _measured(space, proxies, options, candidate: Candidate, images, labels, draws) -> Results:
    """`measure` by a call's options, whose loss is that of the space's task unless given."""
    loss, size = options.loss or space.task.loss, options.gradient_batch
    return measure(candidate, images, labels, proxies, gradient_batch=size, loss=loss, draws=draws)


def runner(
    space: Space,
    genotypes: Sequence[Any],
    proxies: Sequence[Proxy],
    options: ScoreOptions,
    images: Array,
    labels: Array,
    hardware: devices.Devices,
) -> Run:
    """A function of (variables, genotypes, images, labels, key) that measures a chunk of them.

    Args:
        space, genotypes, proxies, options: what to measure, and how.
        images, labels: arrays of the shapes that it will be called with.
        hardware: devices of this process.
    """
    if not space.is_elastic:
        return functools.partial(_run_chain, space, proxies, options)
    each = options.members_at_once
    mapped = ScoreOptions(
        gradient_batch=options.gradient_batch,
        loss=options.loss,
        batch_norm=options.batch_norm,
        batch_size=each if each > 1 else None,
    )
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (images, labels)]
    rest = (mapped, *shapes, each, hardware.local, options.precision)
    narrow: set[Space] = set()
    if each == len(hardware.local) == 1 and hardware.local[0].platform == "cpu":
        narrow = _worth_narrowing(space, genotypes, len(images) * options.repeats)

    def within(members: Sequence[Any]) -> Space:
        own = space.narrowed(members)
        return own if own in narrow else space

    programs = {
        own: [_compiled(space, own, some, *rest) for some in proxy_registry.programs(proxies)]
        for own in dict.fromkeys(within([g]) for g in genotypes)
    }
    _, split = devices.shardings(hardware.local)

    def run(variables, members, *batch):
        encoded = jax.device_put(space.encode(members), split)
        return merged(
            [program(variables, encoded, *batch) for program in programs[within(members)]]
        )

    return run


def _worth_narrowing(space: Space, genotypes: Sequence[Any], runs: int) -> set[Space]:
    """Narrower spaces whose programs save more than compiling them costs.

    Args:
        space, genotypes: what is measured, one by one.
        runs: inputs that each genotype is measured with.
    """
    counts = collections.Counter(space.narrowed([g]) for g in genotypes)
    counts.pop(space, None)

    def saved(narrow: Space) -> int:
        return runs * (space.macs(space.largest()) - narrow.macs(narrow.largest()))

    return {narrow for narrow, n in counts.items() if n * saved(narrow) >= WORTH_NARROWING}


@functools.lru_cache(maxsize=64)
def _compiled(space, within, proxies, options, images, labels, each, local_devices, precision):
    """Compiles `elastic_scorer` for chunks of `each` genotypes on each of the devices."""
    scorer = elastic_scorer(within, proxies, options, space)
    variables = jax.eval_shape(space.init, jax.random.key(0))
    variables = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, images.dtype), variables)
    encoded = {
        key: jax.ShapeDtypeStruct((each * len(local_devices), *value.shape[1:]), value.dtype)
        for key, value in space.encode(space.sample(np.random.default_rng(0), 1)).items()
    }
    names = ", ".join(proxy.key for proxy in proxies)
    kind = space.name if within == space else f"narrower networks of {space.name}"
    with said(f"compiling {names} for {kind}"), jax.default_matmul_precision(precision):
        key = jax.eval_shape(lambda: jax.random.key(0))
        run = devices.over_devices(scorer, local_devices)
        lowered = run.lower(variables, encoded, images, labels, key)
        return lowered.compile(compiler_options=devices.compiler_options())


def _run_chain(space, proxies, options, variables, members, images, labels, key) -> Results:
    """Measures one network block by block, with a leading axis of one; a single block whole."""
    chain.drop_programs_when_full()
    (genotype,) = members
    blocks = space.chain(genotype)
    if len(blocks) == 1:
        return _run_whole(space, proxies, options, variables, genotype, images, labels, key)
    if options.batch_norm == "through":
        raise ValueError(
            f"batch_norm='through' needs one program per network, which {space.name} lacks."
        )
    # On the host: no program per shape.
    exact_variables = space.extract(jax.device_get(variables), genotype)
    candidate = Candidate(
        lambda variables, mode: chain.Chain(blocks, variables, mode),
        jax.device_put(exact_variables, images.sharding),
        options.batch_norm,
        has_batch_norm=True,
        any_size=space.any_size,
    )
    with jax.default_matmul_precision(options.precision):
        result = _measured(space, proxies, options, candidate, images, labels, Draws(key))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], result)


def _run_whole(space, proxies, options, variables, genotype, images, labels, key) -> Results:
    """Measures one network by a program of its own, with a leading axis of one."""
    exact_variables = _in_type(space.extract(variables, genotype), images.dtype)
    macs = space.macs(genotype) * len(images) * options.repeats
    results = []
    for some in proxy_registry.programs(proxies):
        run = _whole(space, genotype, some, options, macs < WORTH_OPTIMISING)
        try:
            with jax.default_matmul_precision(options.precision):
                results.append(run(exact_variables, images, labels, key))
        except jax.errors.JaxRuntimeError:  # such as out of memory
            raise
        except FAULTS as error:  # the user's network, as it is traced
            name = f"{space.format(genotype)} of {space.name}"
            raise NetworkError(f"{name}: {why(error)}.") from error
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], merged(results))


@functools.lru_cache(maxsize=8)
def _whole(space, genotype, proxies, options, in_a_hurry: bool) -> Callable[..., Results]:
    """Measures one network of given variables; compiled once for a shape of the batch."""
    (block,) = space.chain(genotype)

    def make(variables, mode):
        return adapters.linen_network(block.module, variables, batch_norm=mode)

    def run(variables, images, labels, key):
        has_batch_norm = "batch_stats" in variables
        candidate = Candidate(
            make, variables, options.batch_norm, has_batch_norm, any_size=space.any_size
        )
        return _measured(space, proxies, options, candidate, images, labels, Draws(key))

    if in_a_hurry:
        return initial.jitted(run)
    return jax.jit(run, compiler_options=devices.compiler_options())


def coverage_of(
    space: Space, genotype: Any, variables: Any, batch_norm: str, images: Any
) -> Coverage | None:
    """What proxies see of a network that has a program of its own; None of other networks.

    Args:
        space, genotype: of the network.
        variables: initial ones of the space.
        batch_norm: the mode in which per-sample gradients are taken.
        images: the batch.
    """
    blocks = space.chain(genotype)
    if blocks is None or len(blocks) > 1:  # a space with a plan, which says what there is
        return None
    own = space.extract(variables, genotype)
    network = adapters.linen_network(blocks[0].module, own, batch_norm=batch_norm)
    return Coverage.of(Program.trace(network, images), batch_norm, batch_statistics(own))


@functools.lru_cache(maxsize=8)
def initial_variables(space: Space, seed: int, dtype) -> Mapping[str, Any]:
    """Initial variables, kept for later calls."""
    return _in_type(_draw(space)(jax.random.key(seed)), dtype)


@functools.lru_cache(maxsize=8)
def _draw(space: Space) -> Callable[[jax.Array], Any]:
    """Draws a space's variables; compiled once for all seeds, in a hurry."""
    return initial.drawing(space.init)


def _in_type(variables: Any, dtype: Any) -> Any:
    """Variables whose floats are of a type; other numbers, such as those of a key, stay."""

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, variables)


def merged(results: Sequence[Results]) -> Results:
    """Joins, on the host, what `measure` returned for each set of proxies.

    `degenerate` is what every program finds so, since some of them see more samples than others.
    """
    results = jax.device_get(results)
    degenerate = np.logical_and.reduce([result["degenerate"] for result in results])
    return functools.reduce(operator.or_, results) | {"degenerate": degenerate}


def count() -> int:
    """How many compiled programs are kept."""
    return _compiled.cache_info().currsize + _whole.cache_info().currsize


def clear() -> None:
    """Drops the compiled programs and initial variables that are kept for later calls."""
    _compiled.cache_clear()
    _whole.cache_clear()
    initial_variables.cache_clear()
    _draw.cache_clear()
