"""Genotype of NAS-Bench-101: a cell as a labelled directed acyclic graph.

Source: google-research/nasbench (Ying et al., ICML 2019).
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from lswag_jax.spaces.genotype import BaseGenotype

OPS = ("conv3x3", "conv1x1", "maxpool3x3")  # in the benchmark's order, which its hashes use
KERNEL_SIZES = {"conv3x3": 3, "conv1x1": 1}
MAX_VERTICES = 7
INNER = MAX_VERTICES - 2  # vertices between input and output of the largest cell
MAX_EDGES = 9
_NASLIB_OPS = ("input", "output", "maxpool3x3", "conv1x1", "conv3x3")


@dataclasses.dataclass(frozen=True)
class NasBench101Genotype(BaseGenotype):
    """One cell: vertices with operations, from the input (first) to the output (last).

    Vertices that are on no path from input to output are removed on construction, so that cells
    which differ in nothing else are equal. An isomorphic cell with its vertices in another order
    is another genotype with the same `spec_hash`.

    Args:
        matrix: adjacency, [V, V] of 0 and 1 above the diagonal; `matrix[u][v]` is an edge u -> v.
        ops: of each vertex: "input", then "conv3x3", "conv1x1" or "maxpool3x3", then "output".
            The benchmark's names "conv3x3-bn-relu" and "conv1x1-bn-relu" are understood too.

    Raises:
        ValueError: not such a matrix or such operations, or no path from input to output.

    Example:
        >>> matrix = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
        >>> NasBench101Genotype(matrix, ["input", "conv3x3", "conv1x1", "output"]).ops
        ('input', 'conv3x3', 'output')
    """

    matrix: tuple[tuple[int, ...], ...]
    ops: tuple[str, ...]

    def __post_init__(self) -> None:
        matrix, ops = _checked_matrix(self.matrix), _checked_ops(self.ops)
        if len(ops) != len(matrix):
            raise ValueError(
                f"ops must have one entry a vertex, got {len(ops)} for {len(matrix)} vertices."
            )
        kept = _vertices_on_a_path(matrix)
        if len(kept) < 2:
            raise ValueError("matrix must have a path from its first to its last vertex.")
        pruned = matrix[np.ix_(kept, kept)].tolist()
        object.__setattr__(self, "matrix", tuple(tuple(row) for row in pruned))
        object.__setattr__(self, "ops", tuple(ops[v] for v in kept))

    @property
    def num_vertices(self) -> int:
        """Vertices, with input and output."""
        return len(self.ops)

    @property
    def num_edges(self) -> int:
        """Edges between vertices."""
        return sum(map(sum, self.matrix))

    def sources(self, vertex: int) -> tuple[int, ...]:
        """Vertices with an edge to `vertex`."""
        return tuple(u for u in range(vertex) if self.matrix[u][vertex])

    def spec_hash(self) -> str:
        """MD5 hash that isomorphic cells share, the benchmark's key (its `hash_spec`).

        Example:
            >>> NasBench101Genotype([[0, 1], [0, 0]], ["input", "output"]).spec_hash()
            '043721b9c7fe8c5fad811d47d83132ec'
        """
        matrix = np.array(self.matrix)
        labels = [-1, *map(OPS.index, self.ops[1:-1]), -2]
        degrees = zip(matrix.sum(1).tolist(), matrix.sum(0).tolist(), labels, strict=True)
        hashes = [_md5(str(vertex)) for vertex in degrees]
        for _ in hashes:  # as many rounds as vertices; each sees one step farther
            hashes = [
                _md5("|".join((_joined(hashes, into), _joined(hashes, out), own)))
                for into, out, own in zip(matrix.T, matrix, hashes, strict=True)
            ]
        return _md5(str(sorted(hashes)))

    def to_text(self) -> str:
        """Operation~sources of each vertex after the input, as "conv3x3~0|output~0,1"."""
        return _text(self.ops[1:], map(self.sources, range(1, self.num_vertices)))

    def spellings(self) -> Iterator[str]:
        """Texts of the isomorphic cells, its own first: the inner vertices in every valid order."""
        inner = range(1, self.num_vertices - 1)
        for order in itertools.permutations(inner):
            place = {v: i for i, v in enumerate((0, *order))}
            vertices = (*order, self.num_vertices - 1)
            sources = [sorted(place[u] for u in self.sources(v)) for v in vertices]
            if all(max(into) < v for v, into in enumerate(sources, start=1)):
                yield _text((*(self.ops[v] for v in order), self.ops[-1]), sources)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Reads what `to_text` writes.

        Example:
            >>> NasBench101Genotype.from_text("conv3x3~0|output~0,1").num_edges
            3

        Raises:
            ValueError: the text has another form.
        """
        try:
            ops, sources = zip(*(vertex.split("~") for vertex in text.split("|")), strict=True)
            matrix = np.zeros((len(ops) + 1,) * 2, int)
            for v, into in enumerate(sources, start=1):
                for u in into.split(","):
                    matrix[int(u), v] = 1
            return cls(matrix.tolist(), ("input", *ops))
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{text!r} is not of the form 'operation~sources|...|output~sources', for example "
                f"'conv3x3~0|maxpool3x3~0,1|output~1,2' ({error})."
            ) from None

    def to_naslib(self) -> tuple[int, ...]:
        """NASLib's encoding: the adjacency row by row, then the operations.

        V * V + V integers for V vertices; NASLib itself stores cells as given, before pruning.
        """
        return *sum(self.matrix, ()), *map(_NASLIB_OPS.index, self.ops)

    @classmethod
    def from_naslib(cls, encoding: Sequence[int]) -> Self:
        """Makes the genotype of NASLib's encoding, V * V + V integers (56 for 7 vertices).

        Example:
            >>> NasBench101Genotype.from_naslib((0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 1)).ops
            ('input', 'conv3x3', 'output')

        Raises:
            ValueError: another length, or an operation that is not 0 to 4.
        """
        vertices = next((v for v in range(2, 8) if v * v + v == len(encoding)), None)
        if vertices is None:
            raise ValueError(
                f"an encoding of NASLib has V * V + V integers for 2 to 7 vertices, got "
                f"{len(encoding)}."
            )
        *edges, ops = np.reshape(encoding, (vertices + 1, vertices)).tolist()
        unknown = set(ops) - set(range(len(_NASLIB_OPS)))
        if unknown:
            raise ValueError(f"operations of NASLib's encoding are 0 to 4, got {min(unknown)}.")
        return cls.of(edges, [_NASLIB_OPS[op] for op in ops])


def vertex_channels(
    matrix: Sequence[Sequence[int]], in_channels: int, out_channels: int
) -> tuple[int, ...]:
    """Output channels of each vertex of a pruned cell (the benchmark's rule).

    The cell's output channels are shared out among the inner vertices that feed the output, a
    remainder one by one from the first. Any other vertex has the most that a vertex fed by it has.

    Example:
        >>> vertex_channels([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], 3, 9)
        (3, 5, 4, 9)
    """
    last = len(matrix) - 1
    channels = [in_channels, *[0] * (last - 1), out_channels]
    feeding = [v for v in range(1, last) if matrix[v][last]]
    for i, v in enumerate(feeding):
        channels[v] = out_channels // len(feeding) + (i < out_channels % len(feeding))
    for v in reversed(range(1, last)):
        if v not in feeding:
            channels[v] = max(channels[w] for w in range(v + 1, last) if matrix[v][w])
    return tuple(channels)


def valid_cell(matrix: np.ndarray, ops: Sequence[str] | np.ndarray) -> NasBench101Genotype | None:
    """The pruned cell of an adjacency and the inner operations; None if it is not valid."""
    try:
        g = NasBench101Genotype.of(matrix, ("input", *ops, "output"))
    except ValueError:  # no path from input to output
        return None
    return g if g.num_edges <= MAX_EDGES else None


def padded(
    rng: np.random.Generator, g: NasBench101Genotype, places: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adjacency of 7 vertices and inner operations with `g`'s inner vertices at `places`.

    The others have no edges and random operations.
    """
    every = [0, *places, MAX_VERTICES - 1]
    matrix = np.zeros((MAX_VERTICES, MAX_VERTICES), int)
    matrix[np.ix_(every, every)] = g.matrix
    ops = rng.choice(OPS, INNER)
    ops[np.asarray(places, int) - 1] = g.ops[1:-1]
    return matrix, ops


def _checked_matrix(matrix: Any) -> np.ndarray:
    try:
        array = np.array(matrix)
    except ValueError:  # rows of different length
        array = np.empty(0)
    if array.ndim != 2 or len(set(array.shape)) > 1 or len(array) < 2:
        raise ValueError(f"matrix must be square with two rows or more, got {matrix!r}.")
    if not np.isin(array, (0, 1)).all() or np.tril(array != 0).any():
        raise ValueError(f"matrix must hold 0 and 1, only 0 up to the diagonal, got {matrix!r}.")
    return array.astype(int)


def _checked_ops(ops: Any) -> list[str]:
    try:
        names = [str(op).removesuffix("-bn-relu") for op in ops]
    except TypeError:  # not a sequence
        names = []
    if names[:1] != ["input"] or names[-1:] != ["output"] or set(names[1:-1]) - set(OPS):
        raise ValueError(
            f"ops must be 'input', any of {', '.join(OPS)}, and 'output', got {ops!r}."
        )
    return names


def _vertices_on_a_path(matrix: np.ndarray) -> list[int]:
    """Vertices that are reached from the first and from which the last is reached."""
    last = len(matrix) - 1
    reached, reaching = {0}, {last}
    for v in range(1, last + 1):
        if any(matrix[u, v] for u in reached):
            reached.add(v)
    for v in reversed(range(last)):
        if any(matrix[v, w] for w in reaching):
            reaching.add(v)
    return sorted(reached & reaching)


def _text(ops: Iterable[str], sources: Iterable[Iterable[int]]) -> str:
    """Vertices after the input as text: operations and where each takes its inputs from."""
    pairs = zip(ops, sources, strict=True)
    return "|".join(f"{op}~{','.join(map(str, into))}" for op, into in pairs)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _joined(hashes: Sequence[str], neighbours: np.ndarray) -> str:
    return "".join(sorted(h for h, edge in zip(hashes, neighbours, strict=True) if edge))
