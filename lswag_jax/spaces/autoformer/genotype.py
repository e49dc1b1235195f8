"""Genotype of the AutoFormer spaces."""

import dataclasses
import math
from typing import Any

import numpy as np

from lswag_jax.spaces.genotype import BaseGenotype


@dataclasses.dataclass(frozen=True)
class AutoFormerGenotype(BaseGenotype):
    """One vision transformer: a width for all blocks, heads and MLP ratio block by block.

    Args:
        embed_dim: channels of a token.
        num_heads: attention heads of each block; its length is the depth.
        mlp_ratio: hidden units of each block's MLP over `embed_dim`.

    Raises:
        ValueError: a value is not positive, or the two sequences differ in length.

    Example:
        >>> AutoFormerGenotype(192, (3, 3), (3.5, 4)).depth
        2
    """

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "embed_dim", _numbers("embed_dim", [self.embed_dim], int)[0])
        object.__setattr__(self, "num_heads", _numbers("num_heads", self.num_heads, int))
        object.__setattr__(self, "mlp_ratio", _numbers("mlp_ratio", self.mlp_ratio, float))
        if not self.num_heads or len(self.num_heads) != len(self.mlp_ratio):
            raise ValueError(
                f"num_heads and mlp_ratio must have one entry a block, got "
                f"{len(self.num_heads)} and {len(self.mlp_ratio)} entries."
            )
        for field in ("embed_dim", "num_heads", "mlp_ratio"):
            values = np.atleast_1d(np.asarray(getattr(self, field), float))
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ValueError(f"{field} must be positive, got {getattr(self, field)}.")

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.num_heads)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden units of each block's MLP, floor(embed_dim * mlp_ratio)."""
        return tuple(math.floor(self.embed_dim * r) for r in self.mlp_ratio)


def _numbers(field: str, values: Any, kind: type) -> tuple:
    """`values` as a tuple of ints or floats.

    Raises:
        ValueError: not a sequence, or an entry is not such a number.
    """
    numbers: tuple = ()
    try:
        numbers = tuple(kind(value) for value in values)
        exact = all(number == float(value) for number, value in zip(numbers, values, strict=True))
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        what = "integers" if kind is int else "numbers"
        raise ValueError(f"{field} must be {what}, got {values!r}.")
    return numbers
