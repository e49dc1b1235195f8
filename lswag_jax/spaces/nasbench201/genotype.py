"""Genotype of NAS-Bench-201: the operation on each of a cell's six edges."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Self

from lswag_jax.spaces.genotype import BaseGenotype

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # by target, as the benchmark lists them
_NASLIB_EDGES = tuple(sorted(EDGES))  # by source
_NASLIB_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")


@dataclasses.dataclass(frozen=True)
class NasBench201Genotype(BaseGenotype):
    """One cell of NAS-Bench-201.

    Args:
        ops: one of `OPS` for each of `EDGES`.

    Raises:
        ValueError: not six operations, or an unknown one.

    Example:
        >>> g = NasBench201Genotype.from_naslib((4, 3, 3, 0, 0, 0))
        >>> g.to_string()  # doctest: +ELLIPSIS
        '|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_...~2|'
    """

    ops: tuple[str, ...]

    def __post_init__(self) -> None:
        ops = self.ops
        if isinstance(ops, str) or not isinstance(ops, Sequence) or len(ops) != len(EDGES):
            raise ValueError(f"ops must be {len(EDGES)} operations, got {ops!r}.")
        for i, op in enumerate(ops):
            if op not in OPS:
                raise ValueError(f"operation {i} must be of {', '.join(OPS)}, got {op!r}.")
        object.__setattr__(self, "ops", tuple(ops))

    @property
    def codes(self) -> tuple[int, ...]:
        """Index into `OPS` of each operation."""
        return tuple(OPS.index(op) for op in self.ops)

    @property
    def is_connected(self) -> bool:
        """Whether any path leads from the cell's input to its output."""
        reached = {0}
        for (source, target), op in zip(EDGES, self.ops, strict=True):
            if op != "none" and source in reached:
                reached.add(target)
        return 3 in reached

    def to_string(self) -> str:
        """The benchmark's string, "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"."""
        groups: dict[int, str] = {}
        for (source, target), op in zip(EDGES, self.ops, strict=True):
            groups[target] = groups.get(target, "|") + f"{op}~{source}|"
        return "+".join(groups.values())

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Reads what `to_string` writes.

        Raises:
            ValueError: another form or an unknown operation.
        """
        ops = re.findall(r"(\w+)~\d", str(text))
        if len(ops) != len(EDGES) or set(ops) - set(OPS) or cls(tuple(ops)).to_string() != text:
            raise ValueError(
                f"{text!r} is not of the form '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|' with op of "
                f"{', '.join(OPS)}."
            )
        return cls(tuple(ops))

    def to_naslib(self) -> tuple[int, ...]:
        """NASLib's tuple: other indices, and edges listed by source instead of target."""
        by_edge = dict(zip(EDGES, self.ops, strict=True))
        return tuple(_NASLIB_OPS.index(by_edge[edge]) for edge in _NASLIB_EDGES)

    @classmethod
    def from_naslib(cls, indices: Sequence[int]) -> Self:
        """Reads what `to_naslib` writes.

        Raises:
            ValueError: not six indices from 0 to 4.
        """
        if len(indices) != len(EDGES) or not set(indices) <= set(range(len(OPS))):
            raise ValueError(f"a NASLib tuple has 6 indices from 0 to 4, got {tuple(indices)}.")
        by_edge = {e: _NASLIB_OPS[int(i)] for e, i in zip(_NASLIB_EDGES, indices, strict=True)}
        return cls(tuple(by_edge[edge] for edge in EDGES))
