"""Measuring what networks cost on the device at hand, each network once."""

import functools
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.proxies import Cost, Latency, Proxy
from lswag_jax.scoring import devices
from lswag_jax.scoring.faults import FAULTS, why
from lswag_jax.spaces import NetworkError, Space, modes

WARM_UP = 3  # runs before those that are timed


class Costs:
    """Measures the cost proxies of a space's networks, each network once.

    Args:
        space: of the networks.
        proxies: only the `Cost` ones among them are used.
        archive: rows measured before, `id` and `costs` each; receives those that `agreed` measures.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.get("nasbench201", width=4, cells=1, image_size=8)
        >>> g = space.sample(np.random.default_rng(0), 1)[0]
        >>> sorted(Costs(space, [Latency(runs=3)])(g))
        ['latency']
    """

    def __init__(self, space: Space, proxies: Iterable[Proxy], archive: Any = None) -> None:
        self.space, self.archive = space, [] if archive is None else archive
        self.asked = 0  # times that costs were agreed on, the same in all processes of a job
        self.proxies = [proxy for proxy in proxies if isinstance(proxy, Cost)]
        self.known = {
            row["id"]: {key: float(value) for key, value in row["costs"].items()}
            for row in self.archive
        }

    def __call__(self, genotype: Any) -> dict[str, float]:
        """The cost of a network by each proxy's key; NaN where the device cannot run it."""
        known = self.known.get(self.space.format(genotype))
        return measure(self.space, genotype, self.proxies) if known is None else known

    def agreed(self, genotype: Any) -> dict[str, float]:
        """Costs that the first process of a job measures for all; they are kept in the archive."""
        name = self.space.format(genotype)
        self.asked += 1
        # Of a job that was resumed only the first process has read what was known.
        self.known[name] = devices.on_first(lambda: self._kept(name, genotype))
        return self.known[name]

    def _kept(self, name: str, genotype: Any) -> dict[str, float]:
        if name not in self.known:
            self.known[name] = self(genotype)
            self.archive.append({"id": name, "costs": self.known[name]})
        return self.known[name]


def measure(space: Space, genotype: Any, proxies: Sequence[Cost]) -> dict[str, float]:
    """Measures one network: compiles it for each batch and type, and times it for latencies.

    Args:
        space, genotype: of the network, of which `build` makes the exact module; in evaluation.
        proxies: what to measure.

    Returns:
        By each proxy's key seconds or bytes; NaN where the network cannot be run. Weights
        that its output does not depend on are not held.

    Example:
        >>> from lswag_jax import spaces
        >>> from lswag_jax.proxies import Memory
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (2.0,), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> g = space.sample(np.random.default_rng(0), 1)[0]
        >>> one, more = (measure(space, g, [Memory(batch=b)])["memory"] for b in (1, 64))
        >>> 4 * space.num_params(g) < one < more
        True
    """
    compiled = functools.cache(functools.partial(_compile, space, genotype))
    found = {}
    for proxy in proxies:
        try:
            space.num_params(genotype)  # says what is wrong with a network that does not run
            program, arguments = compiled(proxy.batch, proxy.dtype)
            if isinstance(proxy, Latency):
                found[proxy.key] = _seconds(program, _filled(arguments), proxy.runs)
            else:
                found[proxy.key] = _bytes(program)
        except (jax.errors.JaxRuntimeError, NetworkError, MemoryError):  # of device or host
            found[proxy.key] = float("nan")
    return found


def _compile(space: Space, genotype: Any, batch: int, dtype: str) -> tuple[Any, tuple]:
    """The compiled forward pass of the exact network, and the shapes of its arguments."""
    module = modes.in_mode(space.build(genotype))
    mode = modes.arguments(type(module).__call__, 2)
    one = jnp.zeros((1, *space.image_shape))
    shapes = jax.eval_shape(functools.partial(module.init, **mode), jax.random.key(0), one)

    def typed(leaf: Any) -> jax.ShapeDtypeStruct:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if is_float else leaf.dtype)

    images = jax.ShapeDtypeStruct((batch, *space.image_shape), jnp.dtype(dtype))
    arguments = (jax.tree.map(typed, shapes), images)
    forward = jax.jit(functools.partial(module.apply, **mode))
    try:
        lowered = forward.lower(*arguments)
    except FAULTS as error:  # a network that is written for one number of images
        raise NetworkError(f"{space.format(genotype)}: {why(error)}.") from error
    return lowered.compile(), arguments


def _filled(arguments: tuple) -> tuple:
    """Arguments of these shapes; how long a pass takes depends on no more than shapes and types."""
    rng = np.random.default_rng(0)

    def filled(leaf: Any) -> jax.Array:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        values = rng.uniform(0.01, 0.1, leaf.shape) if is_float else np.zeros(leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map(filled, arguments)


def _seconds(program: Any, arguments: tuple, runs: int) -> float:
    """Median of the timed runs, each until its outputs are ready."""
    spent = []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[WARM_UP:])


def _bytes(program: Any) -> float:
    """What a program holds at once: its scratch is one block beside arguments and outputs."""
    plan = program.memory_analysis()
    if plan is None:  # the compiler of this device does not tell
        return float("nan")
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return held - plan.alias_size_in_bytes
