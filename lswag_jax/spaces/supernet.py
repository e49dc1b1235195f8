"""Super-networks: each edge has a set of operations whose outputs are added.

A pruning search narrows one down to a network of an ordinary space. The sets of operations are an
input of the compiled program, as any genotype is; each operation has its own weights, shared by all
sets that contain it.
"""

import abc
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.options import Share
from lswag_jax.spaces.base import Space, scale_params
from lswag_jax.spaces.genotype import BaseGenotype, mix
from lswag_jax.spaces.initial import torch_variables
from lswag_jax.spaces.plan import Path
from lswag_jax.tasks import Task


@dataclasses.dataclass(frozen=True)
class OpSets(BaseGenotype):
    """The operations that remain on each edge.

    Args:
        edges: of each edge the names of its operations.

    Raises:
        ValueError: not a sequence of sequences of names.

    Example:
        >>> OpSets((("skip_connect", "nor_conv_1x1"),)).without(0, "skip_connect")
        OpSets(edges=(('nor_conv_1x1',),))
    """

    edges: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        try:
            edges = tuple(tuple(ops) for ops in self.edges if not isinstance(ops, str))
        except TypeError:
            edges = ()
        if not edges or len(edges) != len(self.edges):
            raise ValueError(f"edges must be lists of operations, got {self.edges!r}.")
        object.__setattr__(self, "edges", edges)

    @property
    def ops(self) -> tuple[str, ...]:
        """All operations, edge by edge."""
        return tuple(itertools.chain(*self.edges))

    def without(self, edge: int, op: str) -> Self:
        """The sets after an operation of an edge is removed."""
        left = tuple(other for other in self.edges[edge] if other != op)
        return type(self)((*self.edges[:edge], left, *self.edges[edge + 1 :]))


Inner = TypeVar("Inner", bound=Space)


class Supernet(Space[OpSets], Generic[Inner]):
    """The super-network of an ordinary space: a space whose genotypes are `OpSets`.

    Attributes:
        space: the ordinary space, whose networks have one operation an edge; its sizes are used.
        ops: that an edge may have, in order of execution; "none" is an empty set.
        nodes: of each node of a cell, its edges; cells of several kinds follow each other.
        inputs: edges that a node keeps in a network of `space`; None for all.
    """

    space: Inner
    ops: ClassVar[tuple[str, ...]]
    nodes: ClassVar[tuple[tuple[int, ...], ...]]
    kinds: ClassVar[int] = 1
    inputs: ClassVar[int | None] = None
    genotype_class: ClassVar[type] = OpSets
    count_rules: ClassVar[tuple[str, ...]] = ("exact", "naslib")

    # Spaces are frozen: their fields are read only, as these are.
    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What reports call it."""
        return f"{self.space.name}_supernet"

    @property
    def num_classes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Width of the classifier."""
        return self.space.num_classes

    @property
    def task(self) -> Task:
        """What the networks are to predict."""
        return self.space.task

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.space.image_shape

    # Genotypes --------------------------------------------------------------------------------

    @property
    def full(self) -> OpSets:
        """Every operation on every edge."""
        return OpSets((self.ops,) * self.num_edges)

    @property
    def num_edges(self) -> int:
        """Edges of a cell of each kind, together."""
        return sum(map(len, self.nodes))

    @abc.abstractmethod
    def final(self, g: OpSets) -> Any:
        """Makes the genotype of `space` of sets with at most one operation an edge."""

    def check(self, g: OpSets) -> None:
        """Raises ValueError unless `g` belongs to the space."""
        super().check(g)
        if len(g.edges) != self.num_edges:
            raise ValueError(f"{self.name} has {self.num_edges} edges, got {len(g.edges)}.")
        for i, ops in enumerate(g.edges):
            if ops != tuple(op for op in self.ops if op in ops):
                raise ValueError(
                    f"the operations of edge {i} must be of {', '.join(self.ops)} in this order, "
                    f"got {', '.join(map(str, ops))}."
                )

    def format(self, g: OpSets) -> str:
        """Edges with `|` between them, their operations with `+`."""
        return "|".join("+".join(ops) for ops in g.edges)

    def parse(self, text: str) -> OpSets:
        """Reads what `format` writes."""
        g = OpSets.of([ops.split("+") if ops else () for ops in text.split("|")])
        self.check(g)
        return g

    def sample_one(self, rng: np.random.Generator) -> OpSets:
        """On each edge a set that is not empty, all equally likely."""
        codes = rng.integers(1, 2 ** len(self.ops), size=self.num_edges)
        edges = [[op for i, op in enumerate(self.ops) if code >> i & 1] for code in codes]
        return OpSets.of(edges)

    def mutate(
        self, rng: np.random.Generator, g: OpSets, m_prob: Share = 0.2, s_prob: Share = 0.4
    ) -> OpSets:
        """Draws each edge's set anew with probability `m_prob`; `s_prob` has no use."""
        del s_prob
        pick = rng.random(self.num_edges) < m_prob
        return OpSets.of(mix(pick, self.sample_one(rng).edges, g.edges))

    # Networks ---------------------------------------------------------------------------------

    def network(self) -> Any:
        """Builds the elastic module, which takes `encode`'s output."""
        return self.build(self.full)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module: PyTorch's defaults (float32)."""
        encoded = {name: value[0] for name, value in self.encode([self.full]).items()}
        return torch_variables(self.network(), key, jnp.zeros((1, *self.image_shape)), encoded)

    def codes(self, g: OpSets) -> dict[str, np.ndarray]:
        """`codes` [edges, ops], 1 for each operation that is present."""
        return {"codes": np.array([[op in ops for op in self.ops] for ops in g.edges])}

    @abc.abstractmethod
    def _place(self, path: Path) -> tuple[int, str] | None:
        """The edge and the operation that a variable belongs to, None for any other."""

    def depth_extremes(self) -> Iterator[OpSets]:
        """Lists sets that give each layer its extreme bins; all sets are too many.

        A layer is deepest or least deep where all or none are present of the operations before its
        own in the cell, of those after it, and of the other kind of cell.
        """
        size = self.num_edges * len(self.ops) // self.kinds
        for kind, own in itertools.product(range(self.kinds), range(size)):
            for before, after, other in itertools.product((False, True), repeat=3):
                present = np.full((self.kinds, size), other)
                present[kind] = [before] * own + [True] + [after] * (size - own - 1)
                yield self._of_codes(present.reshape(self.num_edges, -1))

    def _of_codes(self, codes: np.ndarray) -> OpSets:
        """The sets whose codes (see `encode`) these are."""
        return OpSets.of([itertools.compress(self.ops, present) for present in codes])

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Zeroes the parameters of absent operations."""

        def factor(path: Path, value: jax.Array) -> jax.Array | None:
            del value
            place = self._place(path)
            return None if place is None else encoded["codes"][place[0], self.ops.index(place[1])]

        return scale_params(variables, factor)
