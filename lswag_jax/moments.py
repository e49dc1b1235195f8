"""Mean and variance of per-sample (or mini-batch) gradients, weight by weight, in one stream."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.tape import Layer, Tape

Array = jax.Array


class Moments(NamedTuple):
    """Statistics over n gradients g_i of each weight, in the shape of the parameter.

    Attributes:
        mean_abs: mean_i |g_i|.
        variance: of |g_i|, or of g_i where `absolute` was False, with divisor n - ddof.
        mean: of the same.
    """

    mean_abs: Array
    variance: Array
    mean: Array


def gradient_moments(
    layer: Layer,
    names: Sequence[str] = ("kernel",),
    *,
    groups: int | None = None,
    absolute: bool = True,
    scale: float = 1.0,
    ddof: int = 0,
) -> dict[str, Moments]:
    """Moments of a layer's gradients in one stream; never more than four gradients are held.

    Chan's form of Welford's update, which does not cancel as E[v^2] - E[v]^2 does. With mean m_k
    and sum of squared deviations M2_k of the next k values v = |g| or g, after i of them,

        delta    = m_k - m
        m       <- m + delta k / (i + k)
        M2      <- M2 + M2_k + delta^2 i k / (i + k)
        variance = M2 / (n - ddof)

    Args:
        layer: with output cotangents of the summed loss [B, ...].
        names: parameters wanted.
        groups: number n of gradients: each is of the mean loss of B / n consecutive samples;
            None takes every sample by itself, n = B.
        absolute: variance of |g| instead of g.
        scale: factor on every gradient.
        ddof: delta degrees of freedom of the variance.

    Returns:
        For each name its moments.

    Example:
        >>> from lswag_jax import adapters, tape
        >>> import flax.linen as nn
        >>> x, model = jnp.arange(6.0).reshape(3, 2), nn.Dense(1)
        >>> variables = {"params": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}}
        >>> squared = lambda out, y: 0.5 * (out[:, 0] - y) ** 2
        >>> t = tape.record(adapters.linen_network(model, variables), x, jnp.zeros(3), loss=squared)
        >>> gradient_moments(t.layers[0])["kernel"].mean_abs.ravel()  # mean of (x0 + x1) x
        Array([15.333334, 20.333334], dtype=float32)
    """
    batch = layer.calls[0].inputs.shape[0]
    n = batch if groups is None else groups
    if n < 1 or batch % n:
        raise ValueError(f"{batch} samples cannot be cut into {n} equal mini-batches.")
    if ddof >= n:
        raise ValueError(f"ddof must be below the number of gradients {n}, got {ddof}.")
    return _stream(layer.anonymous(), tuple(names), n, absolute, scale, ddof)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _stream(
    layer: Layer, names: tuple[str, ...], n: int, absolute: bool, scale: float, ddof: int
) -> dict[str, Moments]:
    """Moments of `n` gradients; traced once for all layers of one kind and shape."""
    batch = layer.calls[0].inputs.shape[0]
    k = next(k for k in (4, 3, 2, 1) if n % k == 0)
    pairs = [
        tuple(a.reshape(n // k, k, batch // n, *a.shape[1:]) for a in (c.inputs, c.cotangent))
        for c in layer.calls
    ]
    factor = scale * n / batch

    def step(carry, pairs):
        count, state = carry
        stacked = jax.vmap(lambda *pairs: layer.gradient(names, pairs))(*pairs)
        grads = [jax.tree.map(lambda g, j=j: g[j], stacked) for j in range(k)]
        state = {
            name: _update(*state[name], count, [g[name] * factor for g in grads], absolute)
            for name in names
        }
        return (count + k, state), None

    zeros = {name: (jnp.zeros_like(layer.params[name]),) * 3 for name in names}
    start = jnp.zeros((), layer.calls[0].inputs.dtype)
    (_, state), _ = jax.lax.scan(step, (start, zeros), pairs)
    return _moments(state, n - ddof)


def coupled_moments(
    tape: Tape,
    names: Sequence[str] = ("kernel",),
    *,
    absolute: bool = True,
    scale: float = 1.0,
    ddof: int = 0,
) -> dict[str, dict[str, Moments]]:
    """Moments of every weight layer where samples interact: one backward pass a loss term.

    The gradient of sample i's loss is summed over all samples, since through the statistics of
    BatchNorm it depends on their activations too. B backward passes for B samples.

    Args:
        tape: with gradients, of a network that is differentiated through its statistics.
        names, absolute, scale, ddof: as in `gradient_moments`.

    Returns:
        For each layer's name what `gradient_moments` returns.
    """
    n = len(tape.losses)

    def step(states, weights_B):
        count, states = states
        new = {}
        for layer in tape.pull(weights_B):
            if layer.name not in states:  # below the first layer that is wanted
                continue
            grads = layer.gradient(names, [(c.inputs, c.cotangent) for c in layer.calls])
            new[layer.name] = {
                name: _update(*states[layer.name][name], count, [grads[name] * scale], absolute)
                for name in names
            }
        return (count + 1, new), None

    zeros = {
        layer.name: {name: (jnp.zeros_like(layer.params[name]),) * 3 for name in names}
        for layer in tape.layers
        if layer.calls[0].cotangent is not None
    }
    weights_BxB = jnp.eye(n, dtype=tape.losses.dtype)
    (_, states), _ = jax.lax.scan(step, (jnp.zeros((), tape.losses.dtype), zeros), weights_BxB)
    return {layer: _moments(state, n - ddof) for layer, state in states.items()}


def _moments(state: dict[str, tuple[Array, Array, Array]], divisor: int) -> dict[str, Moments]:
    """Of each parameter's mean |g|, mean and sum of squared deviations."""
    return {
        name: Moments(mean_abs, m2 / divisor, mean) for name, (mean_abs, mean, m2) in state.items()
    }


def _update(
    mean_abs: Array, mean: Array, m2: Array, count: Array, grads: list[Array], absolute: bool
) -> tuple[Array, Array, Array]:
    """Adds k gradients to running moments of `count` ones.

    The k are combined in registers, by differences to the first, so that equal gradients have a
    deviation of exactly zero; one pass over memory serves all k.
    """
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
