"""The super-network of NAS-Bench-201: up to four operations on each of a cell's six edges."""

import dataclasses
from typing import ClassVar

from lswag_jax.spaces.blocks import edge_of
from lswag_jax.spaces.nasbench201 import network as networks
from lswag_jax.spaces.nasbench201.genotype import NasBench201Genotype
from lswag_jax.spaces.nasbench201.plan import SUPERNET_OPS
from lswag_jax.spaces.nasbench201.plan import network as network_plan
from lswag_jax.spaces.nasbench201.space import NasBench201
from lswag_jax.spaces.plan import Plan
from lswag_jax.spaces.supernet import OpSets, Path, Supernet


@dataclasses.dataclass(frozen=True)
class NasBench201Supernet(Supernet[NasBench201]):
    """The super-network of NAS-Bench-201.

    TE-NAS prunes it at `NasBench201(width=3, cells=1)`.

    Args:
        space: whose networks have one operation an edge.

    Example:
        >>> space = NasBench201Supernet(NasBench201(width=3, cells=1))
        >>> space.num_params(space.full)
        14677
    """

    space: NasBench201

    ops: ClassVar[tuple[str, ...]] = SUPERNET_OPS
    nodes: ClassVar[tuple[tuple[int, ...], ...]] = ((0,), (1, 2), (3, 4, 5))

    def final(self, g: OpSets) -> NasBench201Genotype:
        """Makes the genotype of sets with at most one operation an edge; an empty one is "none".

        Raises:
            ValueError: an edge has several operations.
        """
        self.check(g)
        if max(map(len, g.edges)) > 1:
            raise ValueError(f"{self.format(g)} has several operations on an edge.")
        return NasBench201Genotype(tuple((*ops, "none")[0] for ops in g.edges))

    def plan(self, g: OpSets) -> Plan:
        """Lists the layers of `g`, with the places of all convolutions."""
        return network_plan(self.space, g.edges)

    def build(self, g: OpSets) -> networks.NasBench201Network:
        """Builds the Flax module of exactly `g`'s operations, to train or export."""
        self.check(g)
        return self.space.module(g.edges)

    def _place(self, path: Path) -> tuple[int, str] | None:
        edge = edge_of(path)
        return None if edge is None else (edge, path[3])
