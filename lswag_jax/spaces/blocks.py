"""Blocks that the convolutional spaces share: cells of added edges, super-networks' edges."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lswag_jax.spaces.layers import BatchNorm, Conv, Initializer

Array = jax.Array


def add(outputs: Sequence[Array | None]) -> Array | None:
    """Adds up the outputs that are not None; None where all are."""
    present = [y for y in outputs if y is not None]
    return functools.reduce(operator.add, present) if present else None


def run_cell(
    x: Array,
    edges: Sequence[tuple[int, int]],
    run_edge: Callable[[int, Array], Array | None],
    shape: tuple[int, ...],
) -> Array:
    """The last node of a cell, each node of which is the sum of the edges that lead to it.

    Args:
        x: node 0.
        edges: (source, target) pairs, listed by target.
        run_edge: output of edge number i, given its source; None where it has no operation.
        shape: of a node; one that no edge leads to is zero.
    """
    nodes = [x]
    for target in range(1, edges[-1][1] + 1):
        into = [i for i, edge in enumerate(edges) if edge[1] == target]
        y = add([run_edge(i, nodes[edges[i][0]]) for i in into])
        # Zero of x, not a constant: what stands behind an empty node are layers of the images too.
        zero = (0 * x).sum((-3, -2, -1), keepdims=True)
        nodes.append(jnp.broadcast_to(zero, shape) if y is None else y)
    return nodes[-1]


def normalise(x: Array, train: bool, active: Array | None = None, **fields: Any) -> Array:
    """Runs BatchNorm on images [B, H, W, C], or on each tile of [B, T, H, W, C] by itself.

    Args:
        x: the images; the original code of the jigsaw calls its encoder once a tile.
        train: whether the running statistics are updated.
        active: how many channels an elastic layer has; None for all.
        **fields: of `BatchNorm`.
    """
    named: dict[str, Any] = {"name": "norm"} | fields
    return BatchNorm(by_tile=x.ndim == 5, **named)(x, train, active=active)


class ReLUConvBN(nn.Module):
    """ReLU, convolution, BatchNorm."""

    features: int
    size: int = 3
    strides: int = 1
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [..., H, W, I] to [..., H / strides, W / strides, features]."""
        conv = Conv(
            self.features, self.size, self.strides, kernel_init=self.kernel_init, name="conv"
        )
        return normalise(conv(nn.relu(x)), train)


class SuperEdge(nn.Module):
    """Adds up several operations, each with its own weights.

    Args:
        ops: of the exact network.
        every_op: that any network has, in order of execution.
        make: `make(op, name=op)` is the module of one operation.
    """

    ops: tuple[str, ...]
    every_op: tuple[str, ...]
    make: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, codes: Array | None, train: bool) -> Array | None:
        """Maps `x` [B, H, W, C] to the sum, or to None without an exact operation.

        Args:
            x: the source node.
            codes: 0 for each of `every_op` that is absent; None for an exact network.
            train: whether BatchNorm updates its statistics.
        """
        if codes is None:
            return add([self.make(op, name=op)(x, train) for op in self.ops])
        pairs = zip(self.every_op, codes, strict=True)
        return add([self.make(op, name=op)(x, train, present) for op, present in pairs])


def edge_of(path: Sequence[str]) -> int | None:
    """Number of the edge that a variable belongs to, None for any other."""
    edges = [part.removeprefix("edge_") for part in path if part.startswith("edge_")]
    return int(edges[0]) if edges else None
