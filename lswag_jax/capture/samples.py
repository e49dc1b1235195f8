"""Where the samples are in each array of a traced program, followed from the inputs on.

An axis may hold more than the samples: where a network folds windows or tokens into it, its size is
outer * B * inner. What is known of an array is therefore the axis and `inner`. Where samples of one
place meet those of another, or their axis is summed, sorted or taken in part, they are mixed.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from lswag_jax.arrays import CALLS, bodies, needed, shaped

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


_OWN = Place(-1)  # of a value of one sample alone, in a loop over the samples


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


def places(
    eqn: Any, known: Sequence[Place | None], batch: int, mixing: list | None = None
) -> list[Place | None]:
    """Places of the samples in the outputs of an equation.

    Args:
        eqn: of a traced program.
        known: places in its operands; None where there are no samples, or they were mixed.
        batch: number of samples.
        mixing: the equation is added to it if it mixes the samples, or those inside that do.
    """
    mixing = [] if mixing is None else mixing
    operands = [
        (shaped(v).shape, p) for v, p in zip(eqn.invars, known, strict=True) if p is not None
    ]
    if not operands:
        return [None] * len(eqn.outvars)
    if _OWN in known:
        mixing += [eqn] if batch > 1 and any(place != _OWN for _, place in operands) else []
        return [_OWN] * len(eqn.outvars)
    if any(place.part is not None for _, place in operands):
        return _of_some(eqn, known, operands, batch, mixing)
    numbers = [place.finer[1] for _, place in operands if place.finer is not None]
    if numbers:
        return _of_parts(eqn, known, batch, numbers[0], mixing)
    if eqn.primitive.name in (*CALLS, *_LOOPS):
        follow = _LOOPS.get(eqn.primitive.name, _call)
        found = follow(eqn, known, batch, mixing)
    else:
        found = _places(eqn, known, operands, batch)
        if batch > 1 and (not any(found) or _meet(eqn, known, operands, batch)):
            mixing.append(eqn)
    if batch == 1:  # none are mixed, and any axis holds the one
        shapes = [shaped(v).shape for v in eqn.outvars]
        found = [at or _of_one(shape) for at, shape in zip(found, shapes, strict=True)]
    return found


def _places(eqn, known, operands: Sequence[tuple], batch: int) -> list[Place | None]:
    """`places` by the rule of the equation's kind; `operands` are shapes and places of those."""
    if eqn.primitive.name in _COLLECTIVES:
        pairs = zip(eqn.invars, known, strict=True)
        return [at and _reduced(eqn, known, shaped(v).shape, at, batch) for v, at in pairs]
    rule = _RULES.get(eqn.primitive.name)
    if rule is not None:
        shape, place = operands[0]
        return [rule(eqn, known, shape, place, batch)] * len(eqn.outvars)
    return [_alike(shaped(v).shape, operands, batch) for v in eqn.outvars]


def _of_some(eqn, known, operands: Sequence[tuple], batch: int, mixing: list) -> list:
    """`places` where a slice has taken some of the samples."""
    parts = {place.part for _, place in operands}
    if len(parts) > 1:
        found = _rejoined(eqn, known, batch)
        if found is not None:
            return [found]
        mixing.append(eqn)
        return places(eqn, [at and (None if at.part else at) for at in known], batch)
    ((start, stop),) = parts
    if stop - start == 1:  # no axis is needed to tell whose it is
        return [Place(-1, part=(start, stop))] * len(eqn.outvars)
    whole = [at and at._replace(part=None) for at in known]
    found = places(eqn, whole, stop - start, mixing)
    moved = [at and (at.part or (0, stop - start)) for at in found]
    parts = [own and (start + own[0], start + own[1]) for own in moved]
    return [at and at._replace(part=part) for at, part in zip(found, parts, strict=True)]


def _rejoined(eqn, known, batch: int) -> Place | None:
    """Place where slices of the samples are put behind each other in their order."""
    kind = eqn.primitive.name
    if kind not in ("concatenate", "stack") or any(at is None or not at.part for at in known):
        return None
    axis = eqn.params["dimension" if kind == "concatenate" else "axis"]
    sizes = [shaped(v).shape[axis] if kind == "concatenate" else 1 for v in eqn.invars]
    stops = list(itertools.accumulate(sizes))
    is_along = kind == "stack" or all(at.axis == -1 or at[:3] == (axis, 1, None) for at in known)
    in_order = [at.part for at in known] == list(zip([0, *stops[:-1]], stops, strict=True))
    return Place(axis) if is_along and in_order and stops[-1] == batch else None


def _of_parts(eqn, known, batch: int, number: int, mixing: list) -> list[Place | None]:
    """`places` of groups of `number` samples and of the samples in a group, put together again."""
    groups = [at and Place(at.axis, at.inner if at.finer else at.inner * number) for at in known]
    samples = [at and (at.finer[0] if at.finer else at) for at in known]
    found = zip(
        places(eqn, groups, batch // number, mixing),
        places(eqn, samples, number, mixing),
        strict=True,
    )
    joined = [_joined(*pair, number) for pair in found]
    mixing += [] if any(joined) else [eqn]
    return joined


def _joined(groups: Place | None, samples: Place | None, number: int) -> Place | None:
    if groups is None or samples is None or any((*groups[2:], *samples[2:])):
        return None
    if groups == Place(samples.axis, samples.inner * number):
        return samples
    return Place(*groups[:2], (samples, number))


def _meet(eqn, known, operands: Sequence[tuple], batch: int) -> bool:
    """Whether samples of one operand meet other samples of another."""
    kind = eqn.primitive.name
    if kind in _MEETINGS:
        pair = known[:: 2 if kind.startswith("scatter") else 1][:2]
        return None not in pair and _MEETINGS[kind](eqn, *pair, batch)
    ranks = {len(shape): place for shape, place in operands}
    return any(place != ranks[len(shape)] for shape, place in operands)


def _meet_in_product(eqn, x: Place, y: Place, batch: int) -> bool:
    _, batched = eqn.params["dimension_numbers"]
    return (x.axis, y.axis) not in zip(*batched, strict=True) or x.inner != y.inner


def _meet_in_convolution(eqn, x: Place, kernel: Place, batch: int) -> bool:
    return x.axis == eqn.params["dimension_numbers"].lhs_spec[0]


def _meet_in_gather(eqn, x: Place, index: Place, batch: int) -> bool:
    numbers, size = eqn.params["dimension_numbers"], shaped(eqn.invars[0]).shape[x.axis]
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    if (x.axis, index.axis) in pairs:
        return False
    is_whole = eqn.params["slice_sizes"][x.axis] == size
    # Beside another index, or in folded rows, a sample's number is part of what is looked up.
    return is_whole or (tuple(numbers.start_index_map) == (x.axis,) and size == batch)


def _meet_in_scatter(eqn, x: Place, updates: Place, batch: int) -> bool:
    numbers, size = eqn.params["dimension_numbers"], shaped(eqn.invars[0]).shape[x.axis]
    is_alone = tuple(numbers.scatter_dims_to_operand_dims) == (x.axis,)
    return is_alone and x.axis in numbers.inserted_window_dims and size == batch


def _of_one(shape: tuple) -> Place | None:
    """A place of a single sample."""
    axis = shape.index(1) if 1 in shape else 0
    return Place(axis, shape[axis]) if shape else None


def _call(eqn, known, batch: int, mixing: list) -> list[Place | None]:
    return _called(bodies(eqn)[0].jaxpr, known, batch, mixing)


def _called(body: Any, known: Sequence[Place | None], batch: int, mixing: list) -> list:
    """Places in the outputs of a call's program."""
    found = dict(zip(body.invars, known, strict=True))
    for eqn in needed(body):
        inputs = [None if isinstance(v, core.Literal) else found.get(v) for v in eqn.invars]
        found.update(zip(eqn.outvars, places(eqn, inputs, batch, mixing), strict=True))
    return [None if isinstance(v, core.Literal) else found.get(v) for v in body.outvars]


def _turns(eqn, body: Any, consts, carry, scanned, batch: int, mixing: list) -> list:
    """Places in the outputs of a loop's turn, once those in what it carries have settled."""
    before = None
    while carry != before:
        before, found = carry, _called(body, [*consts, *carry, *scanned], batch, [])
        carry = [
            at or (None if new == _OWN else new) for at, new in zip(carry, found, strict=False)
        ]
    found = _called(body, [*consts, *carry, *scanned], batch, mixing)
    if _OWN in found[: len(carry)]:  # a sample's turn reads what another's left
        mixing += [eqn] if batch > 1 else []
        found = [None if at == _OWN and i < len(carry) else at for i, at in enumerate(found)]
    return found


def _scan(eqn, known, batch: int, mixing: list) -> list[Place | None]:
    first = eqn.params["num_consts"]
    last = first + eqn.params["num_carry"]
    scanned = known[last:]
    rows = [at and (Place(at.axis - 1, at.inner) if at.axis else _OWN) for at in scanned]
    along = next((at for at in scanned if at is not None and at.axis == 0), None)
    body = eqn.params["jaxpr"].jaxpr
    found = _turns(eqn, body, known[:first], known[first:last], rows, batch, mixing)
    stacked = [
        along if at == _OWN else at and Place(at.axis + 1, at.inner)
        for at in found[eqn.params["num_carry"] :]
    ]
    return [*found[: eqn.params["num_carry"]], *stacked]


def _while(eqn, known, batch: int, mixing: list) -> list[Place | None]:
    first = eqn.params["cond_nconsts"]
    last = first + eqn.params["body_nconsts"]
    body = eqn.params["body_jaxpr"].jaxpr
    return _turns(eqn, body, known[first:last], known[last:], [], batch, mixing)


def _cond(eqn, known, batch: int, mixing: list) -> list[Place | None]:
    branches = [_called(body.jaxpr, known[1:], batch, mixing) for body in bodies(eqn)]
    return [next(filter(None, of_one), None) for of_one in zip(*branches, strict=True)]


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
    new = shaped(eqn.outvars[0]).shape
    return _folded(new, shape, place, batch) or _parted(new, shape, place, batch)


def _parted(new: tuple, shape: tuple, place: Place, batch: int) -> Place | None:
    """Place after a reshape that parts the samples over two axes, in groups of equal number."""
    for number in (n for n in range(2, batch) if batch % n == 0):
        of_groups = Place(place.axis, place.inner * number)
        groups = _folded(new, shape, of_groups, batch // number)
        samples = _folded(new, shape, place, number)
        if groups is not None and samples is not None:
            return Place(groups.axis, groups.inner, (samples, number))
    return None


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
    axes = eqn.params["axes" if "axes" in eqn.params else "dimensions"]
    axes = [axis for axis in axes if isinstance(axis, int)]  # others are names, of devices
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
    p, last = eqn.params, len(shape) - 1
    axes = p["dimensions"] if "dimensions" in p else (p.get("axis", p.get("dimension", last)),)
    return None if place.axis in axes else place


def _transformed(eqn, known, shape, place, batch):
    return place if place.axis < len(shape) - len(eqn.params["fft_lengths"]) else None


def _windowed(eqn, known, shape, place, batch):
    return place if eqn.params["window_dimensions"][place.axis] == 1 else None


def _tiled(eqn, known, shape, place, batch):
    return place


def _slice(eqn, known, shape, place, batch):
    start, limit = (eqn.params[key][place.axis] for key in ("start_indices", "limit_indices"))
    step = (eqn.params["strides"] or (1,) * len(shape))[place.axis]
    is_whole = limit - start == shape[place.axis]
    is_block = start % (batch * place.inner) == limit % (batch * place.inner) == 0
    if step == 1 and (is_whole or is_block):
        return place
    is_plain = step == place.inner == 1 and shape[place.axis] == batch and place.finer is None
    return place._replace(part=(start, limit)) if is_plain else None


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
    if known[0] is None:  # of a kernel for each sample
        return (
            Place(numbers.out_spec[1], place.inner) if place.axis == numbers.rhs_spec[0] else None
        )
    if place.axis == numbers.lhs_spec[0]:
        return Place(numbers.out_spec[0], place.inner)
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
    **dict.fromkeys(
        ["rev", "sort", "top_k", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _along
    ),
    "fft": _transformed,
    "tile": _tiled,
    **dict.fromkeys(
        ["reduce_window", *(f"reduce_window_{k}" for k in ("sum", "max", "min"))], _windowed
    ),
    "split": _split,
    **dict.fromkeys(
        [
            *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
            *("argmax", "argmin", "reduce", "reduce_xor"),
        ],
        _reduced,
    ),
}
_LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
_COLLECTIVES = ("psum", "psum_invariant", "pmax", "pmin")  # of a `vmap` with a named axis
_MEETINGS = {
    "dot_general": _meet_in_product,
    "conv_general_dilated": _meet_in_convolution,
    "gather": _meet_in_gather,
    **dict.fromkeys(["scatter", "scatter-add"], _meet_in_scatter),
}
