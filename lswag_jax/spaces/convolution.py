"""Convolutions and poolings whose gradients are fast on every backend, PyTorch's padding.

Inside a loop XLA's own gradient of a convolution is 4 to 30 times slower on a CPU than the
convolution itself (`benchmarks/RESULTS.md`). Here the gradient of the input is another forward
convolution, and that of the kernel matrix products: one of a single sample's patches, or one for
each of a batch's taps.

Arrays are [..., H, W, C]: any number of leading axes. Padding is symmetric, dilation * (k - 1) / 2
on each side, as PyTorch's and unlike "SAME" for strides above 1.
"""

import functools
from fractions import Fraction
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lswag_jax.arrays import total
from lswag_jax.spaces.cost import costs

Array = jax.Array
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x: Array, kernel: Array, strides: int = 1, dilation: int = 1) -> Array:
    """Convolution of `x` [..., H, W, I] with `kernel` [k, k, I, O], k odd.

    Example:
        >>> convolve(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), strides=2).shape
        (2, 4, 4, 5)
    """
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    if kernel.shape[0] == 1:
        return x[..., ::strides, ::strides, :] @ kernel[0, 0]
    flat = x.reshape(-1, *x.shape[-3:])
    # A `custom_vjp` of static arguments has no type of its own.
    y = cast(Array, _convolve(flat, kernel, strides, dilation))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, strides: int, dilation: int) -> Array:
    if x.dtype == jnp.float64:
        products = functools.partial(_by_products, strides=strides, dilation=dilation)
        if strides > 1:  # it computes pixels that are dropped
            (h, w), n = x.shape[1:3], strides
            products = costs(Fraction(-(-h // n) * -(-w // n), h * w))(products)
        return products(x, kernel)
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_DIMENSIONS,
    )


def _by_products(x: Array, kernel: Array, strides: int, dilation: int) -> Array:
    """In float64, for which XLA's convolution is ten times slower on a CPU than one product."""
    size, _, inputs, outputs = kernel.shape
    wide = x @ kernel.transpose(2, 0, 1, 3).reshape(inputs, -1)
    taps = enumerate(_taps(wide, size, strides, dilation))
    return total(tap[..., i * outputs : (i + 1) * outputs] for i, tap in taps)


def _forward(x, kernel, strides, dilation):
    return _convolve(x, kernel, strides, dilation), (x, kernel)


def _backward(strides, dilation, residuals, y_bar):
    x, kernel = residuals
    x_bar = _of_input(y_bar, kernel, x.shape, strides, dilation)
    return x_bar, _of_kernel(x, y_bar, kernel.shape[0], strides, dilation)


_convolve.defvjp(_forward, _backward)


def _of_input(y_bar: Array, kernel: Array, shape: tuple, strides: int, dilation: int) -> Array:
    """The gradient of a convolution's input, of this shape."""
    # With zeros between the cotangents a strided convolution's gradient is a plain one.
    spread = _spread(y_bar, shape, strides)
    return cast(Array, _convolve(spread, kernel[::-1, ::-1].swapaxes(2, 3), 1, dilation))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _of_kernel(x: Array, y_bar: Array, size: int, strides: int, dilation: int) -> Array:
    """The gradient of a convolution's kernel [k, k, I, O].

    It is linear in both arrays: with v a cotangent, <v, this> = <convolution of x with v, y_bar>.
    """
    number, inputs, pad = size**2, x.shape[-1], dilation * (size // 2)
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def tap(i: Array) -> Array:
        """The copy of `x` that meets weight i; a loop over them compiles one."""
        row, column = dilation * (i // size), dilation * (i % size)
        return lax.dynamic_slice(padded, (0, row, column, 0), x.shape)[:, ::strides, ::strides]

    flat = y_bar.reshape(-1, y_bar.shape[-1])
    if len(x) == 1:  # one product of patches, which stay in the cache

        def filled(i: Array, patches: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(patches, tap(i)[..., None, :], i, axis=3)

        patches = jnp.zeros((*y_bar.shape[:3], number, inputs), x.dtype)
        patches = lax.fori_loop(0, number, filled, patches)
        kernel_bar = patches.reshape(-1, number * inputs).T @ flat
    else:
        kernel_bar = lax.map(lambda i: tap(i).reshape(-1, inputs).T @ flat, jnp.arange(number))
    return kernel_bar.reshape(size, size, inputs, y_bar.shape[-1])


def _of_kernel_forward(x, y_bar, size, strides, dilation):
    return _of_kernel(x, y_bar, size, strides, dilation), (x, y_bar)


def _of_kernel_backward(size, strides, dilation, residuals, v):
    x, y_bar = residuals
    x_bar = _of_input(y_bar, v, x.shape, strides, dilation)
    return x_bar, _convolve(x, v, strides, dilation)


_of_kernel.defvjp(_of_kernel_forward, _of_kernel_backward)


def double(x: Array, kernel: Array) -> Array:
    """Transposed convolution of `x` [..., H, W, I] with `kernel` [3, 3, I, O] to twice the size.

    PyTorch's with stride 2, padding 1 and output padding 1: zeros between the pixels and behind
    the last ones, then a convolution. `kernel` is oriented as that convolution's, so that it is
    PyTorch's turned by 180 degrees.

    Example:
        >>> double(jnp.ones((2, 4, 4, 3)), jnp.ones((3, 3, 3, 5))).shape
        (2, 8, 8, 5)
    """
    gaps = ((0, 0, 0),) * (x.ndim - 3) + ((0, 1, 1), (0, 1, 1), (0, 0, 0))
    return convolve(lax.pad(x, jnp.zeros((), x.dtype), gaps), kernel)


def _spread(y_bar: Array, shape: tuple[int, ...], strides: int) -> Array:
    """Cotangents of a strided convolution with zeros between, in the input's height and width."""
    sizes = zip(shape[-3:-1], y_bar.shape[-3:-1], strict=True)
    gaps = [(0, h - strides * (n - 1) - 1, strides - 1) for h, n in sizes]
    no_gap = (0, 0, 0)
    padding = [no_gap] * (y_bar.ndim - 3) + [*gaps, no_gap]
    return lax.pad(y_bar, jnp.zeros((), y_bar.dtype), padding)


def average_pool(x: Array, size: int = 3, strides: int = 1) -> Array:
    """Mean over size x size pixels around each; padding does not count, as in the benchmarks."""
    return cast(Array, _average_pool(x, size, strides))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _average_pool(x: Array, size: int, strides: int) -> Array:
    return total(_taps(x, size, strides)) * _shares(x.shape, x.dtype, size, strides)


def _shares(shape: tuple[int, ...], dtype: Any, size: int, strides: int) -> Array:
    """One over the number of pixels that a mean is of."""
    ones = np.ones((*shape[-3:-1], 1), dtype)
    counts = total(np.asarray(t) for t in _taps(ones, size, strides, xp=np))
    return jnp.asarray(1 / counts, dtype).reshape((1,) * (len(shape) - 3) + counts.shape)


def _average_forward(x, size, strides):
    return _average_pool(x, size, strides), x.shape


def _average_backward(size, strides, shape, y_bar):
    # A pixel is in the means of those around it; JAX's own gradient pads each tap by itself.
    shares = y_bar * _shares(shape, y_bar.dtype, size, strides)
    return (total(_taps(_spread(shares, shape, strides), size, 1)),)


_average_pool.defvjp(_average_forward, _average_backward)


def max_pool(x: Array, size: int = 3, strides: int = 1) -> Array:
    """Largest of size x size pixels around each; the first of equals has the gradient."""
    first, *others = _taps(x, size, strides, fill=-jnp.inf)
    for tap in others:
        first = jnp.where(tap > first, tap, first)
    return first


def _taps(x, size: int, strides: int, dilation: int = 1, fill: float = 0.0, xp=jnp):
    """The size * size shifted (and strided) copies of `x` that meet the kernel's weights."""
    pad, (height, width) = dilation * (size // 2), x.shape[-3:-1]
    padded = xp.pad(
        x, [(0, 0)] * (x.ndim - 3) + [(pad, pad), (pad, pad), (0, 0)], constant_values=fill
    )
    for i in range(0, dilation * size, dilation):
        for j in range(0, dilation * size, dilation):
            yield padded[..., i : i + height : strides, j : j + width : strides, :]
