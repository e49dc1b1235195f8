"""The super-network of DARTS: every node is entered by all before it, with up to seven operations.

A cell has 14 edges instead of 8. An edge's input is fixed, so that no map is padded and nothing is
switched but operations on and off.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.spaces.blocks import SuperEdge, add
from lswag_jax.spaces.darts.genotype import NODES, OPS, DartsGenotype
from lswag_jax.spaces.darts.network import Cell, DartsNetwork, ExactEdge
from lswag_jax.spaces.darts.plan import edge_stride
from lswag_jax.spaces.darts.plan import network as network_plan
from lswag_jax.spaces.darts.space import Darts
from lswag_jax.spaces.plan import Plan
from lswag_jax.spaces.supernet import OpSets, Path, Supernet

Array = jax.Array
Sets = tuple[tuple[str, ...], ...]
# Source of each edge of a cell: of node i all states before it, 0 to i + 1.
SOURCES = tuple(source for node in range(NODES) for source in range(node + 2))


class SuperCell(Cell):
    """Four nodes; each is the sum of all edges that lead to it. `edges` holds their operations."""

    @staticmethod
    def codes_of(encoded: Any, kind: int) -> Array:
        """Which operations a normal (0) or a reduction cell (1) has, [edges, ops]."""
        return encoded["codes"].reshape(2, len(SOURCES), len(OPS))[kind]

    def _nodes(self, states: list[Array], codes: Any, train: bool) -> Array:
        for node in range(NODES):
            y = add([self._edge(i, states, codes, train) for i in _edges_of(node)])
            assert y is not None  # `check`: every node is entered
            states.append(y)
        return jnp.concatenate(states[2:], axis=-1)

    def _edge(self, i: int, states: list[Array], codes: Any, train: bool) -> Array | None:
        strides = edge_stride(self.place.reduces, SOURCES[i])
        options = {"strides": strides, "affine": self.affine, "pool_norm": self.pool_norm}
        make = functools.partial(ExactEdge, **options)
        edge = SuperEdge(self.edges[i], OPS, make, name=f"edge_{i}")
        return edge(states[SOURCES[i]], None if codes is None else codes[i], train)


def _edges_of(node: int) -> tuple[int, ...]:
    """Edges of a cell that enter a node."""
    first = node * (node + 3) // 2
    return tuple(range(first, first + node + 2))


@dataclasses.dataclass(frozen=True)
class DartsSupernet(Supernet[Darts]):
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
        """Raises ValueError unless `g` belongs to the space: every node is entered."""
        super().check(g)
        for node, edges in enumerate(self.nodes):
            if not any(g.edges[i] for i in edges):
                raise ValueError(f"no operation enters node {node % NODES} of {self.format(g)}.")

    def plan(self, g: OpSets) -> Plan:
        """Lists the layers of `g`, with the places of all operations."""
        cells = [tuple(zip(sets, SOURCES, strict=True)) for sets in _cells(g)]
        return network_plan(self.space, *cells)

    def final(self, g: OpSets) -> DartsGenotype:
        """Makes the genotype of sets that leave one operation on two edges of each node.

        Raises:
            ValueError: an edge has several, or a node more than two edges with one.
        """
        self.check(g)
        cells = [
            [(op, source) for source, ops in zip(SOURCES, sets, strict=True) for op in ops]
            for sets in _cells(g)
        ]
        return DartsGenotype.of(*cells)

    def build(self, g: OpSets) -> DartsNetwork:
        """Builds the Flax module of exactly `g`'s operations, to train or export."""
        self.check(g)
        module = self.space.network()
        normal, reduce = _cells(g)
        return module.clone(normal=normal, reduce=reduce, cell_class=SuperCell)

    def _place(self, path: Path) -> tuple[int, str] | None:
        found = self.space.edge_of(path)
        return found and (found[0] * len(SOURCES) + found[1], path[3])


def _cells(g: OpSets) -> tuple[Sets, Sets]:
    """The sets of the normal and of the reduction cell's edges."""
    return g.edges[: len(SOURCES)], g.edges[len(SOURCES) :]
