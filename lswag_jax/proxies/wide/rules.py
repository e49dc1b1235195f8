"""What each operation of a traced program does to arrays with exponents.

A rule takes the equation and its operands (`Wide` where they are floats, else arrays) and returns
the outputs. An operation without a rule sees ordinary numbers, infinite where they are too large:
erf, tanh, the logistic function and their like are right in that limit.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend import core

from lswag_jax.arrays import bind, shaped
from lswag_jax.proxies.wide.arrays import (
    UNKNOWN,
    Wide,
    aligned,
    flat,
    grown,
    log,
    normalised,
    ordinary,
    placed,
)

Array = jax.Array
Rule = Callable[[core.JaxprEqn, list], list]
RULES: dict[str, Rule] = {}
_ROOM = 100  # bits that a product may have


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Makes a function the rule of these primitives."""

    def keep(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return keep


def as_ordinary(eqn: core.JaxprEqn, operands: Sequence[Any]) -> list:
    """Any operation, on ordinary numbers of the types that the program has there."""
    wide = [x for x in operands if isinstance(x, Wide)]
    values = [
        ordinary(x).astype(shaped(v).dtype) if isinstance(x, Wide) else x
        for x, v in zip(operands, eqn.invars, strict=True)
    ]
    return [_wrapped(y, wide[0].mantissa.dtype if wide else None) for y in bind(eqn, values)]


def _wrapped(y: Array, dtype: Any, fill: float | None = None) -> Any:
    """A float as a plain array of the working type."""
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return y
    return Wide(y if dtype is None else y.astype(dtype), fill=fill)


@rule("exp", "exp2", "expm1", "log1p", "tanh", "logistic", "erf", "erfc", "sin", "cos", "tan")
@rule("sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "floor", "ceil", "round")
def _pointwise(eqn: core.JaxprEqn, operands: list) -> list:
    """Applies a primitive to ordinary numbers, in the working type whatever the program's."""
    return [Wide(y) for y in bind(eqn, [ordinary(operands[0])])]


@rule("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "rev", "slice", "neg")
@rule("dynamic_slice", "gather", "abs", "reduce_max", "reduce_min", "copy", "copy_p", "cummax")
@rule("cummin", "reduce_window_max", "reduce_window_min", "split", "sort", "top_k", "real")
@rule("reduce_sum", "cumsum", "reduce_window_sum", "optimization_barrier", "sharding_constraint")
def _homogeneous(eqn: core.JaxprEqn, operands: list) -> list:
    """What commutes with a positive factor: it is done to the mantissas."""
    given = [flat(x) if isinstance(x, Wide) else x for x in operands]
    values = [x.mantissa if isinstance(x, Wide) else x for x in given]
    outputs = bind(eqn, values)
    sources = given if len(given) == len(outputs) > 1 else [given[0]] * len(outputs)
    return [
        _like(eqn, y, x) if jnp.issubdtype(y.dtype, jnp.floating) else y
        for y, x in zip(outputs, sources, strict=True)
    ]


def _like(eqn: core.JaxprEqn, y: Array, x: Wide) -> Wide:
    """`y`, made of the mantissa of `x`."""
    if eqn.primitive.name in ("broadcast_in_dim", "reshape", "squeeze", "transpose", "copy"):
        return Wide(y, x.exponent, x.fill, x.bits)
    summed = 0.0
    if eqn.primitive.name == "reduce_window_sum":
        summed = math.log2(math.prod(eqn.params["window_dimensions"]))
    elif eqn.primitive.name in ("reduce_sum", "cumsum"):
        summed = math.log2(max(x.mantissa.size, 1))
    return grown(y, x.exponent, x.bits + summed)


@rule("argmax", "argmin", "sign", "is_finite")
def _of_mantissa(eqn: core.JaxprEqn, operands: list) -> list:
    return [_wrapped(y, None) for y in bind(eqn, [flat(operands[0]).mantissa])]


@rule("convert_element_type", "reduce_precision")
def _convert(eqn: core.JaxprEqn, operands: list) -> list:
    """Between floats nothing happens: all are of the working type, however narrow the layer's."""
    (x,), dtype = operands, shaped(eqn.outvars[0]).dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return [x]
    return [x.mantissa != 0 if jnp.issubdtype(dtype, jnp.bool_) else ordinary(x).astype(dtype)]


@rule("add", "sub", "add_any", "concatenate", "pad", "dynamic_update_slice", "scatter")
@rule("scatter-add", "scatter_add")
def _together(eqn: core.JaxprEqn, operands: list) -> list:
    """What needs all its operands at one exponent."""
    wide = [x for x in operands if isinstance(x, Wide)]
    if eqn.primitive.name not in ("add", "sub", "add_any"):
        wide = [flat(x) for x in wide]
    mantissas, exponent, bits = aligned(wide)
    remaining = iter(mantissas)
    values = [next(remaining) if isinstance(x, Wide) else x for x in operands]
    return [grown(y, exponent, bits + 1) for y in bind(eqn, values)]


@rule("eq", "ne", "lt", "le", "gt", "ge")
def _compare(eqn: core.JaxprEqn, operands: list) -> list:
    x, y = operands
    if (x.is_plain or y.is_plain) and not (x.is_scale_free or y.is_scale_free):
        return bind(eqn, [ordinary(x), ordinary(y)])
    return bind(eqn, aligned([x, y])[0])


@rule("max", "min")
def _extreme(eqn: core.JaxprEqn, operands: list) -> list:
    """The larger or smaller operand, each m 2^e; compared as plain numbers where that is exact."""
    if _is_one_scale(operands):
        return _same_scale(eqn, operands)
    x, y = (_spread(x, shaped(eqn.outvars[0]).shape) for x in operands)
    if (x.is_plain or y.is_plain) and not (x.is_scale_free or y.is_scale_free):
        first = ordinary(x) > ordinary(y)
    else:
        first = lax.gt(*aligned([x, y])[0])
    return [_select(first if eqn.primitive.name == "min" else ~first, [x, y])]


def _is_one_scale(xs: Sequence[Wide]) -> bool:
    """Whether arrays have the same exponent, but for those that need none."""
    return len({id(x.exponent) for x in xs if not x.is_scale_free}) <= 1


def _same_scale(eqn: core.JaxprEqn, xs: Sequence[Wide], *before: Array) -> list:
    mantissas, exponent, bits = aligned(xs)
    return [grown(y, exponent, bits) for y in bind(eqn, [*before, *mantissas])]


@rule("select_n")
def _select_n(eqn: core.JaxprEqn, operands: list) -> list:
    which, *cases = operands
    if _is_one_scale(cases):
        return _same_scale(eqn, cases, which)
    return [_select(which, cases)]


def _select(which: Array, cases: Sequence[Wide]) -> Wide:
    """Elements of the cases by number, at the exponent that the chosen ones need.

    The others are left out first: a large one must not hide the small ones that are chosen.
    """
    if which.ndim == 0:
        cases = [placed(x) if x.is_plain else flat(x) for x in cases]
        exponent = lax.select_n(which, *[x.power for x in cases])
        mantissa = lax.select_n(which, *[x.mantissa for x in cases])
        return Wide(mantissa, exponent, None, max(x.bits for x in cases))
    chosen = []
    for i, x in enumerate(cases):
        if not x.is_scale_free:
            keep = which == i if which.dtype != bool else which == bool(i)
            kept = Wide(jnp.where(keep, x.mantissa, 0), x.exponent, None, x.bits)
            x = normalised(kept)
        chosen.append(x)
    mantissas, exponent, bits = aligned(chosen)
    return Wide(lax.select_n(which, *mantissas), exponent, None, bits)


@rule("clamp")
def _clamp(eqn: core.JaxprEqn, operands: list) -> list:
    low, x, high = (_spread(x, shaped(eqn.outvars[0]).shape) for x in operands)
    which = jnp.where(ordinary(x) < ordinary(low), 0, 1)
    which = jnp.where(ordinary(x) > ordinary(high), 2, which).astype(jnp.int32)
    return [_select(which, [low, x, high])]


def _spread(x: Wide, shape: tuple[int, ...]) -> Wide:
    """A scalar in the shape of what it stands beside."""
    if x.mantissa.shape == shape:
        return x
    return Wide(jnp.broadcast_to(x.mantissa, shape), x.exponent, x.fill, x.bits)


@rule("mul", "div")
def _multiply(eqn: core.JaxprEqn, operands: list) -> list:
    x, y = _with_room(operands)
    (out,) = bind(eqn, [x.mantissa, y.mantissa])
    if x.fill == 0 or (y.fill == 0 and eqn.primitive.name == "mul"):
        return [Wide(out, fill=0.0)]
    if eqn.primitive.name == "mul":
        exponent = _sum(x.exponent, y.exponent)
    else:
        exponent = _sum(x.exponent, None if y.is_plain else -y.power)
    return [grown(out, exponent, _bits(x) + _bits(y))]


def _with_room(factors: Sequence[Wide]) -> list[Wide]:
    """Factors whose product cannot leave the type's range: the one with more bits is made small."""
    x, y = factors
    if _bits(x) + _bits(y) <= _ROOM:
        return [x, y]
    return [normalised(x), y] if _bits(x) > _bits(y) else [x, normalised(y)]


def _sum(a: Array | None, b: Array | None) -> Array | None:
    """Exponent of a product."""
    return b if a is None else a if b is None else a + b


def _bits(x: Wide) -> float:
    """How much a factor may enlarge a mantissa or make it smaller."""
    if x.fill is not None:
        return abs(math.log2(abs(x.fill))) if math.isfinite(x.fill) and x.fill else 0.0
    return UNKNOWN if x.is_plain else max(x.bits, 1.0)


@rule("dot_general", "conv_general_dilated")
def _product(eqn: core.JaxprEqn, operands: list) -> list:
    """Products of parameters and images alone have an exponent too, from here on."""
    dtype = next(x.mantissa.dtype for x in operands if isinstance(x, Wide))
    # One of them may hold integers, as a graph's edges do.
    x, y = _with_room([flat(x if isinstance(x, Wide) else Wide(x.astype(dtype))) for x in operands])
    (out,) = bind(eqn, [x.mantissa, y.mantissa], preferred_element_type=dtype)
    exponent = _sum(x.exponent, y.exponent)
    exponent = jnp.zeros((), jnp.int32) if exponent is None else exponent
    terms = min(x.mantissa.size, y.mantissa.size)  # at most, of one sum
    terms = min(terms, x.mantissa.size * y.mantissa.size // max(out.size, 1))
    return [grown(out, exponent, _bits(x) + _bits(y) + math.log2(max(terms, 1)) / 2)]


@rule("select_and_scatter_add")
def _scatter_to_largest(eqn: core.JaxprEqn, operands: list) -> list:
    """The cotangent of a max pool: windows are compared by mantissa."""
    source, operand = (flat(x) for x in operands)
    bits = source.bits + math.log2(math.prod(eqn.params["window_dimensions"]))
    return [grown(y, source.exponent, bits) for y in bind(eqn, [source.mantissa, operand.mantissa])]


@rule("integer_pow", "square")
def _integer_pow(eqn: core.JaxprEqn, operands: list) -> list:
    (x,) = operands
    if x.is_plain:
        return [Wide(y) for y in bind(eqn, [x.mantissa])]
    power = eqn.params.get("y", 2)
    x = normalised(x) if abs(power) * x.bits > _ROOM else x
    return [
        grown(y, power * x.exponent, abs(power) * (x.bits + 1)) for y in bind(eqn, [x.mantissa])
    ]


@rule("sqrt", "rsqrt")
def _root(eqn: core.JaxprEqn, operands: list) -> list:
    (x,) = operands
    if x.is_plain:
        return [Wide(y) for y in bind(eqn, [x.mantissa])]
    half = x.exponent >> 1
    odd = (x.exponent - 2 * half).astype(x.mantissa.dtype)  # 0 or 1
    sign = 1 if eqn.primitive.name == "sqrt" else -1
    return [grown(y, sign * half, x.bits / 2 + 1) for y in bind(eqn, [x.mantissa * (1 + odd)])]


@rule("pow")
def _pow(eqn: core.JaxprEqn, operands: list) -> list:
    x, y = operands
    if x.is_plain or not isinstance(y, Wide) or y.fill is None:
        return as_ordinary(eqn, operands)
    power = x.exponent.astype(x.mantissa.dtype) * y.fill
    whole = jnp.floor(power)
    (out,) = bind(eqn, [x.mantissa, y.mantissa])
    return [normalised(Wide(out * jnp.exp2(power - whole), whole.astype(jnp.int32)))]


@rule("log")
def _log(eqn: core.JaxprEqn, operands: list) -> list:
    return [Wide(log(operands[0]))]


def literal(value: Any, dtype: Any) -> Any:
    """A constant of the program, or a traced array from outside of it."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        return value
    fill = None
    if not isinstance(value, Tracer) and np.size(value) == 1:
        fill = float(np.asarray(value, np.float64).reshape(()))
    elif isinstance(value, np.ndarray) and not value.any():
        fill = 0.0
    return Wide(jnp.asarray(value, dtype), fill=fill)
