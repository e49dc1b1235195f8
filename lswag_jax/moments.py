"""Mean and variance of per-sample (or mini-batch) gradients, weight by weight, in one stream."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.tape import Layer

Array = jax.Array


class Moments(NamedTuple):
    """Statistics over n gradients g_i of each weight, in the shape of the parameter.

    Attributes:
        mean_abs: mean_i |g_i|.
        variance: of |g_i|, or of g_i where `absolute` was False, with divisor n - ddof.
    """

    mean_abs: Array
    variance: Array


def gradient_moments(
    layer: Layer,
    names: Sequence[str] = ("kernel",),
    *,
    groups: int | None = None,
    absolute: bool = True,
    scale: float = 1.0,
    ddof: int = 0,
) -> dict[str, Moments]:
    """Moments of a layer's gradients by Welford's update; never more than one gradient is held.

        delta_i  = v_i - m_{i-1},   v_i = |g_i| or g_i
        m_i      = m_{i-1} + delta_i / i
        M2_i     = M2_{i-1} + delta_i (v_i - m_i)
        variance = M2_n / (n - ddof)

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
        raise ValueError(f"{batch} samples cannot be cut into {n} mini-batches of one size.")
    pairs = [
        tuple(a.reshape(n, batch // n, *a.shape[1:]) for a in (call.inputs, call.cotangent))
        for call in layer.calls
    ]
    zeros = {name: jnp.zeros_like(layer.params[name]) for name in names}
    factor = scale * n / batch

    def step(carry, observation):
        count, *state = carry
        pairs, count = observation, count + 1
        gradient = layer.gradient(names, pairs)
        out = {
            name: _welford(gradient[name] * factor, absolute, count, *(s[name] for s in state))
            for name in names
        }
        return (count, *({name: out[name][i] for name in names} for i in range(3))), None

    start = jnp.zeros((), layer.calls[0].inputs.dtype)
    (_, mean_abs, _, m2), _ = jax.lax.scan(step, (start, zeros, zeros, zeros), pairs)
    return {name: Moments(mean_abs[name], m2[name] / (n - ddof)) for name in names}


def _welford(g: Array, absolute: bool, count: Array, mean_abs: Array, mean: Array, m2: Array):
    magnitude = jnp.abs(g)
    value = magnitude if absolute else g
    delta = value - mean
    mean = mean + delta / count
    m2 = m2 + delta * (value - mean)
    mean_abs = mean if absolute else mean_abs + (magnitude - mean_abs) / count
    return mean_abs, mean, m2
