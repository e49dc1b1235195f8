"""The layers of a NAS-Bench-101 network."""

import functools
from typing import TYPE_CHECKING

from lswag_jax.spaces.nasbench101.genotype import (
    INNER,
    KERNEL_SIZES,
    NasBench101Genotype,
    vertex_channels,
)
from lswag_jax.spaces.plan import Layer, Plan, conv_norm_relu, dense, pool

if TYPE_CHECKING:
    from lswag_jax.spaces.nasbench101.space import NasBench101


def network(space: "NasBench101", g: NasBench101Genotype) -> Plan:
    """Stem, stacks of cells with max pools between, and a linear classifier."""
    width, side = space.width, space.image_size
    parts: dict[str, Layer | Plan] = {"stem": conv_norm_relu(space.channels, width, side)}
    for i in range(space.stacks * space.cells):
        if i and i % space.cells == 0:
            parts[f"pool_{i}"] = pool(width, side, kernel=2, stride=2)
            side //= 2
        outputs = space.width << (i // space.cells)
        parts[f"cells_{i}"] = _cell(g, width, outputs, side)
        width = outputs
    # The mean over the image is left out: the benchmark's count does not see it.
    return Plan(parts | {"head": dense(width, space.num_classes)})


@functools.lru_cache(maxsize=64)
def _cell(g: NasBench101Genotype, inputs: int, outputs: int, side: int) -> Plan:
    """A cell in the places of the largest: each inner vertex's projected input and convolution."""
    widths, last = vertex_channels(g.matrix, inputs, outputs), g.num_vertices - 1
    parts = {}
    for v in range(1, INNER + 1):
        width, op = (widths[v], g.ops[v]) if v < last else (0, "none")
        is_fed, kernel = v < last and bool(g.matrix[0][v]), KERNEL_SIZES.get(op)
        parts[f"input_{v}"] = conv_norm_relu(inputs, width, side, 1).only_if(is_fed)
        vertex = conv_norm_relu(width, width, side, kernel or 1)
        parts[f"vertex_{v}"] = vertex.only_if(kernel is not None)
        if op == "maxpool3x3":
            parts[f"pool_{v}"] = pool(width, side)
    is_direct = bool(g.matrix[0][last])
    direct = conv_norm_relu(inputs, outputs, side, 1).only_if(is_direct)
    return Plan(parts | {"input_output": direct})
