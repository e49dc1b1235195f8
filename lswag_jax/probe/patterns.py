"""Activation patterns: the bits that a batch of samples draws on each unit, and how many differ.

What is done to arrays is jitted: networks that run as chains of blocks call it with arrays at hand,
and would compile every operation by itself.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import alike, each, enable_x64, stacked

Array = jax.Array
PATTERN_LIMIT = 256  # samples; a pattern is sorted by words of 32 of them
NO_ACTIVATION = (
    "no activation function was found on the way to the logits: mark one of your own by "
    "lswag_jax.marks.activation."
)
Binarize = Literal["positive", "sign3"]
TokenReduce = Literal["none", "mean", "cls"]
BINARIZE, TOKEN_REDUCE = get_args(Binarize), get_args(TokenReduce)


def units(post: Array, token_reduce: str = "none") -> Array:
    """Unit values [B, U] of an activation output [B, ..., C].

    Args:
        post: output of an activation layer.
        token_reduce: "none" makes every element a unit; "mean" every channel, averaged over
            tokens or pixels; "cls" every channel of the first token.

    Raises:
        ValueError: an unknown reduction.
    """
    if token_reduce not in TOKEN_REDUCE:
        raise ValueError(f"token_reduce must be one of {TOKEN_REDUCE}, got {token_reduce!r}.")
    if post.ndim > 2 and token_reduce == "mean":
        post = post.mean(axis=tuple(range(1, post.ndim - 1)))
    elif post.ndim > 2 and token_reduce == "cls":
        post = post[(slice(None), *(0,) * (post.ndim - 2))]
    return post.reshape(post.shape[0], -1)


@functools.partial(jax.jit, static_argnames=("threshold", "binarize"))
def pack(values_BxU: Array, threshold: float = 0.0, binarize: str = "positive") -> Array:
    """Patterns as words [W, U] uint32: bit i % 32 of word i // 32 is sample i's.

    Args:
        values_BxU: unit values.
        threshold: a bit is set where the value is above it; not negative, so that the masked
            units of an elastic network (exactly 0) draw the zero pattern.
        binarize: "positive" is that bit alone; "sign3" adds a second set of bits for values below
            -threshold (three symbols, as SWAP's use of `sign`).

    Raises:
        ValueError: a negative threshold or an unknown binarisation.
    """
    if threshold < 0:
        raise ValueError(f"threshold must not be negative, got {threshold}.")
    if binarize not in BINARIZE:
        raise ValueError(f"binarize must be one of {BINARIZE}, got {binarize!r}.")
    bits = values_BxU > threshold
    if binarize == "sign3":
        bits = jnp.concatenate([bits, values_BxU < -threshold])
    bits = jnp.pad(bits, ((0, -bits.shape[0] % 32), (0, 0)))
    bits_Wx32xU = bits.reshape(-1, 32, bits.shape[1]).astype(jnp.uint32)
    return (bits_Wx32xU << jnp.arange(32, dtype=jnp.uint32)[None, :, None]).sum(1, dtype=jnp.uint32)


def count_distinct(words_WxU: Array, num_units: Array | int) -> Array:
    """Number of distinct patterns among the active units; int32, exact.

    Args:
        words_WxU: packed patterns; inactive units hold the zero pattern.
        num_units: number of active units.

    Example:
        >>> int(count_distinct(pack(jnp.array([[1.0, 1, 0], [0, 0, 1]])), 3))
        2
    """
    num_zero = (words_WxU == 0).all(0).sum(dtype=jnp.int32)
    # Inactive units hold the zero pattern too: it is real if more units hold it than are inactive.
    real_zero = num_zero > words_WxU.shape[1] - num_units
    # n changes are n + 1 runs; the zero run counts only if it is real.
    return _sorted_changes(words_WxU) + 1 - (num_zero > 0) + real_zero


def count_each(words: Sequence[Array], num_units: Array | Sequence[int]) -> Array:
    """Number of distinct patterns of each layer, int32 [A]; layers of one shape in one sort.

    Args:
        words: packed patterns [W, U_a] of each layer.
        num_units: active units of each layer [A].
    """
    units_A, groups = jnp.asarray(num_units, jnp.int32), alike([w.shape for w in words], words)
    counts = [
        _count_rows(stacked([words[i] for i in group]), units_A[np.array(group)])
        for group in groups
    ]
    return jnp.concatenate(counts)[np.argsort(np.concatenate(groups))]


@jax.jit
def _count_rows(words_nxWxU: Array, units_n: Array) -> Array:
    return jax.vmap(count_distinct)(words_nxWxU, units_n)


def count_union(words: Sequence[Array], num_units: Array | Sequence[int], include) -> Array:
    """Number of distinct patterns over the union of layers; int32, exact.

    Args:
        words: packed patterns [W, U_a] of each layer.
        num_units: active units of each layer [A].
        include: whether each layer takes part [A].
    """
    units_A, include_A = jnp.asarray(num_units, jnp.int32), jnp.asarray(include)
    groups = alike([w.shape for w in words], words)
    stacks = [stacked([words[i] for i in group]) for group in groups]
    return _count_union(stacks, units_A, include_A, tuple(map(tuple, groups)))


@functools.partial(jax.jit, static_argnums=3)
def _count_union(
    stacks: Sequence[Array], units_A: Array, include_A: Array, groups: Sequence[Sequence[int]]
) -> Array:
    """`count_union` of stacks [n, W, U] of the layers of each group."""
    kept = []
    for words_nxWxU, group in zip(stacks, groups, strict=True):
        is_in = include_A[np.array(group)].reshape(-1, 1, 1)
        # A layer that is left out becomes zero patterns, which count as inactive units.
        words_Wxn_U = jnp.moveaxis(jnp.where(is_in, words_nxWxU, 0), 0, 1)
        kept.append(words_Wxn_U.reshape(len(words_Wxn_U), -1))
    return count_distinct(jnp.concatenate(kept, axis=1), jnp.where(include_A, units_A, 0).sum())


def _sorted_changes(words_WxU: Array) -> Array:
    """How often neighbours differ after sorting.

    Pairs of words are sorted as one 64-bit key, four times faster on a CPU than two 32-bit keys;
    64-bit integers need x64 mode for these operations only.
    """
    with enable_x64(True):
        keys = list(words_WxU)
        if len(keys) > 1:
            keys += [jnp.zeros_like(keys[0])] * (len(keys) % 2)
            wide = [key.astype(jnp.uint64) for key in keys]
            keys = [(a << jnp.uint64(32)) | b for a, b in zip(wide[::2], wide[1::2], strict=True)]
        keys = jax.lax.sort(tuple(keys), num_keys=len(keys), is_stable=False)
        changed = [key[1:] != key[:-1] for key in keys]
        return jnp.stack(changed).any(0).sum(dtype=jnp.int32)


def hamming_kernel(values: Sequence[Array], num_units: Any) -> Array:
    """K_ij = number of units on which samples i and j have the same bit, int32 [B, B].

    Args:
        values: unit values [B, U_a] of each layer; inactive units are zero.
        num_units: active units of each layer.
    """
    pairs = [(v, jnp.asarray(n, jnp.int32)) for v, n in zip(values, num_units, strict=True)]
    return each(_hamming, pairs).sum(0, dtype=jnp.int32)


def _hamming(values_BxU: Array, num_units: Array) -> Array:
    """The kernel of one layer."""
    bits = (values_BxU > 0).astype(jnp.float32)
    on_BxB = bits @ bits.T  # counts below 2**24 are exact in float32
    on_B = jnp.diagonal(on_BxB)
    differ_BxB = on_B[:, None] + on_B[None, :] - 2 * on_BxB
    return num_units - differ_BxB.astype(jnp.int32)
