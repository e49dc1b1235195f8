"""Variables of the elastic NAS-Bench-101 network as one cell has them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import traverse_util

from lswag_jax.spaces.layers import centre_scale, unit_mask
from lswag_jax.spaces.nasbench101.genotype import (
    KERNEL_SIZES,
    MAX_VERTICES,
    OPS,
    NasBench101Genotype,
)


def active(variables: Mapping[str, Any], encoded: Mapping[str, Any], cells: int) -> dict[str, Any]:
    """Kernels of a vertex are scaled to its own output channels, and zero beyond its channels.

    A 1x1 kernel is the centre of the 3x3 one at three times the scale; layers that are not there
    are zero.

    Args:
        variables: of the elastic network.
        encoded: the cell, see `NasBench101.encode`.
        cells: of a stack.
    """
    size = jnp.array([0, *(KERNEL_SIZES.get(op, 0) for op in OPS)])[encoded["codes"]]
    flat = traverse_util.flatten_dict(dict(variables))
    for path, value in flat.items():
        stack, kind, vertex = _place(path, cells)
        if path[-1] != "kernel" or not kind:
            continue
        if vertex < MAX_VERTICES - 1:  # the output has all channels
            width = encoded["widths"][stack, vertex - 1]
            mask = unit_mask(value.shape[-1], width, value.dtype)
            scale = jnp.sqrt(value.shape[-1] / jnp.maximum(width, 1).astype(value.dtype))
            value = value * (mask * scale).reshape(1, 1, 1, -1)
        if kind == "vertex":
            value = value * mask.reshape(1, 1, -1, 1)
            value = value * centre_scale(size[vertex - 1], 3, value.dtype)
        else:
            value = value * jnp.asarray(encoded["edges"][0, vertex], value.dtype)
        flat[path] = value
    return traverse_util.unflatten_dict(flat)


def cut(
    variables: Mapping[str, Any], encoded: Mapping[str, Any], g: NasBench101Genotype, cells: int
) -> dict[str, Any]:
    """Variables of the exact network of `g`, from those that `active` returns for it."""
    kept = {}
    for path, value in traverse_util.flatten_dict(dict(variables)).items():
        stack, kind, vertex = _place(path, cells)
        if not kind:
            kept[path] = value
            continue
        inner = vertex < MAX_VERTICES - 1
        op = g.ops[vertex] if kind == "vertex" and vertex < g.num_vertices - 1 else ""
        if not (op in KERNEL_SIZES if kind == "vertex" else encoded["edges"][0, vertex]):
            continue
        width = encoded["widths"][stack, vertex - 1] if inner else value.shape[-1]
        value = value[..., :width]
        if kind == "vertex" and path[-1] == "kernel":
            value = value[:, :, :width]
            value = value[1:2, 1:2] if op == "conv1x1" else value
        kept[path] = value
    return traverse_util.unflatten_dict(kept)


def _place(path: tuple[str, ...], cells: int) -> tuple[int, str, int]:
    """Stack, kind ("input" or "vertex") and vertex of a variable; kind "" outside cells.

    The output is the largest cell's last vertex.
    """
    if not path[1].startswith("cells_"):
        return 0, "", 0
    kind, vertex = path[2].split("_")
    stack = int(path[1].removeprefix("cells_")) // cells
    return stack, kind, MAX_VERTICES - 1 if vertex == "output" else int(vertex)
