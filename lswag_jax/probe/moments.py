"""Mean and variance of gradients, weight by weight: over samples in one stream, or mini-batches."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.capture.tape import Layer, Tape

Array = jax.Array
_GRADIENTS = 2**26  # bytes of samples' gradients of one parameter that are held at most


@dataclasses.dataclass(frozen=True)
class GradientRequests:
    """What the proxies of a run read of the gradients, so that one pass over samples serves all.

    Attributes:
        samples: per-sample moments that are read: True for those of |g|, False for those of g,
            None for no per-sample moments.
        batches: mini-batches whose gradients are kept: all numbers that are wanted divide it.
    """

    samples: bool | None = None
    batches: int = 1


class Moments(NamedTuple):
    """Statistics over n gradients g_i of each weight, in the shape of the parameter.

    Attributes:
        mean_abs: mean_i |g_i|.
        variance: of |g_i|, or of g_i where `absolute` was False, with divisor n.
        mean: of |g_i| or g_i, as for `variance`.
    """

    mean_abs: Array
    variance: Array
    mean: Array

    def rescaled(self, n: int, scale: float = 1.0, ddof: int = 0) -> "Moments":
        """Moments of the gradients times `scale`, the variance with divisor n - ddof.

        Raises:
            ValueError: ddof is not below the number n of gradients.
        """
        if ddof >= n:
            raise ValueError(f"ddof must be below the number of gradients {n}, got {ddof}.")
        factor = scale**2 * n / (n - ddof)
        if scale == factor == 1:
            return self
        return Moments(self.mean_abs * scale, self.variance * factor, self.mean * scale)


class Stream(NamedTuple):
    """What one pass over the samples keeps of one parameter.

    Attributes:
        samples: moments over the samples' own gradients.
        batches: gradients [m, ...] of the mean losses of m mini-batches of consecutive samples.
    """

    samples: Moments
    batches: Array


def stream(
    layer: Layer, names: Sequence[str] = ("kernel",), *, absolute: bool = True, batches: int = 1
) -> dict[str, Stream]:
    """Per-sample moments of a layer's gradients and mini-batch gradients, in one pass.

    A linear layer holds up to 64 MB of samples' gradients at once, a convolution those of at most
    four samples, whose patches stay in the cache. Moments use Chan's form of Welford's update,
    which does not cancel as E[v^2] - E[v]^2 does. After i values, with mean m_k and sum of squared
    deviations M2_k of the next k values v = |g| or g:

        delta    = m_k - m
        m       <- m + delta k / (i + k)
        M2      <- M2 + M2_k + delta^2 i k / (i + k)
        variance = M2 / B

    Args:
        layer: with output cotangents of the summed loss [B, ...].
        names: parameters wanted.
        absolute: variance of |g| instead of g.
        batches: number m of mini-batches.

    Returns:
        For each name what was kept.

    Raises:
        ValueError: the samples cannot be cut into so many mini-batches.

    Example:
        >>> from lswag_jax.capture import adapters
        >>> from lswag_jax.capture import tape
        >>> import flax.linen as nn
        >>> x, model = jnp.arange(6.0).reshape(3, 2), nn.Dense(1)
        >>> variables = {"params": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}}
        >>> squared = lambda out, y: 0.5 * (out[:, 0] - y) ** 2
        >>> t = tape.record(adapters.linen_network(model, variables), x, jnp.zeros(3), loss=squared)
        >>> stream(t.layers[0])["kernel"].samples.mean_abs.ravel()  # mean of (x0 + x1) x
        Array([15.333334, 20.333334], dtype=float32)
    """
    n = len(layer.calls[0].inputs)
    check_batches(n, batches)
    return _stream(layer.anonymous(), tuple(names), absolute, batches, _held(layer, n // batches))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _stream(
    layer: Layer, names: tuple[str, ...], absolute: bool, batches: int, k: int
) -> dict[str, Stream]:
    """See `stream`; k samples at a time; traced once for all layers of one kind and shape."""
    n = len(layer.calls[0].inputs)
    size = n // batches

    def step(carry, pairs):
        count, state, totals = carry
        stacked = jax.vmap(lambda *pairs: layer.gradient(names, pairs))(*pairs)
        grads = {name: [stacked[name][j] for j in range(k)] for name in names}
        state = {name: _update(state[name], count, grads[name], absolute) for name in names}
        totals = {name: totals[name] + sum(grads[name]) for name in names}
        return (count + k, state, totals), None

    def batch(carry, pairs):
        (*carry, totals), _ = jax.lax.scan(step, (*carry, zeros), pairs, unroll=k == size)
        return tuple(carry), jax.tree.map(lambda total: total / size, totals)

    zeros = {name: jnp.zeros_like(layer.params[name]) for name in names}
    start = jnp.zeros((), layer.params[names[0]].dtype)
    nothing = {name: (zero,) * 3 for name, zero in zeros.items()}
    pairs = _cut(layer, batches, size // k, k, 1)
    (_, state), gradients = jax.lax.scan(batch, (start, nothing), pairs, unroll=batches == 1)
    return {name: Stream(_moments(state[name], n), gradients[name]) for name in names}


def batch_gradients(layer: Layer, names: Sequence[str], batches: int) -> dict[str, Array]:
    """Gradients [m, ...] of the mean losses of m mini-batches, without those of single samples.

    On a CPU a few samples at a time, whose arrays stay in the cache: SNIP takes 0.65 of the time on
    AutoFormer-Tiny (batch 32) and 0.8 on NAS-Bench-201 (batch 64) that one product of all takes.

    Args:
        layer, names, batches: as in `stream`.

    Raises:
        ValueError: the samples cannot be cut into so many mini-batches.
    """
    n = len(layer.calls[0].inputs)
    check_batches(n, batches)
    k = _few(n // batches) if jax.default_backend() == "cpu" else n // batches
    return _batch_gradients(layer.anonymous(), tuple(names), batches, k)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _batch_gradients(
    layer: Layer, names: tuple[str, ...], batches: int, k: int
) -> dict[str, Array]:
    """See `batch_gradients`; k samples at a time."""
    size = len(layer.calls[0].inputs) // batches

    def step(totals, pairs):
        return jax.tree.map(jnp.add, totals, layer.gradient(names, pairs)), None

    def batch(pairs):
        zeros = {name: jnp.zeros_like(layer.params[name]) for name in names}
        totals, _ = jax.lax.scan(step, zeros, pairs)
        return jax.tree.map(lambda total: total / size, totals)

    return jax.lax.map(batch, _cut(layer, batches, size // k, k))


def _cut(layer: Layer, *shape: int) -> list[tuple[Array, Array]]:
    """Inputs and cotangents of each call, their samples in this shape."""

    def cut(a: Array) -> Array:
        return a.reshape(*shape, *a.shape[1:])

    return [(cut(x), cut(x_bar)) for x, x_bar in layer.pairs]


def _held(layer: Layer, n: int) -> int:
    """How many of n samples have their gradients held at once."""
    if layer.calls[0].inputs.ndim > 3:  # feature maps
        return _few(n)
    largest = max(param.nbytes for param in layer.params.values())
    most = max(_GRADIENTS // largest, 4)
    return next(k for k in range(min(n, most), 0, -1) if n % k == 0)


def _few(n: int) -> int:
    """The largest of 4, 3, 2 and 1 that divides n: samples whose gradients are taken at once."""
    return next(k for k in (4, 3, 2, 1) if n % k == 0)


def moments_of(gradients_n: Array, absolute: bool = True) -> Moments:
    """Moments over gradients that are all at hand [n, ...].

    Example:
        >>> moments_of(jnp.array([-1.0, 3.0])).variance  # of 1 and 3
        Array(1., dtype=float32)
    """
    nothing = (jnp.zeros_like(gradients_n[0]),) * 3
    none = jnp.zeros((), gradients_n.dtype)
    return _moments(_update(nothing, none, list(gradients_n), absolute), len(gradients_n))


def coupled_moments(tape: Tape, *, absolute: bool = True) -> dict[str, dict[str, Moments]]:
    """Moments of every layer's parameters where samples interact: a backward pass a loss term.

    The gradient of sample i's loss is summed over all samples, since through the statistics of
    BatchNorm it depends on their activations too. B backward passes for B samples.

    Args:
        tape: with gradients, of a network that is differentiated through its statistics.
        absolute: as in `stream`.

    Returns:
        For each layer's name the moments of each parameter.
    """
    losses, pull = tape.losses, tape.pull
    assert losses is not None
    assert pull is not None
    n = len(losses)

    def step(states, weights_B):
        count, states = states
        new = {}
        for layer in pull(weights_B):
            if layer.name not in states:  # below the first layer that is wanted
                continue
            state = states[layer.name]
            grads = layer.gradient(tuple(state), layer.pairs)
            new[layer.name] = {
                name: _update(state[name], count, [grads[name]], absolute) for name in state
            }
        return (count + 1, new), None

    zeros = {
        layer.name: {name: (jnp.zeros_like(p),) * 3 for name, p in layer.params.items()}
        for layer in tape.layers
        if layer.calls[0].cotangent is not None
    }
    weights_BxB = jnp.eye(n, dtype=losses.dtype)
    (_, states), _ = jax.lax.scan(step, (jnp.zeros((), losses.dtype), zeros), weights_BxB)
    return {
        layer: {name: _moments(one, n) for name, one in state.items()}
        for layer, state in states.items()
    }


def check_batches(n: int, batches: int) -> None:
    """Raise ValueError unless n samples can be cut into so many equal mini-batches."""
    if batches < 1 or n % batches:
        raise ValueError(f"{n} samples cannot be cut into {batches} equal mini-batches.")


def _moments(state: Sequence[Array], n: int) -> Moments:
    mean_abs, mean, m2 = state
    return Moments(mean_abs, m2 / n, mean)


def _update(
    state: Sequence[Array], count: Array, grads: list[Array], absolute: bool
) -> tuple[Array, Array, Array]:
    """Adds k gradients to running moments of `count` ones.

    The k are combined in registers, by differences to the first, so that equal gradients have a
    deviation of exactly zero; one pass over memory serves all k.
    """
    mean_abs, mean, m2 = state
    k, magnitudes = len(grads), [jnp.abs(g) for g in grads]
    values = magnitudes if absolute else grads
    mean_k = _mean(values)
    m2_k = sum((v - mean_k) ** 2 for v in values)
    delta, total = mean_k - mean, count + k
    mean = mean + delta * (k / total)
    m2 = m2 + m2_k + delta**2 * (count * k / total)
    if not absolute:
        mean_abs = mean_abs + (_mean(magnitudes) - mean_abs) * (k / total)
    return mean if absolute else mean_abs, mean, m2


def _mean(values: list[Array]) -> Array:
    return values[0] + sum(v - values[0] for v in values[1:]) / len(values)


def coarser(gradients_m: Array, n: int) -> Array:
    """Gradients of n mini-batches from those of m, which n divides."""
    m, *shape = gradients_m.shape
    return gradients_m if m == n else gradients_m.reshape(n, m // n, *shape).mean(1)


def same_layer(by_name: Mapping[str, Any], layer: Layer) -> Any:
    """The entry of `layer`, which normalisation layers do not have."""
    if layer.name not in by_name:
        raise ValueError(
            "normalisation layers of a network with BatchNorm have no moments over mini-batches or "
            "through its statistics: set include_norm=False, or var_over='sample' and "
            "batch_norm='frozen'."
        )
    return by_name[layer.name]
