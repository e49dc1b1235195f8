"""Curves of elementwise operations over a grid of numbers, and what functions they are those of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend import core
from scipy import special

from lswag_jax.arrays import CALLS, bodies, evaluate, shaped

HALF = np.geomspace(1e-2, 200, 28)
GRID = np.concatenate([-HALF[::-1], [0.0], HALF])

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
        return evaluate(bodies(eqn)[0], operands, step, number)[0]


def number(value: Any) -> np.ndarray | None:
    """A constant of a program in a curve; None for an array."""
    is_real = np.ndim(value) == 0 and not np.iscomplexobj(value)
    return np.asarray(value, np.float64) if is_real else None


def is_activation(y: np.ndarray) -> bool:
    """Whether a curve over the grid is an activation's, up to a factor, or that of -x."""
    if y.dtype == bool:
        return False
    sides = (y, y[::-1], -y, -y[::-1])
    is_bent = any(is_one_sided(side) or is_bent_line(side) for side in sides)
    return is_bent or (any(map(is_odd_and_bounded, sides[::2])) and not is_softcap(y))


def is_activation_call(eqn: core.JaxprEqn) -> bool:
    """Whether a call of one array computes an activation."""
    operands = [
        number(v.val) if isinstance(v, core.Literal) else GRID if shaped(v).ndim else None
        for v in eqn.invars
    ]
    if sum(x is GRID for x in operands) != 1:
        return False
    y = curve(eqn, operands)
    is_curve = y is not None and y.shape == GRID.shape and y.dtype != bool
    return y is not None and is_curve and is_activation(y)


def _is_passing_zero(y: np.ndarray) -> bool:
    return bool(np.isfinite(y).all()) and abs(y[len(HALF)]) <= 1e-7


def is_one_sided(y: np.ndarray) -> bool:
    """Zero on the left, and growing on the right: ReLU, ReLU6, their squares."""
    left, right = y[: len(HALF)], y[len(HALF) + 1 :]
    if not _is_passing_zero(y) or left.any():
        return False
    return bool((right > 0).all() and (np.diff(right) >= -1e-9).all()) and not is_gate(y)


def is_bent_line(y: np.ndarray) -> bool:
    """A line far on the right, less than it far on the left: leaky ReLU, ELU, GELU, SiLU.

    They bend at zero; a bound, as max(x, -10), is a line there.
    """
    zero, right = len(HALF), y[len(HALF) + 1 :]
    if not _is_passing_zero(y) or not (right > 0).all():
        return False
    before, slope = np.diff(y[-3:]) / np.diff(GRID[-3:])
    is_straight = np.isclose(before, slope, rtol=1e-3, atol=0)
    is_guarded = bool(y[0]) and not np.ptp(y[:zero])  # max(x, 1e-8)
    is_bound = np.isclose(*np.diff(y[zero - 1 : zero + 2]), rtol=1e-9, atol=0)
    is_less = abs(y[0]) < 0.95 * slope * abs(GRID[0])
    return bool(is_straight and slope > 0 and is_less and not is_guarded and not is_bound)


def is_odd_and_bounded(y: np.ndarray) -> bool:
    """Whether a curve is odd, grows and levels off, as tanh does."""
    if not _is_passing_zero(y) or not (y[len(HALF) + 1 :] > 0).all():
        return False
    bound = y[-1]
    # Over the last doubling soft sign of x / 10 grows by 5 %, a logarithm by 14.
    is_flat = bool(np.abs(y[-3:] - bound).max() <= 0.05 * bound)
    grows = bool((np.diff(y) >= -1e-9).all())
    return np.allclose(y, -y[::-1], atol=1e-6 * bound) and is_flat and grows


def is_softcap(y: np.ndarray) -> bool:
    """c tanh(x / c) and its like, of either sign: odd, the identity near zero, less far out."""
    first, y = len(HALF) + 1, y * np.sign(y[-1])
    if not _is_passing_zero(y) or not np.allclose(y, -y[::-1], atol=1e-6 * abs(y[-1])):
        return False
    is_identity_at_zero = abs(y[first] / GRID[first] - 1) < 1e-3
    is_limited = (np.diff(y) >= -1e-9).all() and y[-1] < 0.99 * GRID[-1]
    return bool(is_identity_at_zero and is_limited and abs(y[-1] - 1) > 1e-3)  # not tanh itself


def is_gate(y: np.ndarray) -> bool:
    """Within [0, 1], from one end to the other or near to it."""
    inside = np.isfinite(y).all() and y.min() >= -1e-6 and y.max() <= 1 + 1e-6
    return bool(inside and abs(y[-1] - y[0]) > 0.5)


def is_limiter(y: np.ndarray) -> bool:
    """Whether a curve only grows or only falls, and levels off at both ends, as a clip does."""
    if not np.isfinite(y).all():
        return False
    slopes = np.diff(y) / np.diff(GRID) * np.sign(y[-1] - y[0])
    size = np.abs(slopes).max()
    levels_off = all(a[0] <= 0.9 * a[1] + 1e-6 * size for a in (slopes, slopes[::-1]))
    return bool(size > 0 and levels_off and (slopes >= -1e-6 * size).all())


def is_squeezed(y: np.ndarray) -> bool:
    """Whether a curve grows from below zero to above it, and is no line: a clip, a softcap."""
    if y.dtype == bool or not np.isfinite(y).all() or not y[0] < 0 < y[-1]:
        return False
    return bool((np.diff(y) >= 0).all()) and not is_line(GRID, y)


def is_line(x: np.ndarray, y: np.ndarray, through_zero: bool = False) -> bool:
    """Whether y = a x + b with a != 0 (and b = 0)."""
    if (
        x.shape != y.shape
        or bool in (x.dtype, y.dtype)
        or not (np.isfinite(x).all() and np.isfinite(y).all())
    ):
        return False
    spread = x.max() - x.min()
    a = (y[x.argmax()] - y[x.argmin()]) / spread if spread else 0.0
    b = y[len(HALF)] - a * x[len(HALF)]
    scale = max(np.abs(y).max(), 1e-12)
    fits = a != 0 and np.abs(a * x + b - y).max() <= 1e-6 * scale
    return bool(fits and (not through_zero or abs(b) <= 1e-6 * scale))
