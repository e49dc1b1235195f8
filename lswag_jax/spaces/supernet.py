"""Super-networks: each edge has a set of operations whose outputs are added.

What a pruning search narrows down to a network of an ordinary space. The set of an
edge is an input of the compiled program, as any genotype is. Operations have weights of their own,
which a smaller set shares with a larger one.
"""

import abc
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lswag_jax.spaces.base import Space
from lswag_jax.spaces.initial import torch_variables
from lswag_jax.tasks import Task

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class OpSets:
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

    def to_json(self) -> dict[str, Any]:
        """The sets as a dictionary that `json.dumps` takes."""
        return {"edges": [list(ops) for ops in self.edges]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: a key is missing or unknown.
        """
        if not isinstance(data, Mapping) or set(data) != {"edges"}:
            raise ValueError(f"sets of operations have the key 'edges' alone, got {data!r}.")
        return cls(data["edges"])


class Supernet(Space):
    """The super-network of an ordinary space: a space whose genotypes are `OpSets`.

    Attributes:
        space: whose networks have one operation an edge, and whose sizes are meant.
        ops: that an edge may have, in order of execution; "none" is an empty set.
        nodes: of each node of a cell, its edges; cells of several kinds follow each other.
        inputs: edges that a node keeps in a network of `space`; None for all.
    """

    space: Space
    ops: ClassVar[tuple[str, ...]]
    nodes: ClassVar[tuple[tuple[int, ...], ...]]
    kinds: ClassVar[int] = 1
    inputs: ClassVar[int | None] = None
    genotype_class: ClassVar[type] = OpSets

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.space.name}_supernet"

    @property
    def num_classes(self) -> int:
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
        """The genotype of `space` of sets with at most one operation an edge."""

    def check(self, g: OpSets) -> None:
        """Raise ValueError unless `g` belongs to the space."""
        if not isinstance(g, OpSets):
            raise ValueError(f"{self.name} holds OpSets, got a genotype of {type(g).__name__}.")
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
        """The inverse of `format`."""
        g = OpSets([ops.split("+") if ops else () for ops in text.split("|")])
        self.check(g)
        return g

    def _sample_one(self, rng: np.random.Generator) -> OpSets:
        """On each edge a set that is not empty, all equally likely."""
        codes = rng.integers(1, 2 ** len(self.ops), size=self.num_edges)
        edges = [[op for i, op in enumerate(self.ops) if code >> i & 1] for code in codes]
        return OpSets(edges)

    def mutate(
        self, rng: np.random.Generator, g: OpSets, m_prob: float = 0.2, s_prob: float = 0.4
    ) -> OpSets:
        """Draws each edge's set anew with probability `m_prob`; there is nothing else."""
        del s_prob
        return _mixed(rng.random(self.num_edges) < m_prob, self._sample_one(rng), g)

    def crossover(self, rng: np.random.Generator, a: OpSets, b: OpSets) -> OpSets:
        """A child with each edge's set of either parent."""
        return _mixed(rng.random(self.num_edges) < 0.5, a, b)

    # Networks ---------------------------------------------------------------------------------

    def network(self) -> Any:
        """The elastic module; it takes `encode`'s output."""
        return self.build(self.full)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module: PyTorch's defaults (float32)."""
        encoded = {name: value[0] for name, value in self.encode([self.full]).items()}
        return torch_variables(self.network(), key, jnp.zeros((1, *self.image_shape)), encoded)

    def _encode_one(self, g: OpSets) -> dict[str, np.ndarray]:
        """`codes` [edges, ops], 1 for what is there, and the active sizes."""
        there = np.array([[op in ops for op in self.ops] for ops in g.edges])
        return {"codes": there} | self._active_sizes(there)

    @abc.abstractmethod
    def _active_sizes(self, there: np.ndarray) -> dict[str, np.ndarray]:
        """`in_units`, `out_units` and `act_units` (see `encode`) of the sets [edges, ops]."""

    @abc.abstractmethod
    def _place(self, path: Path) -> tuple[int, str] | None:
        """The edge and the operation that a variable belongs to, None for any other."""

    def layer_sets(self) -> np.ndarray:
        """Sets of present weight layers, bool [K, L], that give each layer its extreme bins.

        All sets are too many. A layer is deepest or least deep where all or none are there of the
        operations before its own in the cell, of those after it, and of the other kind of cell.
        """
        size = self.num_edges * len(self.ops) // self.kinds
        rows = []
        for kind, own in itertools.product(range(self.kinds), range(size)):
            for before, after, other in itertools.product((False, True), repeat=3):
                there = np.full((self.kinds, size), other)
                there[kind] = [before] * own + [True] + [after] * (size - own - 1)
                sizes = self._active_sizes(there.reshape(self.num_edges, -1))
                rows.append(sizes["in_units"] > 0)
        return np.unique(rows, axis=0)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The parameters of operations that are not there are zero."""
        flat = traverse_util.flatten_dict(dict(variables))
        for path, value in flat.items():
            place = self._place(path)
            if path[0] == "params" and place is not None:
                is_there = encoded["codes"][place[0], self.ops.index(place[1])]
                flat[path] = value * jnp.asarray(is_there, value.dtype)
        return traverse_util.unflatten_dict(flat)

    def extract(self, variables: Mapping[str, Any], g: OpSets) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""
        self.check(g)
        kept = {}
        for path, value in traverse_util.flatten_dict(dict(variables)).items():
            place = self._place(path)
            if place is None or place[1] in g.edges[place[0]]:
                kept[path] = value
        return traverse_util.unflatten_dict(kept)


def _mixed(pick: Sequence[bool], a: OpSets, b: OpSets) -> OpSets:
    """Each edge's set of `a` where picked, else of `b`."""
    triples = zip(pick, a.edges, b.edges, strict=True)
    return OpSets([ours if picked else theirs for picked, ours, theirs in triples])
