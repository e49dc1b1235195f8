"""Variables of an elastic AutoFormer network as one genotype has them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from lswag_jax.arrays import rows, stacked
from lswag_jax.spaces.autoformer.genotype import AutoFormerGenotype
from lswag_jax.spaces.layers import unit_mask
from lswag_jax.spaces.plan import flat_variables

Array = jax.Array


def active(variables: Mapping[str, Any], encoded: Mapping[str, Array], head_dim: int | None):
    """The elastic variables, zero where a genotype has no units or no block.

    The tables that are added to the tokens stay: the network masks their sum. Blocks are masked
    side by side, so that they compile as one.
    """
    params = dict(variables["params"])
    dim, one = encoded["embed_dim"], jnp.ones((), jnp.int32)
    names = [f"blocks_{i}" for i in range(len(encoded["num_heads"]))]
    blocks = jax.tree.map(lambda *leaves: stacked(leaves), *[params.pop(name) for name in names])

    def of_block(block: dict, heads: Array, hidden: Array) -> dict:
        return _masked(block, head_dim, dim, heads, hidden)

    blocks = jax.vmap(of_block)(blocks, encoded["num_heads"], encoded["hidden"])
    params = _masked(params, head_dim, dim, one, one)
    leaves, structure = jax.tree.flatten(blocks)
    of_blocks = map(structure.unflatten, zip(*map(rows, leaves), strict=True))
    return {"params": params | dict(zip(names, of_blocks, strict=True))}


def _masked(params: Mapping[str, Any], head_dim: int | None, dim, heads, hidden) -> dict[str, Any]:
    """Parameters, zero where there are no units."""
    flat = flat_variables(dict(params))
    for path, value in flat.items():
        for axis, size in _active_axes(path[-2:], head_dim, dim, heads, hidden).items():
            shape = [1] * value.ndim
            shape[axis] = value.shape[axis]
            value = value * unit_mask(value.shape[axis], size, value.dtype).reshape(shape)
        flat[path] = value
    return traverse_util.unflatten_dict(flat)


def _active_axes(path: tuple[str, ...], head_dim: int | None, dim, heads, hidden) -> dict:
    """Active size of the axes of a parameter; a block without heads is absent."""
    width = jnp.where(heads > 0, dim, 0) if head_dim is None else heads * head_dim
    present = jnp.where(heads > 0, dim, 0)
    layer, kind = path if len(path) == 2 else ("", "")
    if kind == "kernel":
        return {
            "patch_embed": {1: dim},
            "qkv": {0: dim, 3: width} if head_dim is None else {0: dim, 2: heads},
            "proj": {0: width, 1: dim},
            "fc1": {0: dim, 1: hidden},
            "fc2": {0: hidden, 1: dim},
            "head": {0: dim},
        }[layer]
    vectors = {"patch_embed": dim, "norm": present, "proj": present, "fc1": hidden, "fc2": present}
    # That of `qkv` is cut by the layer itself.
    return {0: vectors[layer]} if layer in vectors and kind in ("scale", "bias") else {}


def split_heads(variables: Mapping[str, Any], g: AutoFormerGenotype) -> dict[str, Any]:
    """Queries, keys and values [D, 3, 1, D] of an elastic network as the heads of genotype `g`."""
    flat, d = flat_variables(variables["params"]), g.embed_dim
    for i, heads in enumerate(g.num_heads):
        path = (f"blocks_{i}", "attn", "qkv", "kernel")
        flat[path] = flat[path][:d, :, 0, :d].reshape(d, 3, heads, d // heads)
    return {"params": traverse_util.unflatten_dict(flat)}
