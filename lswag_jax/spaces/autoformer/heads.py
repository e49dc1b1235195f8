"""Channels as an elastic number of heads, and back: each is the other's gradient."""

import functools

import jax
import jax.numpy as jnp

Array = jax.Array


def like(mask: Array | float, x: Array) -> Array | float:
    """`mask` with leading axes of size one, to multiply `x`."""
    return (
        mask
        if isinstance(mask, float | int)
        else mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cut_heads(x: Array, sizes: tuple[Array, Array], num_heads: int, largest: int) -> Array:
    """Channels [..., D] as heads [..., H, `largest`]; its gradient is `join_heads`.

    A head is a window of the channels that starts at its number times its size, so that no shape
    depends on the genotype.

    Args:
        x: the channels.
        sizes: active heads, and channels of each.
        num_heads, largest: of the result; inactive heads and channels are zero.
    """
    heads, head_dim = sizes
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, largest)])
    windows = [
        jax.lax.dynamic_slice_in_dim(padded, jnp.minimum(h * head_dim, x.shape[-1]), largest, -1)
        for h in range(num_heads)
    ]
    mask = _head_mask(heads, head_dim, num_heads, largest, x.dtype)
    # A window may reach into the next head.
    return jnp.stack(windows, axis=-2) * like(mask, padded[..., None])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def join_heads(y: Array, sizes: tuple[Array, Array], size: int) -> Array:
    """Heads [..., H, K] side by side as channels [..., `size`]; the inverse of `cut_heads`."""
    heads, head_dim = sizes
    *rows, num_heads, largest = y.shape
    y = y * like(_head_mask(heads, head_dim, num_heads, largest, y.dtype), y)
    x = jnp.zeros((*rows, size + largest), y.dtype)
    for h in range(num_heads):  # each overwrites the zeros behind the head before
        start = jnp.minimum(h * head_dim, size)
        x = jax.lax.dynamic_update_slice_in_dim(x, y[..., h, :], start, -1)
    return x[..., :size]


def _head_mask(heads: Array, head_dim: Array, num_heads: int, largest: int, dtype) -> Array:
    """1 for the active channels of active heads, [H, K]."""
    is_head, is_channel = jnp.arange(num_heads) < heads, jnp.arange(largest) < head_dim
    return (is_head[:, None] & is_channel[None]).astype(dtype)


def _split_forward(x, sizes, num_heads, largest):
    return cut_heads(x, sizes, num_heads, largest), (x, sizes)


def _split_backward(num_heads, largest, kept, y_bar):
    del num_heads, largest
    x, sizes = kept
    return join_heads(y_bar, sizes, x.shape[-1]), None


def _join_forward(y, sizes, size):
    return join_heads(y, sizes, size), (y, sizes)


def _join_backward(size, kept, x_bar):
    del size
    y, sizes = kept
    return cut_heads(x_bar, sizes, *y.shape[-2:]), None


cut_heads.defvjp(_split_forward, _split_backward)
join_heads.defvjp(_join_forward, _join_backward)
