"""Products of an elastic network at the sizes that a genotype has, out of a few static ones.

Where networks are taken one by one, `lax.switch` runs the smallest choice that covers the sizes of
a genotype, so that its cost follows them; what is beyond is zero, and nothing runs for a block that
is not there. Residuals of a gradient are the arguments alone, since JAX would keep those of every
branch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
Choices = tuple[tuple[int, int], ...]  # pairs of sizes that a layer can have


def index_of(choices: Choices, sizes: tuple[Array, Array]) -> Array:
    """1 + the number of the first choice that covers both sizes; 0 where a size is 0.

    Example:
        >>> int(index_of(((2, 4), (3, 4), (3, 6)), (jnp.array(3), jnp.array(5))))
        3
    """
    table = np.array(choices)
    covers = (table[:, 0] >= sizes[0]) & (table[:, 1] >= sizes[1])
    return jnp.where(jnp.minimum(*sizes) > 0, 1 + jnp.argmax(covers), 0)


def by_area(pairs: Any) -> Choices:
    """Distinct pairs, the smallest product first."""
    return tuple(sorted(set(pairs), key=lambda pair: (pair[0] * pair[1], pair)))


def _chosen(index: Array, out: Any, branches: list[Callable], *args: Array) -> Array:
    """Branch number `index` - 1 of the arguments, or zeros like `out`."""
    nothing = lambda *_: jnp.zeros(out.shape, out.dtype)  # noqa: E731
    return lax.switch(index, [nothing, *branches], *args)


def _padded(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` with zeros behind each axis."""
    return jnp.pad(x, [(0, full - size) for size, full in zip(x.shape, shape, strict=True)])


# Linear layers -------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def multiply(choices: Choices, sizes: tuple[Array, Array], x: Array, kernel: Array) -> Array:
    """`x` [B, N, I] times `kernel` [I, P, O] as [B, N, P, O], at sizes of I and O.

    One sample alone, as the gradients of single samples are taken, is multiplied whole: a branch
    for each of them and each choice costs more to compile than it saves.
    """
    if len(x) == 1:
        return jnp.tensordot(x, kernel, 1)
    return _multiply(choices, index_of(choices, sizes), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _multiply(choices: Choices, index: Array, x: Array, kernel: Array) -> Array:
    out = jax.ShapeDtypeStruct((*x.shape[:-1], *kernel.shape[1:]), x.dtype)

    def of(rows: int, columns: int) -> Callable:
        def product(x, w):
            return _padded(jnp.tensordot(x[..., :rows], w[:rows, :, :columns], 1), out.shape)

        return product

    return _chosen(index, out, [of(*pair) for pair in choices], x, kernel)


def _multiply_forward(choices, index, x, kernel):
    return _multiply(choices, index, x, kernel), (index, x, kernel)


def _multiply_backward(choices, residuals, y_bar):
    index, x, kernel = residuals

    def inputs(rows: int, columns: int) -> Callable:
        def product(y, w):
            y, w = y[..., :columns], w[:rows, :, :columns]
            return _padded(jnp.einsum("bnpo,ipo->bni", y, w), x.shape)

        return product

    def weights(rows: int, columns: int) -> Callable:
        def product(x, y):
            y = y[..., :columns]
            return _padded(jnp.einsum("bni,bnpo->ipo", x[..., :rows], y), kernel.shape)

        return product

    x_bar = _chosen(index, x, [inputs(*pair) for pair in choices], y_bar, kernel)
    kernel_bar = _chosen(index, kernel, [weights(*pair) for pair in choices], x, y_bar)
    return None, x_bar, kernel_bar


_multiply.defvjp(_multiply_forward, _multiply_backward)


# Attention -----------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def attend(
    choices: Choices, function: Callable, sizes: tuple[Array, Array], x: Array, *tables: Array
) -> Array:
    """`function(pair)(x, *tables)` of the pair of sizes that is there.

    Args:
        choices: pairs of sizes.
        function: of a pair; it gives a function of arrays whose output has the same shape for all.
        sizes: active sizes.
        x: queries, keys and values.
        *tables: of relative positions.
    """
    return _attend(choices, function, index_of(choices, sizes), x, *tables)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(choices: Choices, function: Callable, index: Array, *args: Array) -> Array:
    branches = [function(pair) for pair in choices]
    return _chosen(index, jax.eval_shape(branches[-1], *args), branches, *args)


def _attend_forward(choices, function, index, *args):
    return _attend(choices, function, index, *args), (index, args)


def _attend_backward(choices, function, residuals, y_bar):
    index, args = residuals

    def pulled(pair: tuple[int, int]) -> Callable:
        return lambda y_bar, *args: jax.vjp(function(pair), *args)[1](y_bar)

    branches = [pulled(pair) for pair in choices]
    nothing = lambda y_bar, *args: tuple(map(jnp.zeros_like, args))  # noqa: E731
    return None, *lax.switch(index, [nothing, *branches], y_bar, *args)


_attend.defvjp(_attend_forward, _attend_backward)
