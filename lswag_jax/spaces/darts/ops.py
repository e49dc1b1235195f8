"""Depthwise convolution and pooling of DARTS edges, whose dilation may be traced.

Every one is a sum (or maximum) over shifted copies of its input, which XLA fuses into one loop. So
are the gradients given here; those that JAX derives are up to 50 times slower and take ten times as
long to compile (5x5 kernel, 16 x 32 x 32 x 32 inputs, CPU).

Arrays are [..., H, W, C]; H and W are multiples of the stride, padding is PyTorch's, symmetric.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lswag_jax.arrays import total

Array = jax.Array


def _compiled(function: Any) -> Any:
    """What `jax.jit` compiles, here a `custom_vjp`."""
    return function.__wrapped__


@functools.partial(jax.jit, static_argnums=(3, 4))
@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def depthwise(x: Array, kernel: Array, dilation: Array | int, strides: int, reach: int) -> Array:
    """Convolution of each channel of `x` by itself.

    Args:
        x: [..., H, W, C].
        kernel: [k, k, 1, C], k odd.
        dilation: pixels between the kernel's weights, at most `reach`.
        strides: of both axes.
        reach: static bound of `dilation`.

    Returns:
        [..., H / strides, W / strides, C].
    """
    weights = kernel.reshape(-1, *(1,) * (x.ndim - 1), kernel.shape[-1])
    taps = _taps(x, len(kernel), dilation, strides, reach)
    return total(t * w for t, w in zip(taps, weights, strict=True))


def _depthwise_forward(x, kernel, dilation, strides, reach):
    return depthwise(x, kernel, dilation, strides, reach), (x, kernel, dilation)


def _depthwise_backward(strides, reach, residuals, y_bar):
    x, kernel, dilation = residuals
    size = len(kernel)
    x_bar = depthwise(spread(y_bar, strides), kernel[::-1, ::-1], dilation, 1, reach)
    padded = _pad(x, size, reach)

    def of_weight(index: Array) -> Array:
        place = index // size, index % size
        tap = _tap(padded, x.shape, size, place, dilation, strides, reach)
        return (tap * y_bar).sum(range(x.ndim - 1))

    kernel_bar = lax.map(of_weight, jnp.arange(size**2)).reshape(kernel.shape)
    return x_bar, kernel_bar, None


_compiled(depthwise).defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.jit, static_argnums=(2, 3))
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def average_pool(x: Array, dilation: Array | int, strides: int, reach: int) -> Array:
    """Mean over 3x3 pixels; padding does not count. Arguments as in `depthwise`."""
    return total(_taps(x, 3, dilation, strides, reach)) * _shares(x, dilation, strides, reach)


def _shares(x, dilation, strides, reach):
    ones = jnp.ones((*(1,) * (x.ndim - 3), *x.shape[-3:-1], 1), x.dtype)
    return 1 / total(_taps(ones, 3, dilation, strides, reach))


def _average_forward(x, dilation, strides, reach):
    shares = _shares(x, dilation, strides, reach)
    return average_pool(x, dilation, strides, reach), (dilation, shares)


def _average_backward(strides, reach, residuals, y_bar):
    dilation, shares = residuals
    return total(_taps(spread(y_bar * shares, strides), 3, dilation, 1, reach)), None


_compiled(average_pool).defvjp(_average_forward, _average_backward)


@functools.partial(jax.jit, static_argnums=(2, 3))
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def max_pool(x: Array, dilation: Array | int, strides: int, reach: int) -> Array:
    """Largest of 3x3 pixels; the first of equals has the gradient. Arguments as in `depthwise`."""
    return functools.reduce(jnp.maximum, _taps(x, 3, dilation, strides, reach, -jnp.inf))


def _max_forward(x, dilation, strides, reach):
    best, *others = _taps(x, 3, dilation, strides, reach, -jnp.inf)
    first = jnp.zeros(best.shape, jnp.uint8)
    for i, tap in enumerate(others, start=1):
        first = jnp.where(tap > best, jnp.uint8(i), first)
        best = jnp.maximum(best, tap)
    return best, (dilation, first)


def _max_backward(strides, reach, residuals, y_bar):
    dilation, first = residuals
    firsts = _taps(spread(first, strides, 9), 3, dilation, 1, reach, 9)
    bars = _taps(spread(y_bar, strides), 3, dilation, 1, reach)
    # An output below a pixel has it as its upper neighbour: the taps are met in reverse.
    pairs = zip(firsts, bars, reversed(range(9)), strict=True)
    return total(jnp.where(f == i, bar, 0) for f, bar, i in pairs), None


_compiled(max_pool).defvjp(_max_forward, _max_backward)


def spread(x: Array, strides: int, fill: float = 0) -> Array:
    """`x` [..., H, W, C] with `strides` - 1 times `fill` after each row and column.

    Example:
        >>> spread(jnp.array([[[1]], [[2]]]), 2)[..., 0].tolist()
        [[1, 0], [0, 0], [2, 0], [0, 0]]
    """
    gap = (0, strides - 1, strides - 1)
    return lax.pad(
        x, jnp.asarray(fill, x.dtype), [(0, 0, 0)] * (x.ndim - 3) + [gap, gap, (0, 0, 0)]
    )


def _taps(
    x: Array, size: int, dilation: Array | int, strides: int, reach: int, fill: float = 0
) -> Iterator[Array]:
    """The size * size shifted (and strided) copies of `x` that meet a kernel's weights."""
    padded = _pad(x, size, reach, fill)
    for place in itertools.product(range(size), repeat=2):
        yield _tap(padded, x.shape, size, place, dilation, strides, reach)


def _pad(x: Array, size: int, reach: int, fill: float = 0) -> Array:
    pad = (reach * (size // 2),) * 2
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [pad, pad, (0, 0)], constant_values=fill)


def _tap(padded, shape, size, place, dilation, strides, reach) -> Array:
    """The copy of a padded array of `shape` that meets the weight at row and column `place`."""
    row, column = ((size // 2) * reach + (i - size // 2) * dilation for i in place)
    starts = [jnp.asarray(i, jnp.int32) for i in (*(0,) * (len(shape) - 3), row, column, 0)]
    shifted = lax.dynamic_slice(padded, starts, shape, allow_negative_indices=False)
    return shifted[..., ::strides, ::strides, :]
