"""Where the samples are in an array, and the array with its samples first.

An axis may hold more than the samples: where a network folds windows or tokens into it, its size is
outer * B * inner. What is known of an array is therefore the axis and `inner`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Place(NamedTuple):
    """Axis of an array that holds the samples, and how many rows of one lie next to each other.

    Where a reshape parts the samples over two axes, as `lax.map` does by its `batch_size`, this is
    the place of the groups, and `finer` is that of the samples in a group and their number. `part`
    is which samples a slice has taken, from the first to behind the last; None for all.
    """

    axis: int
    inner: int = 1
    finer: "tuple[Place, int] | None" = None
    part: tuple[int, int] | None = None


class Rows(NamedTuple):
    """How an array's axis splits into outer x samples x inner.

    Example:
        >>> rows = Rows(axis=0, outer=3, inner=1)  # [3 * B, D], all samples' first rows first
        >>> rows.first(jnp.zeros((3 * 8, 5)), 8).shape
        (8, 3, 5)
        >>> rows.back(jnp.zeros((8, 3, 5))).shape
        (24, 5)
    """

    axis: int
    outer: int
    inner: int

    @classmethod
    def of(cls, shape: Sequence[int], place: Place, batch: int) -> "Rows":
        """The split of an array of this shape.

        Raises:
            ValueError: the samples lie over two axes, or they are not all of them.
        """
        if place.finer is not None or place.part is not None:
            what = "only some of the samples" if place.part else "the samples in two axes"
            raise ValueError(
                f"an array of shape {tuple(shape)} holds {what}, as `lax.map(..., batch_size=...)` "
                "parts them: no layer or activation can be captured there. Run it on all samples "
                "at once, as by `jax.vmap` or by `lax.map` without `batch_size`."
            )
        return cls(place.axis, shape[place.axis] // (batch * place.inner), place.inner)

    def first(self, x: Array, batch: int) -> Array:
        """`x` with its samples as the first axis and a sample's rows together, [B, ...]."""
        if self == (0, 1, 1):
            return x
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        x = x.reshape(*before, self.outer, batch, self.inner, *after)
        x = jnp.moveaxis(x, self.axis + 1, 0)
        rows = self.outer * self.inner
        return x.reshape(batch, *before, *((rows,) if rows > 1 else ()), *after)

    def back(self, x: Array) -> Array:
        """The inverse of `first`."""
        if self == (0, 1, 1):
            return x
        batch, rows = len(x), self.outer * self.inner
        before = x.shape[1 : 1 + self.axis]
        after = x.shape[1 + self.axis + (rows > 1) :]
        x = x.reshape(batch, *before, self.outer, self.inner, *after)
        x = jnp.moveaxis(x, 0, self.axis + 1)
        return x.reshape(*before, self.outer * batch * self.inner, *after)
