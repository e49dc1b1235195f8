"""The super-network of DARTS: every node is entered by all before it, with up to seven operations.

A cell has 14 edges instead of 8. An edge's input is fixed, so that no map is padded and nothing is
switched but operations on and off.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from lswag_jax.spaces.darts import layers as darts_layers
from lswag_jax.spaces.darts.genotype import NODES, OPS, DartsGenotype, Edge
from lswag_jax.spaces.darts.layers import edge_stride
from lswag_jax.spaces.darts.network import Cell, DartsNetwork, ExactEdge
from lswag_jax.spaces.darts.space import Darts
from lswag_jax.spaces.supernet import OpSets, Path, Supernet

Array = jax.Array
# Source of each edge of a cell: of node i all states before it, 0 to i + 1.
SOURCES = tuple(source for node in range(NODES) for source in range(node + 2))
_ALWAYS = 2 * len(SOURCES) * len(OPS)  # place of a layer that every network has


class SuperEdge(nn.Module):
    """The sum of several operations, each with weights of its own."""

    ops: tuple[str, ...]  # of the exact network
    strides: int
    affine: bool
    pool_norm: bool

    @nn.compact
    def __call__(self, x: Array, codes: Array | None, train: bool) -> Array | None:
        """Maps `x` [B, H, W, C] to [B, H / strides, W / strides, C], or to None without operations.

        Args:
            x: the source.
            codes: 0 for each of `OPS` that is not there; None for an exact network.
            train: whether BatchNorm updates its statistics.
        """
        theirs = dict(zip(OPS, codes, strict=True)) if codes is not None else {}
        outputs = [
            ExactEdge(op, self.strides, self.affine, self.pool_norm, name=op)(
                x, train, theirs.get(op)
            )
            for op in theirs or self.ops
        ]
        return functools.reduce(operator.add, outputs) if outputs else None


class SuperCell(Cell):
    """Four nodes; each is the sum of all edges that lead to it. `edges` holds their operations."""

    @staticmethod
    def codes_of(encoded: Any, kind: int) -> Array:
        """Which operations a normal (0) or a reduction cell (1) has, [edges, ops]."""
        return encoded["codes"].reshape(2, len(SOURCES), len(OPS))[kind]

    def _node(self, node: int, states: list[Array], codes: Any, train: bool) -> Array:
        outputs = []
        for i in _edges_of(node):
            strides = edge_stride(self.place.reduces, SOURCES[i])
            edge = SuperEdge(self.edges[i], strides, self.affine, self.pool_norm, name=f"edge_{i}")
            outputs.append(edge(states[SOURCES[i]], None if codes is None else codes[i], train))
        return functools.reduce(operator.add, (y for y in outputs if y is not None))


def _edges_of(node: int) -> tuple[int, ...]:
    """Edges of a cell that enter a node."""
    first = node * (node + 3) // 2
    return tuple(range(first, first + node + 2))


class Cells(NamedTuple):
    """All operations of both cells with their sources, as `darts_layers` reads a genotype."""

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]


@dataclasses.dataclass(frozen=True)
class DartsSupernet(Supernet):
    """The super-network of the DARTS space.

    Compilation grows with `space.layers`: TE-NAS prunes thin networks, and `Darts(layers=3,
    width=1)` has a normal cell before two reduction cells.

    Args:
        space: whose networks have two edges a node, and one operation an edge.

    Example:
        >>> space = DartsSupernet(Darts(layers=3, width=1))
        >>> len(space.full.ops), space.num_params(space.full)
        (196, 12273)
    """

    space: Darts

    ops: ClassVar[tuple[str, ...]] = OPS
    kinds: ClassVar[int] = 2
    nodes: ClassVar[tuple[tuple[int, ...], ...]] = tuple(
        tuple(kind * len(SOURCES) + i for i in _edges_of(node))
        for kind in range(2)
        for node in range(NODES)
    )
    inputs: ClassVar[int | None] = 2

    def check(self, g: OpSets) -> None:
        """Raise ValueError unless `g` belongs to the space: every node is entered."""
        super().check(g)
        for node, edges in enumerate(self.nodes):
            if not any(g.edges[i] for i in edges):
                raise ValueError(f"no operation enters node {node % NODES} of {self.format(g)}.")

    def num_params(self, g: OpSets) -> int:
        """Trainable parameters of `g`."""
        self.check(g)
        return sum(layer.params for layer in darts_layers.layers_of(self.space, _cells(g)))

    def macs(self, g: OpSets, rule: str = "exact") -> int:
        """Multiply-accumulates of one image, see `Darts.macs`."""
        self.check(g)
        return darts_layers.count_macs(darts_layers.layers_of(self.space, _cells(g)), rule)

    def final(self, g: OpSets) -> DartsGenotype:
        """The genotype of sets with one operation on two edges of each node, none on the others.

        Raises:
            ValueError: there are more.
        """
        self.check(g)
        return DartsGenotype(*_cells(g))

    def build(self, g: OpSets) -> DartsNetwork:
        """The Flax module of exactly `g`'s operations, to train or export."""
        self.check(g)
        module = self.space.network()
        normal, reduce = g.edges[: len(SOURCES)], g.edges[len(SOURCES) :]
        return module.clone(normal=normal, reduce=reduce, cell_class=SuperCell)

    def _active_sizes(self, there: np.ndarray) -> dict[str, np.ndarray]:
        is_there = np.append(there.ravel(), True)
        weights, relus = _layers(self.space)
        return {
            "in_units": is_there[weights[0]] * weights[1],
            "out_units": is_there[weights[0]] * weights[2],
            "act_units": is_there[relus[0]] * relus[1],
        }

    def _place(self, path: Path) -> tuple[int, str] | None:
        if not path[2].startswith("edge_"):
            return None
        kind = self.space.cells[int(path[1].removeprefix("cells_"))].reduces
        return kind * len(SOURCES) + int(path[2].removeprefix("edge_")), path[3]


def _cells(g: OpSets) -> Cells:
    pairs = [
        [(op, source) for source, ops in zip(SOURCES, edges, strict=True) for op in ops]
        for edges in (g.edges[: len(SOURCES)], g.edges[len(SOURCES) :])
    ]
    return Cells(*map(tuple, pairs))


@functools.lru_cache(maxsize=8)
def _layers(space: Darts) -> tuple[np.ndarray, np.ndarray]:
    """Weight and activation layers of the full network, each [3, L].

    The rows are the place of its operation among all, `in_units` and `out_units`.
    """
    cell = tuple((op, source) for source in SOURCES for op in OPS)
    weights, relus, place = [], [], 0
    for block in darts_layers.blocks_of(space, Cells(cell, cell)):
        of_block = _ALWAYS if block.op is None else block.reduces * len(cell) + place
        place = 0 if block.op is None else place + 1
        for layer in block.layers:
            entry = (of_block, layer.in_units, layer.out_units)
            if layer.kind in ("conv", "linear"):
                weights.append(entry)
            elif layer.kind == "relu":
                relus.append(entry)
    return np.array(weights).T, np.array(relus).T
