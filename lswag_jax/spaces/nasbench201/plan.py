"""The layers of a NAS-Bench-201 network."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lswag_jax.spaces.nasbench201.genotype import OPS
from lswag_jax.spaces.plan import Layer, Plan, conv, dense, mean, norm, pool, relu, relu_conv_norm

if TYPE_CHECKING:
    from lswag_jax.spaces.nasbench201.space import NasBench201

CONV_SIZES = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
SUPERNET_OPS = OPS[1:]  # without "none"
STAGES = 3


def network(space: "NasBench201", edges: Sequence) -> Plan:
    """Stem, three stages of cells with residual blocks between, and a linear classifier.

    Args:
        space: says the sizes.
        edges: of each edge of a cell its operation, or of a super-network the set of them.
    """
    width, side = space.width, space.image_size
    parts: dict[str, Layer | Plan] = {
        "stem_conv": conv(space.channels, width, side),
        "stem_norm": norm(width, side),
    }
    for i in range(STAGES * space.cells + STAGES - 1):
        if is_residual(i, space.cells):
            parts[f"cells_{i}"] = _residual_block(width, side)
            width, side = 2 * width, side // 2
        else:
            parts[f"cells_{i}"] = _cell(tuple(edges), width, side)
    parts |= {"norm": norm(width, side), "relu": relu(width, side), "mean": mean(width, side)}
    return Plan(parts | {"head": dense(width, space.num_classes)})


def is_residual(i: int, cells: int) -> bool:
    """Whether block number `i` is one of those between stages of so many cells."""
    return i % (cells + 1) == cells


@functools.lru_cache(maxsize=256)
def _cell(edges: tuple, width: int, side: int) -> Plan:
    is_exact = isinstance(edges[0], str)
    make = _exact_edge if is_exact else _super_edge
    return Plan({f"edge_{i}": make(edge, width, side) for i, edge in enumerate(edges)})


@functools.lru_cache(maxsize=256)
def _exact_edge(op: str, width: int, side: int) -> Plan:
    """An operation; one that is no convolution leaves the place of one empty."""
    block = relu_conv_norm(width, width, side, CONV_SIZES.get(op, 1)).only_if(op in CONV_SIZES)
    return Plan({**block.parts, **_pool_of((op,), width, side)})


@functools.lru_cache(maxsize=256)
def _super_edge(ops: tuple[str, ...], width: int, side: int) -> Plan:
    """The operations of a super-network's edge, with the places of both convolutions."""
    convs = {
        op: relu_conv_norm(width, width, side, size).only_if(op in ops)
        for op, size in CONV_SIZES.items()
    }
    return Plan({**convs, **_pool_of(ops, width, side)})


def _pool_of(ops: Sequence[str], width: int, side: int) -> dict[str, Layer]:
    return {"pool": pool(width, side)} if "avg_pool_3x3" in ops else {}


@functools.lru_cache(maxsize=64)
def _residual_block(width: int, side: int) -> Plan:
    """Half the resolution and twice the channels; the shortcut's convolution has no norm."""
    wide, half = 2 * width, side // 2
    return Plan(
        {
            "conv_a": relu_conv_norm(width, wide, side, stride=2),
            "conv_b": relu_conv_norm(wide, wide, half),
            "pool": pool(width, side, kernel=2, stride=2),
            "downsample": conv(width, wide, half, kernel=1),
        }
    )
