"""Flax layers of the convolutional search spaces, exact and elastic."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lswag_jax import marks
from lswag_jax.arrays import or_zeros
from lswag_jax.spaces.convolution import convolve

Array = jax.Array
Initializer = Callable[..., Array]


def torch_uniform(fan_in: int) -> Initializer:
    """PyTorch's default for kernels and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


@overload
def unit_mask(size: int, active: None, dtype: Any) -> float: ...
@overload
def unit_mask(size: int, active: Array, dtype: Any) -> Array: ...
@overload
def unit_mask(size: int, active: Array | None, dtype: Any) -> Array | float: ...
def unit_mask(size: int, active: Array | None, dtype: Any) -> Array | float:
    """1 for the first `active` of `size` units and 0 for the others; 1.0 for an exact network."""
    return 1.0 if active is None else (jnp.arange(size) < active).astype(dtype)


def masked(x: Array, active: Array | None) -> Array:
    """`x` [..., C] with zeros behind the first `active` channels; None keeps all."""
    if active is None:
        return x
    return x * unit_mask(x.shape[-1], active, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def centre_scale(size: Array, largest: int, dtype=jnp.float32) -> Array:
    """Factors that make the largest kernel one of `size` with that size's initial scale.

    They are largest / size, the ratio of the initial scales for equal channels, in the centre and
    zero around it; all zero for size 0. Sizes are odd.

    Example:
        >>> centre_scale(jnp.array(1), 3)[:, :, 0, 0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]
    """
    from_centre = np.abs(np.arange(largest) - largest // 2)
    distance = np.maximum(from_centre[:, None], from_centre[None, :])[..., None, None]
    scale = largest / jnp.maximum(size, 1)
    return jnp.where(2 * distance < size, scale, 0).astype(dtype)


def mask_absent(present: Array | None, x: Array) -> Array:
    """`x`, or zeros where `present` is 0; None means always present."""
    return x if present is None else jnp.where(present > 0, x, 0)


def cond_present(present: Array | None, function: Callable, *args: Array, **options: Any) -> Array:
    """Calls `function(*args, **options)` where `present` is not 0, else gives zeros at no cost.

    Args:
        present: a traced scalar; None means always present.
        function: of arrays and of options that can be hashed; traced once for equal ones.
        *args: arrays.
        **options: of the function.

    Example:
        >>> float(cond_present(jnp.array(0), jnp.sum, jnp.ones(3)))
        0.0
    """
    if present is None:
        return function(*args, **options)
    return _cond_present(function, tuple(options.items()), present, *args)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _cond_present(function: Callable, options: tuple, present: Array, *args: Array) -> Array:
    return or_zeros(present > 0, lambda: function(*args, **dict(options)))


def product(present: Array | None, function: Callable, x: Array, kernel: Array, **options: Any):
    """`cond_present(present, function, x, kernel, **options)`, marked as one weight layer."""
    extra = () if present is None else (present,)
    return marks.layer(_product, x, kernel, *extra, of=function, **options)


def _product(
    x: Array, kernel: Array, present: Array | None = None, *, of: Callable, **options: Any
) -> Array:
    return cond_present(present, of, x, kernel, **options)


class Feature(nn.Module):
    """Marks a feature map that proxies may read: the output of a stem, block or cell.

    Args:
        final: for the one that is pooled for the classifier, where it is not a block's output.
    """

    final: bool = False

    def __call__(self, x: Array, active: Array | None = None) -> Array:
        """Returns `x` [B, ..., C] with `active` active channels: 0 if absent, None for all."""
        del active
        return x


class Conv(nn.Module):
    """Convolution without bias, PyTorch's padding and default initialisation.

    Args:
        features: output channels.
        size: of the kernel, odd.
        strides, dilation: of both axes.
        kernel_init: initialiser of the kernel [k, k, I, O]; None for PyTorch's default.
    """

    features: int
    size: int = 3
    strides: int = 1
    dilation: int = 1
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array, present: Array | None = None) -> Array:
        """Maps `x` [..., H, W, I] to [..., H / strides, W / strides, O]; see `cond_present`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        init = self.kernel_init or torch_uniform(self.size**2 * x.shape[-1])
        kernel = self.param("kernel", init, shape)
        options = {"strides": self.strides, "dilation": self.dilation}
        return product(present, convolve, x, kernel, **options)


class ElasticConv(nn.Module):
    """A convolution of one of several kernel sizes, or none, chosen by a traced index.

    The kernel is the largest one; a smaller size uses its centre. Only the chosen size is computed
    where the index is a scalar (`lax.switch`).

    Args:
        features: output channels.
        sizes: kernel sizes, odd; the last is the largest.
        strides: of both axes.
        kernel_init: as in `Conv`.
    """

    features: int
    sizes: Sequence[int] = (1, 3)
    strides: int = 1
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array, choice: Array) -> Array:
        """Maps `x` [..., H, W, I] by size number `choice` - 1; choice 0 gives zeros."""
        largest = self.sizes[-1]
        shape = (largest, largest, x.shape[-1], self.features)
        kernel = self.param(
            "kernel", self.kernel_init or torch_uniform(shape[0] ** 2 * shape[2]), shape
        )

        options = {"sizes": tuple(self.sizes), "strides": self.strides}
        return marks.layer(_chosen_convolution, x, kernel, choice, **options)


@functools.partial(jax.jit, static_argnames=("sizes", "strides"))
def _chosen_convolution(
    x: Array, kernel: Array, choice: Array, sizes: tuple[int, ...], strides: int
) -> Array:
    """Convolution by the centre of `kernel`, of size number `choice` - 1; traced once."""

    def of_size(size: int) -> Callable:
        edge = (sizes[-1] - size) // 2
        centre = slice(edge, edge + size)
        return lambda x, kernel: convolve(x, kernel[centre, centre], strides)

    out = jax.eval_shape(of_size(sizes[-1]), x, kernel)

    def nothing(*_: Array) -> Array:
        return jnp.zeros(out.shape, out.dtype)

    return lax.switch(choice, (nothing, *map(of_size, sizes)), x, kernel)


class BatchNorm(nn.BatchNorm):
    """BatchNorm with PyTorch's epsilon and momentum; inactive channels are exactly zero.

    Scoring replaces this call by `capture.batch_norm.run_batch_norm`; training runs it.

    Args:
        by_tile: whether each `x[:, i]` is normalised by itself, one after the other.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    by_tile: bool = False

    # Flax's own has other arguments; nothing calls it through that class.
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Array, train: bool = False, active: Array | None = None
    ) -> Array:
        """Normalises `x` [..., C]; the first `active` channels are kept, None for all."""
        run = functools.partial(super().__call__, use_running_average=not train)
        if not self.by_tile:
            return masked(run(x), active)
        return masked(jnp.stack([run(x[:, i]) for i in range(x.shape[1])], axis=1), active)
