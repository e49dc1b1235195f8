"""Activation functions, recognised by what they compute.

Chains of elementwise operations on one array are run on a grid of numbers, in NumPy, and the curve
that comes out is looked at: a ReLU is one however it is written. What bends a value into [0, 1] is
a gate, what limits it at a bound of its own a softcap, and neither is an activation; nor is a step
on the way to one, such as the tanh inside of GELU, or to a gate or a limiter.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from lswag_jax import marks
from lswag_jax.arrays import shaped
from lswag_jax.capture.curves import (
    GRID,
    HALF,
    curve,
    is_activation,
    is_bent_line,
    is_gate,
    is_limiter,
    is_line,
    is_odd_and_bounded,
    is_one_sided,
    is_softcap,
    is_squeezed,
    number,
)

_MOVES = ("reshape", "broadcast_in_dim", "squeeze", "transpose")  # they change no value
_MOST = 10**6  # elements of a constant that is looked at
_SLOPE = 0.25  # stands for a parameter in a curve, as PReLU's


@dataclasses.dataclass(eq=False)
class _Step:
    """An elementwise output: its curve over the array that its chain starts from."""

    index: int  # of the equation
    root: Any
    y: np.ndarray
    parents: list
    name: str  # of the primitive
    since: Mapping[int, np.ndarray]  # its curves over the outputs of some equations before it
    reads_root: bool = False
    children: list = dataclasses.field(default_factory=list)
    escapes: bool = False  # something outside of the chain reads it


def find(jaxpr: core.Jaxpr, consts: Sequence, kind: Callable[[Any], str]) -> list[int]:
    """Equations whose output is that of an activation, in order.

    Args:
        jaxpr: flat.
        consts: its constants.
        kind: of a variable: "images", "params" or "constant".
    """
    numbers = {v: _concrete(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    steps = _chains(jaxpr, kind, {v: y for v, y in numbers.items() if y is not None})
    found = [
        i for i, eqn in enumerate(jaxpr.eqns) if marks.ACTIVATION in eqn.params.get("name", "")
    ]
    for step in steps:
        if _is_candidate(step):
            chosen = _representative(step)
            if chosen is not None:
                found.append(chosen)
    return sorted(set(found))


def _concrete(value: Any) -> np.ndarray | None:
    """A constant as a number, an array of one number too; None where it is traced or no number."""
    is_number = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, np.number)
    if isinstance(value, Tracer) or not is_number or not 0 < value.size <= _MOST:
        return None
    first = np.asarray(value).flat[0]
    return np.asarray(first) if (np.asarray(value) == first).all() else None


def _chains(jaxpr: core.Jaxpr, kind: Callable[[Any], str], numbers: dict) -> list[_Step]:
    """Every elementwise output of one array, in order; `numbers` are known scalars."""
    steps: dict[Any, _Step] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        if marks.ACTIVATION in eqn.params.get("name", ""):
            continue
        arrays = [v for v in eqn.invars if kind(v) == "images"]
        if eqn.primitive.name in _MOVES and arrays and arrays[0] in steps:
            before = steps[arrays[0]]
            step = _Step(index, before.root, before.y, [before], "", before.since)
            before.children.append(step)
            steps[eqn.outvars[0]] = step
            continue
        others = {
            id(v): _other(eqn, v, kind(v), numbers) for v in eqn.invars if kind(v) != "images"
        }
        if not arrays:
            y = curve(eqn, [others[id(v)] for v in eqn.invars])
            if y is not None and np.ndim(y) == 0:
                numbers[eqn.outvars[0]] = y
            continue
        roots = {steps[v].root if v in steps else v for v in arrays}
        y, since = None, {}
        kind_of_number = shaped(eqn.outvars[0]).dtype
        is_real = kind_of_number == np.bool_ or jnp.issubdtype(kind_of_number, jnp.floating)
        if len(roots) == 1 and is_real:
            own = {id(v): steps[v].y if v in steps else GRID for v in arrays}
            y = curve(eqn, [{**others, **own}[id(v)] for v in eqn.invars])
            since = _since(eqn, [(v, steps.get(v)) for v in arrays], others)
        parents = [steps[v] for v in dict.fromkeys(arrays) if v in steps]
        if y is None or np.ndim(y) == 0:
            for parent in parents:
                parent.escapes = True
            continue
        if _is_sum(eqn, others, [y, *since.values()]) or is_squeezed(y):
            since[index] = GRID  # what follows is looked at as a curve of it, too
        reads_root = len(parents) < len(set(arrays))
        step = _Step(index, roots.pop(), y, parents, eqn.primitive.name, since, reads_root)
        steps[eqn.outvars[0]] = step
        for parent in parents:
            parent.children.append(step)
    for var in jaxpr.outvars:
        if not isinstance(var, core.Literal) and var in steps:
            steps[var].escapes = True
    return list(steps.values())


def _since(eqn: core.JaxprEqn, steps: Sequence[tuple[Any, _Step | None]], others: Mapping) -> dict:
    """Curves of an equation over what all of its operands passed; a root, None, passed nothing."""
    passed = [step.since if step else {} for _, step in steps]
    found = {}
    for index in set(passed[0]).intersection(*passed):
        own = {id(v): curves[index] for (v, _), curves in zip(steps, passed, strict=True)}
        y = curve(eqn, [{**others, **own}[id(v)] for v in eqn.invars])
        if y is not None and np.ndim(y):
            found[index] = y
    return found


def _is_sum(eqn: core.JaxprEqn, others: Mapping, curves: Sequence[np.ndarray]) -> bool:
    """Whether an equation gives x + c: of any x, or of one that it has a curve of."""
    has_number = eqn.primitive.name in ("add", "sub") and any(map(np.any, others.values()))
    lines = [y for y in curves if is_line(GRID, y)]
    return has_number or any(not is_line(GRID, y, through_zero=True) for y in lines)


def _other(eqn: core.JaxprEqn, var: Any, kind: str, numbers: Mapping) -> np.ndarray | None:
    """The number that an operand without samples is in a curve."""
    if isinstance(var, core.Literal):
        return number(var.val)
    if var in numbers:
        return numbers[var]
    is_slope = kind == "params" and (shaped(var).ndim == 0 or eqn.primitive.name == "mul")
    return np.asarray(_SLOPE) if is_slope else None


def _is_candidate(step: _Step) -> bool:
    """Whether it has an activation's curve, and is no multiple of one that has it already."""
    repeats = (is_line(p.y, step.y, through_zero=True) and _is_bent(p) for p in step.parents)
    return _is_bent(step) and not any(repeats) and not _is_moment(step)


def _is_moment(step: _Step) -> bool:
    """Whether it is the square of an activation that counts itself, as a norm takes one."""
    if step.name not in ("square", "integer_pow", "mul") or not step.parents:
        return False
    lines = _lines(step.parents[0], back=True)
    is_square = all(p in lines for p in step.parents) and step not in lines
    return is_square and any(_is_bent(p) and _representative(p) is not None for p in lines)


def _is_later_activation(step: _Step) -> bool:
    """Whether it is f(x + c), or f of a clip; not what has its middle at zero, as hard gates."""
    is_gate_like = any(map(_is_centred, (step.y, *step.since.values())))

    def is_one(y: np.ndarray) -> bool:
        if y.dtype == bool or y is GRID:
            return False
        if is_bent_line(y) or (is_odd_and_bounded(y) and not is_softcap(y)):
            return True
        return is_one_sided(y) and (y[-1] > y[-2] or not is_gate_like)

    return any(map(is_one, step.since.values()))


def _is_centred(y: np.ndarray) -> bool:
    """Whether a curve is in the middle of its least and largest values at zero."""
    low, middle, high = float(y.min()), float(y[len(HALF)]), float(y.max())
    return abs(low + high - 2 * middle) <= 1e-3 * (high - low)


def _is_bent(step: _Step) -> bool:
    """Whether it has an activation's curve; a tanh of whatever has."""
    if step.y.dtype == bool:
        return False
    is_one = is_activation(step.y) or (step.name == "tanh" and not is_gate(step.y))
    return is_one or _is_later_activation(step)


def _representative(step: _Step) -> int | None:
    """The equation that stands for an activation; None where it is a step to something else.

    Of an activation times numbers, as GELU is written, it is that which is positive, not
    negative, far out, and of slope one where there is one.
    """
    same = _lines(step)
    if any(is_gate(other.y) or is_softcap(other.y) for other in same):
        return None
    is_step = len(np.unique(step.y)) <= 3 or _is_on_the_way(same)  # a sign alone only chooses
    if is_step and not any(other.escapes for other in same):
        return None
    multiples = [other for other in same if is_line(step.y, other.y, through_zero=True)]

    def rank(other: _Step) -> tuple[bool, bool]:
        y = other.y
        return y.max() >= -y.min(), abs(np.abs(y).max() / GRID[-1] - 1) < 1e-3

    return max(multiples, key=rank).index  # the first of equals


def _lines(step: _Step, *, back: bool = False) -> list[_Step]:
    """A step and what is a line of it; with `back` what it is made of as one, too."""
    found = [step]
    for one in found:
        near = [*one.children, *one.parents] if back else one.children
        found += [s for s in dict.fromkeys(near) if s not in found and is_line(step.y, s.y)]
    return found


def _is_on_the_way(same: Sequence[_Step]) -> bool:
    """Whether whatever is made of these steps has a role of its own before it leaves the chain."""
    seen, unseen = set(same), [child for step in same for child in step.children]
    of_them = set(same)  # and what is made of them alone
    while unseen:
        unseen.sort(key=lambda step: -step.index)
        step = unseen.pop()  # whose parents have been looked at
        if not step.reads_root and of_them.issuperset(step.parents):
            of_them.add(step)
        after = same[0].y if step in of_them else None
        if step not in seen and not _has_role(step, after):
            if step.escapes:
                return False
            unseen += step.children
        seen.add(step)
    return True


def _has_role(step: _Step, after: np.ndarray | None) -> bool:
    """Whether it is an activation, up to a constant, or chooses, gates or limits.

    What is made of an activation alone, `after`, and grows with it, as the root of a ReLU and a
    small number does, is a function that follows it.
    """
    y = step.y
    if y.dtype == bool:
        return step.escapes
    if _is_bent(step) or is_gate(y) or is_softcap(y):
        return True
    with np.errstate(invalid="ignore"):
        if after is not None and (np.diff(y) * np.diff(after) >= 0).all():
            return False
        return is_activation(y - y[len(HALF)]) or is_limiter(y)
