"""The places of the samples in a traced program, followed from the inputs on.

Each equation has a rule (`sample_rules`); calls, loops and branches are followed inside. Where
samples of one place meet those of another, or their axis is summed, sorted or taken in part, they
are mixed.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from jax.extend import core

from lswag_jax.arrays import CALLS, bodies, needed, shaped
from lswag_jax.capture.rows import Place
from lswag_jax.capture.sample_rules import MEETINGS, RULES, alike, reduced

_OWN = Place(-1)  # of a value of one sample alone, in a loop over the samples


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
        return [at and reduced(eqn, known, shaped(v).shape, at, batch) for v, at in pairs]
    rule = RULES.get(eqn.primitive.name)
    if rule is not None:
        shape, place = operands[0]
        found = rule(eqn, known, shape, place, batch)
        return found if isinstance(found, list) else [found] * len(eqn.outvars)
    return [alike(shaped(v).shape, operands, batch) for v in eqn.outvars]


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
    if kind in MEETINGS:
        pair = known[:: 2 if kind.startswith("scatter") else 1][:2]
        return None not in pair and MEETINGS[kind](eqn, *pair, batch)
    ranks = {len(shape): place for shape, place in operands}
    return any(place != ranks[len(shape)] for shape, place in operands)


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
    body, condition = eqn.params["body_jaxpr"].jaxpr, eqn.params["cond_jaxpr"].jaxpr
    found = _turns(eqn, body, known[first:last], known[last:], [], batch, mixing)
    _called(condition, [*known[:first], *found], batch, mixing)  # one for all samples
    return found


def _cond(eqn, known, batch: int, mixing: list) -> list[Place | None]:
    branches = [_called(body.jaxpr, known[1:], batch, mixing) for body in bodies(eqn)]
    return [next(filter(None, of_one), None) for of_one in zip(*branches, strict=True)]


_LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
_COLLECTIVES = ("psum", "psum_invariant", "pmax", "pmin")  # of a `vmap` with a named axis
