"""Where the samples are in each array of a traced program, followed from the inputs on.

An axis may hold more than the samples: where a network folds windows or tokens into it, its size is
outer * B * inner. What is known of an array is therefore the axis and `inner`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from lswag_jax.arrays import CALLS, bodies, shaped

Array = jax.Array


class Place(NamedTuple):
    """Axis of an array that holds the samples, and how many rows of one lie next to each other."""

    axis: int
    inner: int = 1


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
        """The split of an array of this shape."""
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


def places(eqn: Any, known: Sequence[Place | None], batch: int) -> list[Place | None]:
    """Places of the samples in the outputs of an equation.

    Args:
        eqn: of a traced program.
        known: places in its operands; None where there are no samples, or they were mixed.
        batch: number of samples.
    """
    operands = [
        (shaped(v).shape, p) for v, p in zip(eqn.invars, known, strict=True) if p is not None
    ]
    if not operands:
        return [None] * len(eqn.outvars)
    found = _places(eqn, known, operands, batch)
    if batch == 1:  # none are mixed, and any axis holds the one
        shapes = [shaped(v).shape for v in eqn.outvars]
        found = [at or _of_one(shape) for at, shape in zip(found, shapes, strict=True)]
    return found


def _places(eqn, known, operands: Sequence[tuple], batch: int) -> list[Place | None]:
    """`places` by the rule of the equation's kind; `operands` are shapes and places of those."""
    if eqn.primitive.name in CALLS:
        return _called(bodies(eqn)[0].jaxpr, known, batch)
    rule = _RULES.get(eqn.primitive.name)
    if rule is not None:
        shape, place = operands[0]
        return [rule(eqn, known, shape, place, batch)] * len(eqn.outvars)
    return [_alike(shaped(v).shape, operands, batch) for v in eqn.outvars]


def _of_one(shape: tuple) -> Place | None:
    """A place of a single sample."""
    axis = shape.index(1) if 1 in shape else 0
    return Place(axis, shape[axis]) if shape else None


def _called(body: Any, known: Sequence[Place | None], batch: int) -> list[Place | None]:
    """Places in the outputs of a call's program."""
    found = dict(zip(body.invars, known, strict=True))
    for eqn in body.eqns:
        inputs = [None if isinstance(v, core.Literal) else found.get(v) for v in eqn.invars]
        found.update(zip(eqn.outvars, places(eqn, inputs, batch), strict=True))
    return [None if isinstance(v, core.Literal) else found.get(v) for v in body.outvars]


def _alike(shape: tuple, operands: Sequence[tuple], batch: int) -> Place | None:
    """The place in an array of the operands' shape, or of their rank and size there."""
    for other, place in operands:
        if other == shape:
            return place
    of_rank = [(other, place) for other, place in operands if len(other) == len(shape)]
    for other, place in of_rank:
        if other[place.axis] == shape[place.axis]:
            return place
    if len(of_rank) == len(operands):  # samples were taken away or added
        return None
    sizes = [axis for axis, size in enumerate(shape) if size == batch]
    return Place(sizes[0]) if sizes and batch > 1 else None


def _transpose(eqn, known, shape, place, batch):
    return Place(eqn.params["permutation"].index(place.axis), place.inner)


def _broadcast(eqn, known, shape, place, batch):
    return Place(eqn.params["broadcast_dimensions"][place.axis], place.inner)


def _squeeze(eqn, known, shape, place, batch):
    gone = eqn.params["dimensions"]
    if place.axis in gone:  # of a single sample: it lies in what follows
        return _folded(shaped(eqn.outvars[0]).shape, shape, place, batch)
    return Place(place.axis - sum(d < place.axis for d in gone), place.inner)


def _reshape(eqn, known, shape, place, batch):
    order = eqn.params.get("dimensions")  # of a transposition before it
    if order is not None:
        shape, place = tuple(shape[d] for d in order), Place(order.index(place.axis), place.inner)
    return _folded(shaped(eqn.outvars[0]).shape, shape, place, batch)


def _folded(new: tuple, shape: tuple, place: Place, batch: int) -> Place | None:
    """Place after a reshape: sample i starts `stride` elements after sample i - 1."""
    stride = place.inner * math.prod(shape[place.axis + 1 :])
    if batch == 1 and place.axis < len(new) and new[: place.axis + 1] == shape[: place.axis + 1]:
        return place
    for axis in reversed(range(len(new))):
        after = math.prod(new[axis + 1 :])
        fits = stride % after == 0 and (after * new[axis]) % (stride * batch) == 0
        if after <= stride and fits and (batch > 1 or axis == 0 or after * new[axis] > stride):
            return Place(axis, stride // after)
    return None


def _reduced(eqn, known, shape, place, batch):
    axes = eqn.params["axes"]
    if place.axis in axes:
        return None  # the samples are mixed
    return Place(place.axis - sum(a < place.axis for a in axes), place.inner)


def _concatenate(eqn, known, shape, place, batch):
    if eqn.params["dimension"] != place.axis:
        return place
    return place if all(other == place for other in known) else None  # blocks of all samples


def _stack(eqn, known, shape, place, batch):
    return Place(place.axis + (eqn.params["axis"] <= place.axis), place.inner)


def _unstack(eqn, known, shape, place, batch):
    gone = eqn.params["axis"]
    return None if gone == place.axis else Place(place.axis - (gone < place.axis), place.inner)


def _along(eqn, known, shape, place, batch):
    """Where the samples are after mixing along an axis: a cumulative sum, a sort, a reversal."""
    p = eqn.params
    axes = p["dimensions"] if "dimensions" in p else (p.get("axis", p.get("dimension")),)
    return None if place.axis in axes else place


def _slice(eqn, known, shape, place, batch):
    start, limit = (eqn.params[key][place.axis] for key in ("start_indices", "limit_indices"))
    step = (eqn.params["strides"] or (1,) * len(shape))[place.axis]
    is_whole = limit - start == shape[place.axis]
    is_block = start % (batch * place.inner) == limit % (batch * place.inner) == 0
    return place if step == 1 and (is_whole or is_block) else None


def _scattered(eqn, known, shape, place, batch):
    numbers, new = eqn.params["dimension_numbers"], shaped(eqn.outvars[0]).shape
    if known[0] is not None or known[2] is None:
        return known[0]
    if place.axis in numbers.update_window_dims:  # arrays of all samples, at a place of a stack
        gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        kept = [d for d in range(len(new)) if d not in gone]
        axis = kept[numbers.update_window_dims.index(place.axis)]
        return Place(axis, place.inner) if new[axis] == shape[place.axis] else None
    return Place(0) if place.axis == 0 and new[:1] == (batch,) else None  # summed by sample


def _split(eqn, known, shape, place, batch):
    is_block = all(size % (batch * place.inner) == 0 for size in eqn.params["sizes"])
    return place if eqn.params["axis"] != place.axis or is_block else None


def _dot_general(eqn, known, shape, place, batch):
    (contract, batched) = eqn.params["dimension_numbers"]
    for side in (0, 1):
        at = known[side]
        if at is None or at.axis in contract[side]:
            continue
        if at.axis in batched[side]:
            return Place(list(batched[side]).index(at.axis), at.inner)
        ranks = [shaped(v).ndim for v in eqn.invars]
        gone = {*contract[side], *batched[side]}
        free = [d for d in range(ranks[side]) if d not in gone]
        offset = len(batched[0])
        if side:
            offset += ranks[0] - len(contract[0]) - len(batched[0])
        return Place(offset + free.index(at.axis), at.inner)
    return None


def _convolution(eqn, known, shape, place, batch):
    numbers = eqn.params["dimension_numbers"]
    if known[0] is None or known[0].axis == numbers.lhs_spec[0]:
        return known[0] and Place(numbers.out_spec[0], known[0].inner)
    groups = eqn.params["feature_group_count"]  # of each sample its own, as vmap makes them
    size, axis = shape[place.axis] // groups, numbers.out_spec[1]
    if place.axis != numbers.lhs_spec[1] or place.inner % size:
        return None
    return Place(axis, place.inner // size * (shaped(eqn.outvars[0]).shape[axis] // groups))


def _gather(eqn, known, shape, place, batch):
    numbers, rank = eqn.params["dimension_numbers"], shaped(eqn.outvars[0]).ndim
    rows = [d for d in range(rank) if d not in numbers.offset_dims]  # axes of the indices
    if known[1] is not None and known[1].axis < len(rows):
        return Place(rows[known[1].axis], known[1].inner)
    at = known[0]
    if at is None or eqn.params["slice_sizes"][at.axis] != shape[at.axis]:
        return None
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape)) if d not in gone]
    return Place(numbers.offset_dims[kept.index(at.axis)], at.inner) if at.axis in kept else None


_RULES = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "concatenate": _concatenate,
    **dict.fromkeys(["scatter", "scatter-add"], _scattered),
    "slice": _slice,
    "stack": _stack,
    "unstack": _unstack,
    **dict.fromkeys(["rev", "sort", "cumsum", "cumprod", "cummax", "cummin"], _along),
    "split": _split,
    **dict.fromkeys(
        [
            *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
            *("argmax", "argmin"),
        ],
        _reduced,
    ),
}
