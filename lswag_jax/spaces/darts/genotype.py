"""Genotype of the DARTS cell space and its two notations."""

import ast
import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, Self

from lswag_jax.spaces.genotype import BaseGenotype

# In the order of NASLib's op indices (and of quark0's primitives without `none`).
OPS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
CONCAT = tuple(range(2, 2 + NODES))  # the states that a cell's output concatenates: all nodes
Edge = tuple[str, int]
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")


@dataclasses.dataclass(frozen=True)
class DartsGenotype(BaseGenotype):
    """A normal and a reduction cell, each of four nodes with two incoming edges.

    An edge is DARTS's pair (op, input); edges 2i and 2i + 1 enter node i. Inputs 0 and 1 are the
    outputs of the cell before the last and of the last one, input 2 + i is node i.

    Args:
        normal: the 8 edges of the normal cell.
        reduce: the 8 edges of the reduction cell.

    Raises:
        ValueError: not 8 edges, an unknown op, an input that does not come before its node, or
            two edges of a node with the same input.

    Example:
        >>> cell = (("skip_connect", 0), ("sep_conv_3x3", 1)) * 4
        >>> DartsGenotype(cell, cell).to_naslib()[0][:2]
        ((0, 2), (1, 3))
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for field in ("normal", "reduce"):
            object.__setattr__(self, field, _cell(field, getattr(self, field)))

    @classmethod
    def from_nodes(cls, nodes: Sequence[tuple[Edge, Edge]]) -> Self:
        """Makes the genotype of 8 nodes, each a pair of edges: first the normal cell's."""
        edges = [edge for node in nodes for edge in node]
        return cls.of(edges[: 2 * NODES], edges[2 * NODES :])

    @property
    def nodes(self) -> tuple[tuple[Edge, Edge], ...]:
        """The 8 nodes, each as its two edges: first the normal cell's."""
        edges = self.normal + self.reduce
        return tuple(zip(edges[::2], edges[1::2], strict=True))

    def to_naslib(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """NASLib's compact form: for each cell its edges as pairs (input, index of the op)."""
        return tuple(
            tuple((source, OPS.index(op)) for op, source in cell)
            for cell in (self.normal, self.reduce)
        )

    @classmethod
    def from_naslib(cls, compact: Sequence) -> Self:
        """Reads what `to_naslib` writes.

        Raises:
            ValueError: not two cells of pairs, or an op index outside 0-6.
        """
        try:
            cells = [[(OPS[range(len(OPS)).index(op)], i) for i, op in cell] for cell in compact]
            normal, reduce = cells
        except (TypeError, ValueError):
            raise ValueError(
                f"NASLib's form is two cells of pairs (input, op index 0-{len(OPS) - 1}), got "
                f"{compact!r}."
            ) from None
        return cls.of(normal, reduce)

    def to_text(self) -> str:
        """The genotype as quark0/darts prints it."""
        cells = [
            f"{field}={list(getattr(self, field))}, {field}_concat=range(2, {2 + NODES})"
            for field in ("normal", "reduce")
        ]
        return f"Genotype({', '.join(cells)})"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """A genotype from what quark0/darts prints, or from NASLib's compact form as text.

        Raises:
            ValueError: neither form, or a cell's output does not concatenate all four nodes.
        """
        try:
            value = _value(ast.parse(text.strip(), mode="eval").body)
        except (AttributeError, TypeError, SyntaxError, ValueError, MemoryError, RecursionError):
            value = None
        if isinstance(value, list | tuple):
            return cls.from_naslib(value)
        if not isinstance(value, dict) or set(value) != set(_FIELDS):
            raise ValueError(
                f"{text!r} is neither of the form 'Genotype(normal=[...], normal_concat=..., "
                f"reduce=[...], reduce_concat=...)' nor NASLib's '[[(input, op), ...], [...]]'."
            )
        for field in ("normal_concat", "reduce_concat"):
            if value[field] not in (list(CONCAT), CONCAT, range(CONCAT[0], CONCAT[-1] + 1)):
                raise ValueError(f"{field} must be the nodes {CONCAT}, got {value[field]!r}.")
        return cls(value["normal"], value["reduce"])


def _value(node: ast.expr) -> Any:
    """A literal, `range(...)` of literals, or a dictionary of the keywords of `Genotype(...)`."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = node.func.id if isinstance(node.func, ast.Name) else None
    if name == "range" and not node.keywords:
        return range(*map(ast.literal_eval, node.args))
    if name == "Genotype" and not node.args:
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    raise ValueError("neither range nor Genotype")


def _cell(field: str, edges: Any) -> tuple[Edge, ...]:
    """The edges of one cell as a tuple of tuples.

    Raises:
        ValueError: see `DartsGenotype`.
    """
    try:
        cell = tuple((op, operator.index(source)) for op, source in edges)
    except (TypeError, ValueError):
        cell = ()
    if len(cell) != 2 * NODES:
        raise ValueError(f"{field} must be {2 * NODES} pairs (op, input), got {edges!r}.")
    for i, (op, source) in enumerate(cell):
        if op not in OPS:
            raise ValueError(f"an op of {field} must be one of {', '.join(OPS)}, got {op!r}.")
        if not 0 <= source < 2 + i // 2:
            raise ValueError(
                f"an input of node {i // 2} of {field} must be one of "
                f"{tuple(range(2 + i // 2))}, got {source!r}."
            )
    for i in range(NODES):
        if cell[2 * i][1] == cell[2 * i + 1][1]:
            raise ValueError(
                f"the inputs of node {i} of {field} must differ, got {cell[2 * i][1]} twice."
            )
    return cell
