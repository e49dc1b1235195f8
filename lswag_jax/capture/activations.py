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
from scipy import special

from lswag_jax import marks
from lswag_jax.arrays import CALLS, bodies, evaluate, shaped

_HALF = np.geomspace(1e-2, 200, 28)
_GRID = np.concatenate([-_HALF[::-1], [0.0], _HALF])
_MOST = 10**6  # elements of a constant that is looked at
_SLOPE = 0.25  # stands for a parameter in a curve, as PReLU's

# Elementwise primitives in NumPy, by name.
_NUMPY: Mapping[str, Callable] = {
    **{name: getattr(np, name) for name in ("square", "sqrt", "abs", "sign", "tanh")},
    **{name: getattr(np, name) for name in ("exp", "exp2", "expm1", "log", "log1p")},
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "neg": np.negative,
    "logistic": special.expit,
    "erf": special.erf,
    "erfc": special.erfc,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "is_finite": np.isfinite,
    "clamp": lambda low, a, high: np.clip(a, low, high),
    "select_n": lambda which, *cases: np.where(np.asarray(which, bool), cases[-1], cases[0]),
}
_SAME = ("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision")
_SAME += ("optimization_barrier",)
_MOVES = ("reshape", "broadcast_in_dim", "squeeze", "transpose")  # they change no value


def curve(eqn: core.JaxprEqn, operands: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The equation's output as a curve over the grid; None where it is not elementwise.

    Args:
        eqn: of one output.
        operands: a curve [G] or a number for each operand; None for an unknown one.
    """
    name, known = eqn.primitive.name, [x for x in operands if x is not None]
    if len(eqn.outvars) != 1 or len(known) < len(operands):
        return None
    if name == "broadcast_in_dim":
        return known[0] if known[0].ndim == 0 else None
    if name in _SAME:
        return known[0]
    with np.errstate(all="ignore"):
        if name == "integer_pow":
            return np.asarray(known[0] ** float(eqn.params["y"]))
        if name in _NUMPY:
            return np.asarray(_NUMPY[name](*known))
        if name not in CALLS:
            return None
        step = lambda eqn, operands: [curve(eqn, operands)] * len(eqn.outvars)  # noqa: E731
        return evaluate(bodies(eqn)[0], operands, step, _number)[0]


def _number(value: Any) -> np.ndarray | None:
    """A constant of a program in a curve; None for an array."""
    is_real = np.ndim(value) == 0 and not np.iscomplexobj(value)
    return np.asarray(value, np.float64) if is_real else None


def is_activation(y: np.ndarray) -> bool:
    """Whether a curve over the grid is an activation's, up to a factor, or that of -x."""
    if y.dtype == bool:
        return False
    sides = (y, y[::-1], -y, -y[::-1])
    is_bent = any(_is_one_sided(side) or _is_bent_line(side) for side in sides)
    return is_bent or (_is_odd_and_bounded(y) and not is_softcap(y))


def is_activation_call(eqn: core.JaxprEqn) -> bool:
    """Whether a call of one array computes an activation."""
    operands = [
        _number(v.val) if isinstance(v, core.Literal) else _GRID if shaped(v).ndim else None
        for v in eqn.invars
    ]
    if sum(x is _GRID for x in operands) != 1:
        return False
    y = curve(eqn, operands)
    is_curve = y is not None and y.shape == _GRID.shape and y.dtype != bool
    return y is not None and is_curve and is_activation(y)


def _is_passing_zero(y: np.ndarray) -> bool:
    return bool(np.isfinite(y).all()) and abs(y[len(_HALF)]) <= 1e-7


def _is_one_sided(y: np.ndarray) -> bool:
    """Zero on the left, and growing on the right: ReLU, ReLU6, their squares."""
    left, right = y[: len(_HALF)], y[len(_HALF) + 1 :]
    if not _is_passing_zero(y) or left.any():
        return False
    return bool((right > 0).all() and (np.diff(right) >= -1e-9).all()) and not is_gate(y)


def _is_bent_line(y: np.ndarray) -> bool:
    """A line far on the right, less than it far on the left: leaky ReLU, ELU, GELU, SiLU."""
    right = y[len(_HALF) + 1 :]
    if not _is_passing_zero(y) or not (right > 0).all():
        return False
    before, slope = np.diff(y[-3:]) / np.diff(_GRID[-3:])
    is_straight = np.isclose(before, slope, rtol=1e-3)
    return bool(is_straight and slope > 0 and abs(y[0]) < 0.95 * slope * abs(_GRID[0]))


def _is_odd_and_bounded(y: np.ndarray) -> bool:
    """Whether a curve is odd, grows and levels off, as tanh does."""
    if not _is_passing_zero(y) or not (y[len(_HALF) + 1 :] > 0).all():
        return False
    bound = y[-1]
    is_flat = bool(np.abs(y[-3:] - bound).max() <= 0.01 * bound)
    grows = bool((np.diff(y) >= -1e-9).all())
    return np.allclose(y, -y[::-1], atol=1e-6 * bound) and is_flat and grows


def is_softcap(y: np.ndarray) -> bool:
    """c tanh(x / c) and its like: odd, the identity near zero, less than it far out; not tanh."""
    first = len(_HALF) + 1
    if not _is_passing_zero(y) or not np.allclose(y, -y[::-1], atol=1e-6 * abs(y[-1])):
        return False
    is_identity_at_zero = abs(y[first] / _GRID[first] - 1) < 1e-3
    is_limited = (np.diff(y) >= -1e-9).all() and y[-1] < 0.99 * _GRID[-1]
    return bool(is_identity_at_zero and is_limited and abs(y[-1] - 1) > 1e-3)


def is_gate(y: np.ndarray) -> bool:
    """Within [0, 1], from one end to the other or near to it."""
    inside = np.isfinite(y).all() and y.min() >= -1e-6 and y.max() <= 1 + 1e-6
    return bool(inside and abs(y[-1] - y[0]) > 0.5)


def _is_limiter(y: np.ndarray) -> bool:
    """Whether a curve only grows or only falls, and levels off at both ends, as a clip does."""
    if not np.isfinite(y).all():
        return False
    slopes = np.diff(y) / np.diff(_GRID) * np.sign(y[-1] - y[0])
    size = np.abs(slopes).max()
    levels_off = all(a[0] <= 0.9 * a[1] + 1e-6 * size for a in (slopes, slopes[::-1]))
    return bool(size > 0 and levels_off and (slopes >= -1e-6 * size).all())


@dataclasses.dataclass(eq=False)
class _Step:
    """An elementwise output: its curve over the array that its chain starts from."""

    index: int  # of the equation
    root: Any
    y: np.ndarray
    parents: list
    name: str  # of the primitive
    shifted: np.ndarray | None = None  # the curve over an x + c that it passed, if any
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
            step = _Step(index, before.root, before.y, [before], "", before.shifted)
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
        y = shifted = None
        kind_of_number = shaped(eqn.outvars[0]).dtype
        is_real = kind_of_number == np.bool_ or jnp.issubdtype(kind_of_number, jnp.floating)
        if len(roots) == 1 and is_real:
            own = {v: steps[v].y if v in steps else _GRID for v in arrays}
            y = curve(eqn, [others[id(v)] if id(v) in others else own[v] for v in eqn.invars])
            moved = {v: steps[v].shifted if v in steps else None for v in arrays}
            shifted = curve(
                eqn, [others[id(v)] if id(v) in others else moved[v] for v in eqn.invars]
            )
        parents = [steps[v] for v in dict.fromkeys(arrays) if v in steps]
        if y is None or np.ndim(y) == 0:
            for parent in parents:
                parent.escapes = True
            continue
        if _is_sum(eqn, others, y if shifted is None else shifted, shifted is None):
            shifted = _GRID  # x + c: what follows is looked at as a curve of it, too
        step = _Step(index, roots.pop(), y, parents, eqn.primitive.name, shifted)
        steps[eqn.outvars[0]] = step
        for parent in parents:
            parent.children.append(step)
    for var in jaxpr.outvars:
        if not isinstance(var, core.Literal) and var in steps:
            steps[var].escapes = True
    return list(steps.values())


def _is_sum(eqn: core.JaxprEqn, others: Mapping, last: np.ndarray, is_first: bool) -> bool:
    """Whether an equation gives x + c: of any x where it is the first, then of a line."""
    has_number = eqn.primitive.name in ("add", "sub") and any(map(np.any, others.values()))
    is_moved_line = _line(_GRID, last) and not _line(_GRID, last, through_zero=True)
    return is_moved_line or (is_first and has_number)


def _other(eqn: core.JaxprEqn, var: Any, kind: str, numbers: Mapping) -> np.ndarray | None:
    """The number that an operand without samples is in a curve."""
    if isinstance(var, core.Literal):
        return _number(var.val)
    if var in numbers:
        return numbers[var]
    is_slope = kind == "params" and (shaped(var).ndim == 0 or eqn.primitive.name == "mul")
    return np.asarray(_SLOPE) if is_slope else None


def _is_candidate(step: _Step) -> bool:
    """Whether it has an activation's curve, and is no multiple of one that has it already."""
    repeats = (_line(p.y, step.y, through_zero=True) and _is_bent(p) for p in step.parents)
    return _is_bent(step) and not any(repeats) and not _is_moment(step)


def _is_moment(step: _Step) -> bool:
    """Whether it is the square of an activation that counts itself, as a norm takes one."""
    if step.name not in ("square", "integer_pow", "mul") or not step.parents:
        return False
    lines = _lines(step.parents[0], back=True)
    is_square = all(p in lines for p in step.parents)
    return is_square and any(_is_bent(p) and _representative(p) is not None for p in lines)


def _is_shifted_activation(step: _Step) -> bool:
    """Whether it is f(x + c) with an unbounded f; a bounded one may be part of a gate."""
    y = step.shifted
    if y is None or y.dtype == bool or y is _GRID:
        return False
    return _is_bent_line(y) or (_is_one_sided(y) and y[-1] > y[-2])


def _is_bent(step: _Step) -> bool:
    """Whether it has an activation's curve; a tanh of whatever has."""
    if step.y.dtype == bool:
        return False
    is_one = is_activation(step.y) or (step.name == "tanh" and not is_gate(step.y))
    return is_one or _is_shifted_activation(step)


def _representative(step: _Step) -> int | None:
    """The equation that stands for an activation; None where it is a step to something else.

    Of an activation times a number, as GELU is written, it is that of slope one where there is one.
    """
    same = _lines(step)
    if any(is_gate(other.y) or is_softcap(other.y) for other in same):
        return None
    is_step = len(np.unique(step.y)) <= 3 or _is_on_the_way(same)  # a sign alone only chooses
    if is_step and not any(other.escapes for other in same):
        return None
    multiples = [other for other in same if _line(step.y, other.y, through_zero=True)]
    slopes = [abs(np.abs(other.y).max() / _GRID[-1] - 1) < 1e-3 for other in multiples]
    return multiples[slopes.index(True) if True in slopes else 0].index


def _lines(step: _Step, *, back: bool = False) -> list[_Step]:
    """A step and what is a line of it; with `back` what it is made of as one, too."""
    found = [step]
    for one in found:
        near = [*one.children, *one.parents] if back else one.children
        found += [s for s in dict.fromkeys(near) if s not in found and _line(step.y, s.y)]
    return found


def _is_on_the_way(same: Sequence[_Step]) -> bool:
    """Whether whatever is made of these steps has a role of its own before it leaves the chain."""
    seen, unseen = set(same), [child for step in same for child in step.children]
    while unseen:
        step = unseen.pop()
        if step not in seen and not _has_role(step):
            if step.escapes:
                return False
            unseen += step.children
        seen.add(step)
    return True


def _has_role(step: _Step) -> bool:
    """Whether it is an activation, up to a constant, or chooses, gates or limits."""
    y = step.y
    if y.dtype == bool:
        return step.escapes
    with np.errstate(invalid="ignore"):
        is_one = _is_bent(step) or is_activation(y - y[len(_HALF)])
    return is_one or is_gate(y) or is_softcap(y) or _is_limiter(y)


def _line(x: np.ndarray, y: np.ndarray, through_zero: bool = False) -> bool:
    """Whether y = a x + b with a != 0 (and b = 0)."""
    if (
        x.shape != y.shape
        or bool in (x.dtype, y.dtype)
        or not (np.isfinite(x).all() and np.isfinite(y).all())
    ):
        return False
    spread = x.max() - x.min()
    a = (y[x.argmax()] - y[x.argmin()]) / spread if spread else 0.0
    b = y[len(_HALF)] - a * x[len(_HALF)]
    scale = max(np.abs(y).max(), 1e-12)
    is_line = a != 0 and np.abs(a * x + b - y).max() <= 1e-6 * scale
    return bool(is_line and (not through_zero or abs(b) <= 1e-6 * scale))
