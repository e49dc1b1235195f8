"""BatchNorm in the modes in which per-sample gradients exist."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.arrays import or_zeros
from lswag_jax.spaces.layers import masked

Array = jax.Array
STATISTICS = "lswag_jax_batch_statistics"  # where the samples of a batch may be mixed
BATCH_NORM_MODES = ("frozen", "eval", "batch1_train", "through")  # of per-sample gradients


def check_mode(batch_norm: str) -> None:
    """Raise ValueError unless per-sample gradients exist in this mode of BatchNorm."""
    if batch_norm not in BATCH_NORM_MODES:
        raise ValueError(f"batch_norm must be one of {BATCH_NORM_MODES}, got {batch_norm!r}.")


def run_batch_norm(
    hook: Callable,
    name: str,
    layer: Any,
    params: dict[str, Array],
    x: Array,
    running: tuple[Any, Any],
    mode: str,
    batch: int,
    active: Array | None = None,
) -> Array:
    """Calls a BatchNorm layer with the statistics of `mode`, the batch's with biased variance.

    Where `active`, the number of channels that an elastic layer has, is 0, nothing is computed.
    """
    features = layer.axis if isinstance(layer.axis, Sequence) else (layer.axis,)
    features = tuple(axis % x.ndim for axis in features)
    axes = _Axes(features, (1, *features) if getattr(layer, "by_tile", False) else features)
    shape = x.shape
    if mode == "batch1_train" and len(x) != batch and len(x) % batch == 0:
        x = x.reshape(batch, -1, *shape[1:])  # a sample's rows are normalised together
        axes = _Axes(*(tuple(axis + 1 for axis in each) for each in axes))
    output = masked(x, active)
    if mode != "off":
        if active is None:
            stats = _statistics(x, axes, mode, running)
            output = _normalise(axes, layer.epsilon, mode, params, x, stats)
        else:
            output, stats = _present(active, params, x, running, axes, layer.epsilon, mode)
            output = masked(output, active)
        apply = functools.partial(_repeat_norm, axes, layer.epsilon, mode)
        size = math.prod(size for axis, size in enumerate(x.shape) if axis not in axes.apart)
        mean, var = stats
        extra = BatchStatistics(*running, mean, var, active, size, layer.momentum)
        output = hook(name, "norm", apply, params, x, extra, output)
    return output.reshape(shape)


class _Axes(NamedTuple):
    """Axes of an input that a BatchNorm layer keeps apart.

    Attributes:
        features: that its parameters and running statistics have.
        apart: that the statistics of a batch have: tiles of a jigsaw too.
    """

    features: tuple[int, ...]
    apart: tuple[int, ...]


class BatchStatistics(NamedTuple):
    """What a BatchNorm layer knew when it ran.

    Attributes:
        running_mean, running_var: before the batch; None where it keeps none.
        mean, var: that it normalised by, with biased variance [C], or [tiles, C] of a jigsaw; None
            where each sample has its own.
        active: number of active channels, None for all.
        size: values of a channel, of one tile, in the batch.
        momentum: share of the running statistics that a batch leaves in them.
    """

    running_mean: Array | None
    running_var: Array | None
    mean: Array | None = None
    var: Array | None = None
    active: Array | None = None
    size: int = 0
    momentum: float = 0.9


def _repeat_norm(axes, epsilon, mode: str, params: dict, x: Array, extra: BatchStatistics):
    """The output of BatchNorm again, with other parameters and inputs."""
    output = _normalise(axes, epsilon, mode, params, x, (extra.mean, extra.var))
    return masked(output, extra.active)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _present(
    active: Array,
    params: dict,
    x: Array,
    running: tuple,
    axes: _Axes,
    epsilon: float,
    mode: str,
) -> tuple[Array, tuple[Any, Any]]:
    """Output and statistics, zeros where no channel is active; jitted to be traced once."""

    def compute() -> tuple[Array, tuple[Any, Any]]:
        stats = _statistics(x, axes, mode, running)
        return _normalise(axes, epsilon, mode, params, x, stats), stats

    return or_zeros(active > 0, compute)


def _statistics(x: Array, axes: _Axes, mode: str, running: tuple) -> tuple[Any, Any]:
    """Mean and variance of each feature, and tile; None where each sample has its own."""
    if mode == "eval":
        if axes.apart == axes.features:
            return running
        shape = [x.shape[axis] for axis in axes.apart]
        return jnp.broadcast_to(running[0], shape), jnp.broadcast_to(running[1], shape)
    if mode == "batch1_train":
        return None, None
    source = jax.lax.stop_gradient(x) if mode == "frozen" else x
    over = tuple(axis for axis in range(x.ndim) if axis not in axes.apart)
    with jax.named_scope(STATISTICS):
        return source.mean(over), source.var(over)


def _normalise(
    axes: _Axes, epsilon: float, mode: str, params: dict, x: Array, stats: tuple
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, along the feature axes."""

    def along(kept: tuple[int, ...], values: Array) -> Array:
        return values.reshape([n if axis in kept else 1 for axis, n in enumerate(x.shape)])

    if mode == "batch1_train":
        over = tuple(axis for axis in range(1, x.ndim) if axis not in axes.apart)
        mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    else:
        mean, var = (along(axes.apart, s) for s in stats)
    y = (x - mean) * jax.lax.rsqrt(var + jnp.asarray(epsilon, x.dtype))
    if "scale" in params:
        y *= along(axes.features, params["scale"])
    return y + along(axes.features, params["bias"]) if "bias" in params else y
