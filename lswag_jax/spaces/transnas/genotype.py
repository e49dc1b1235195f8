"""Genotypes of the TransNAS-Bench-101 spaces."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from lswag_jax.spaces.genotype import BaseGenotype

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # by target, as the codes list them
NUM_EDGES = len(EDGES)
MAX_MODULES = 6


@dataclasses.dataclass(frozen=True)
class TransNASMicroGenotype(BaseGenotype):
    """One cell of the micro space: the operations of its six edges.

    Args:
        ops: of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; 0 none, 1 skip, 2 ReLU-conv1x1-BN,
            3 ReLU-conv3x3-BN. This is also NASLib's tuple.

    Raises:
        ValueError: not six integers from 0 to 3.

    Example:
        >>> TransNASMicroGenotype((1, 0, 2, 3, 3, 3)).to_json()
        {'ops': [1, 0, 2, 3, 3, 3]}
    """

    ops: tuple[int, ...]

    def __post_init__(self) -> None:
        ops = _digits("ops", self.ops, 0, 3)
        if len(ops) != NUM_EDGES:
            raise ValueError(f"ops must be one of each of the {NUM_EDGES} edges, got {len(ops)}.")
        object.__setattr__(self, "ops", ops)

    def to_naslib(self) -> tuple[int, ...]:
        """NASLib's tuple, the key of the NAS-Bench-Suite-Zero tables."""
        return self.ops

    @classmethod
    def from_naslib(cls, ops: Sequence[int]) -> Self:
        """Reads what `to_naslib` writes."""
        return cls.of(ops)


@dataclasses.dataclass(frozen=True)
class TransNASMacroGenotype(BaseGenotype):
    """One skeleton of the macro space: the kind of each module.

    Args:
        modules: 1 plain, 2 twice the channels, 3 half the resolution, 4 both.

    Raises:
        ValueError: not 1 to 6 integers from 1 to 4.

    Example:
        >>> TransNASMacroGenotype.from_naslib((1, 2, 4, 2, 0, 0)).modules
        (1, 2, 4, 2)
    """

    modules: tuple[int, ...]

    def __post_init__(self) -> None:
        modules = _digits("modules", self.modules, 1, 4)
        if not 1 <= len(modules) <= MAX_MODULES:
            raise ValueError(f"there must be 1 to {MAX_MODULES} modules, got {len(modules)}.")
        object.__setattr__(self, "modules", modules)

    @property
    def depth(self) -> int:
        """Number of modules."""
        return len(self.modules)

    def to_naslib(self) -> tuple[int, ...]:
        """NASLib's digits, padded with 0 to six."""
        return self.modules + (0,) * (MAX_MODULES - self.depth)

    @classmethod
    def from_naslib(cls, digits: Sequence[int]) -> Self:
        """Reads what `to_naslib` writes, and the tables' keys, which have no padding."""
        digits = list(digits)
        while digits and digits[-1] == 0:
            digits.pop()
        return cls(tuple(digits))


def _digits(field: str, values: Any, low: int, high: int) -> tuple[int, ...]:
    """`values` as integers from `low` to `high`."""
    digits: tuple[int, ...] = ()
    try:
        digits = tuple(int(value) for value in values)
        exact = all(a == b for a, b in zip(digits, values, strict=True))
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact or not all(low <= digit <= high for digit in digits):
        raise ValueError(f"{field} must be integers from {low} to {high}, got {values!r}.")
    return digits
