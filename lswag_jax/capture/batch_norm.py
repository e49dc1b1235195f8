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
    shape = x.shape
    if mode == "batch1_train" and len(x) != batch and len(x) % batch == 0:
        x = x.reshape(batch, -1, *shape[1:])  # a sample's rows are normalised together
        features = tuple(axis + 1 for axis in features)
    output = masked(x, active)
    if mode != "off":
        if active is None:
            stats = _statistics(x, features, mode, running)
            output = _normalise(features, layer.epsilon, mode, params, x, stats)
        else:
            output, stats = _present(active, params, x, running, features, layer.epsilon, mode)
            output = masked(output, active)
        apply = functools.partial(_repeat_norm, features, layer.epsilon, mode)
        size = math.prod(size for axis, size in enumerate(x.shape) if axis not in features)
        mean, var = stats
        extra = BatchStatistics(*running, mean, var, active, size, layer.momentum)
        output = hook(name, "norm", apply, params, x, extra, output)
    return output.reshape(shape)


class BatchStatistics(NamedTuple):
    """What a BatchNorm layer knew when it ran.

    Attributes:
        running_mean, running_var: before the batch; None where it keeps none.
        mean, var: that it normalised by, with biased variance; None where each sample has its own.
        active: number of active channels, None for all.
        size: values of a channel in the batch.
        momentum: share of the running statistics that a batch leaves in them.
    """

    running_mean: Array | None
    running_var: Array | None
    mean: Array | None = None
    var: Array | None = None
    active: Array | None = None
    size: int = 0
    momentum: float = 0.9


def _repeat_norm(features, epsilon, mode: str, params: dict, x: Array, extra: BatchStatistics):
    """The output of BatchNorm again, with other parameters and inputs."""
    output = _normalise(features, epsilon, mode, params, x, (extra.mean, extra.var))
    return masked(output, extra.active)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _present(
    active: Array,
    params: dict,
    x: Array,
    running: tuple,
    features: tuple,
    epsilon: float,
    mode: str,
) -> tuple[Array, tuple[Any, Any]]:
    """Output and statistics, zeros where no channel is active; jitted to be traced once."""

    def compute() -> tuple[Array, tuple[Any, Any]]:
        stats = _statistics(x, features, mode, running)
        return _normalise(features, epsilon, mode, params, x, stats), stats

    return or_zeros(active > 0, compute)


def _statistics(x: Array, features: tuple, mode: str, running: tuple) -> tuple[Any, Any]:
    """Mean and variance of each feature, None where each sample has its own."""
    if mode == "eval":
        return running
    if mode == "batch1_train":
        return None, None
    source = jax.lax.stop_gradient(x) if mode == "frozen" else x
    axes = tuple(axis for axis in range(x.ndim) if axis not in features)
    with jax.named_scope(STATISTICS):
        return source.mean(axes), source.var(axes)


def _normalise(
    features: tuple, epsilon: float, mode: str, params: dict, x: Array, stats: tuple
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, along the feature axes."""
    shape = [size if axis in features else 1 for axis, size in enumerate(x.shape)]
    if mode == "batch1_train":
        axes = tuple(axis for axis in range(1, x.ndim) if axis not in features)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    else:
        mean, var = (s.reshape(shape) for s in stats)
    y = (x - mean) * jax.lax.rsqrt(var + jnp.asarray(epsilon, x.dtype))
    if "scale" in params:
        y *= params["scale"].reshape(shape)
    return y + params["bias"].reshape(shape) if "bias" in params else y
