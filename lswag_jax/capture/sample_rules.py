"""Where each kind of equation leaves the samples, and in which kinds they meet.

A rule gives the place in the output, for the first operand with samples, or a list of those in each
output; None where they are summed, sorted or taken in part, and so mixed.
"""

import itertools
import math
from collections.abc import Sequence

from lswag_jax.arrays import shaped
from lswag_jax.capture.rows import Place


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


def alike(shape: tuple, operands: Sequence[tuple], batch: int) -> Place | None:
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


def reduced(eqn, known, shape, place, batch):
    """The place where axes are summed away."""
    axes = eqn.params["axes" if "axes" in eqn.params else "dimensions"]
    axes = [axis for axis in axes if not isinstance(axis, str)]  # a name is of devices
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
    return _part(place, shape, batch, start, limit) if step == 1 else None


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
    sizes = eqn.params["sizes"]
    is_block = all(size % (batch * place.inner) == 0 for size in sizes)
    if eqn.params["axis"] != place.axis or is_block:
        return place
    stops = list(itertools.accumulate(sizes))
    parts = zip([0, *stops[:-1]], stops, strict=True)
    return [_part(place, shape, batch, *part) for part in parts]


def _part(place: Place, shape: tuple, batch: int, start: int, stop: int) -> Place | None:
    """The place of some of the samples, where each is one entry of an axis."""
    is_plain = place.inner == 1 and shape[place.axis] == batch and place.finer is None
    return place._replace(part=(start, stop)) if is_plain else None


def _of_matrices(eqn, known, shape, place, batch):
    return place if place.axis < len(shape) - 2 else None


def _solved(eqn, known, shape, place, batch):
    if known[0] is not None:  # a matrix for each sample
        return _of_matrices(eqn, known, shape, place, batch)
    return None if place.axis == len(shape) - 1 - eqn.params["left_side"] else place


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
    if at is not None and at.axis in numbers.operand_batching_dims:
        among = numbers.operand_batching_dims.index(at.axis)
        return Place(rows[numbers.start_indices_batching_dims[among]], at.inner)
    if at is None or eqn.params["slice_sizes"][at.axis] != shape[at.axis]:
        return None
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape)) if d not in gone]
    return Place(numbers.offset_dims[kept.index(at.axis)], at.inner) if at.axis in kept else None


RULES = {
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
    "triangular_solve": _solved,
    **dict.fromkeys(
        [
            *("cholesky", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product"),
            *("lu", "qr", "schur", "svd", "symmetric_product", "tridiagonal", "tridiagonal_solve"),
        ],
        _of_matrices,
    ),
    **dict.fromkeys(
        [
            *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
            *("argmax", "argmin", "reduce", "reduce_xor"),
        ],
        reduced,
    ),
}
MEETINGS = {
    "dot_general": _meet_in_product,
    "conv_general_dilated": _meet_in_convolution,
    "gather": _meet_in_gather,
    **dict.fromkeys(["scatter", "scatter-add"], _meet_in_scatter),
}
