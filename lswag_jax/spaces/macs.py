"""Multiply-accumulates of any JAX function, read from its traced program.

What is computed counts: products with zeros that a transposed convolution puts between its pixels
do not, nor does taking patches or moving pixels by a kernel of zeros with a single one. Products
with the padding around an image count, as everywhere in the field.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jax.interpreters import partial_eval

from lswag_jax.arrays import bind, bodies, shaped
from lswag_jax.spaces.cost import declared

Equation = Any  # core.JaxprEqn, in whose types variables are not known to be arrays


def count_macs(function: Callable, *args: Any, dead: bool = False) -> int:
    """Multiply-accumulates of the matrix products and convolutions of `function(*args)`.

    A loop's body counts once for every turn of a scan; of a branch the largest counts.

    Args:
        function: of arrays.
        *args: arrays or their shapes.
        dead: whether what does not reach the output counts too.

    Example:
        >>> import jax.numpy as jnp
        >>> count_macs(lambda a, b: a @ b, jnp.ones((2, 3)), jnp.ones((3, 5)))
        30
    """
    program = jax.make_jaxpr(function)(*args)
    jaxpr = program.jaxpr
    if not dead:
        jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    known = [None if isinstance(c, Tracer) else _Constant(lambda c=c: c) for c in program.consts]
    return _run(jaxpr, known, [None] * len(jaxpr.invars))[0]


class _Gaps(NamedTuple):
    """An array with zeros between its elements, which lie at `offsets` + k `steps` of each axis.

    Attributes:
        steps, offsets: of each axis; 1 and 0 where there is no gap.
        size: number of elements without the zeros between.
    """

    steps: tuple[int, ...]
    offsets: tuple[int, ...]
    size: int


class _Constant:
    """What depends on no argument; computed only where somebody asks."""

    def __init__(self, compute: Callable[[], np.ndarray]):
        self.value = functools.cache(compute)


def _run(jaxpr: core.Jaxpr, consts: Sequence, args: Sequence) -> tuple[int, list]:
    """MACs of a program, and what is known of its outputs.

    Known are what depends on no argument (`_Constant`) and arrays with gaps (`_Gaps`).
    """
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(var: Any) -> Any:
        if isinstance(var, core.Literal):
            return _Constant(lambda: np.asarray(var.val))
        return env.get(var)

    total = 0
    for eqn in jaxpr.eqns:
        count, found = _equation(eqn, [read(var) for var in eqn.invars])
        total += count
        env.update(zip(eqn.outvars, found, strict=True))
    return total, [read(var) for var in jaxpr.outvars]


def _equation(eqn: Equation, known: list) -> tuple[int, list]:
    nothing, name = [None] * len(eqn.outvars), eqn.primitive.name
    if name == "dot_general":
        return _dot(eqn, known), nothing
    if name == "conv_general_dilated":
        return _convolution(eqn, known), nothing
    programs = bodies(eqn)
    if not programs:
        return 0, _known_outputs(eqn, known)
    if name in ("cond", "scan", "while"):
        counts = [_run(p.jaxpr, p.consts, [None] * len(p.jaxpr.invars))[0] for p in programs]
        if name == "cond":
            return max(counts), nothing
        return sum(counts) * eqn.params.get("length", 1), nothing
    body = programs[0]  # of a call, under whatever name
    if len(body.jaxpr.invars) != len(known):
        known = [None] * len(body.jaxpr.invars)
    count, outputs = _run(body.jaxpr, body.consts, known)
    outputs = outputs if len(outputs) == len(nothing) else nothing
    size = shaped(eqn.outvars[0]).size if eqn.outvars else 0
    return declared(eqn.params.get("name", ""), count, size), outputs


def _known_outputs(eqn: Equation, known: list) -> list:
    """What is known of the outputs of an equation that multiplies no matrices."""
    nothing, name = [None] * len(eqn.outvars), eqn.primitive.name
    if all(isinstance(x, _Constant) for x in known):
        outputs = functools.cache(lambda: _computed(eqn, known))
        return [_Constant(lambda i=i: outputs()[i]) for i in range(len(nothing))]
    gaps = known[0] if isinstance(known[0], _Gaps) else None
    if name == "pad" and _is_zero(known[1]):
        return [_padded(gaps, eqn.params["padding_config"], eqn.invars[0].aval)]
    if gaps and name in ("convert_element_type", "copy"):
        return [gaps]
    if gaps and name == "reshape":
        return [_reshaped(gaps, shaped(eqn.invars[0]).shape, shaped(eqn.outvars[0]).shape)]
    return nothing


def _computed(eqn: Equation, known: list) -> list:
    with jax.ensure_compile_time_eval():
        values = [x.value() for x in known]
        return bind(eqn, values)


def _padded(gaps: _Gaps | None, padding: Sequence[tuple], aval: Any) -> _Gaps | None:
    """Gaps of an array padded with zeros around and between."""
    gaps = gaps or _Gaps((1,) * aval.ndim, (0,) * aval.ndim, aval.size)
    steps = tuple(s * (inner + 1) for s, (_, _, inner) in zip(gaps.steps, padding, strict=True))
    offsets = tuple(
        o * (inner + 1) + low for o, (low, _, inner) in zip(gaps.offsets, padding, strict=True)
    )
    return _Gaps(steps, offsets, gaps.size) if max(steps, default=1) > 1 else None


def _reshaped(gaps: _Gaps, old: Sequence[int], new: Sequence[int]) -> _Gaps | None:
    """Gaps after a reshape that changes only leading axes without gaps; None for any other."""
    first = next(i for i, step in enumerate(gaps.steps) if step > 1)
    kept = len(old) - first
    if tuple(new[len(new) - kept :]) != tuple(old[first:]) or len(new) < kept:
        return None
    front = len(new) - kept
    steps, offsets = (1,) * front + gaps.steps[first:], (0,) * front + gaps.offsets[first:]
    return _Gaps(steps, offsets, gaps.size)


def _is_zero(value: Any) -> bool:
    return isinstance(value, _Constant) and not np.any(np.asarray(value.value()))


def _dot(eqn: Equation, known: list) -> int:
    """Products of a matrix product, without those with zeros between rows."""
    contracted, batched = eqn.params["dimension_numbers"]
    if any(_is_selection(x, axes) for x, axes in zip(known, contracted, strict=True)):
        return 0
    shape = shaped(eqn.invars[0]).shape
    total = shaped(eqn.outvars[0]).size * math.prod(shape[d] for d in contracted[0])
    for value, var in zip(known, eqn.invars, strict=True):
        if isinstance(value, _Gaps) and not batched[0]:
            total = total * value.size // shaped(var).size
    return total


def _convolution(eqn: Equation, known: list) -> int:
    """Products of a convolution: of kernels' taps with pixels, or with padding, not with gaps."""
    params, kernel = eqn.params, shaped(eqn.invars[1]).shape
    numbers, out = params["dimension_numbers"], shaped(eqn.outvars[0]).shape
    out_features, in_features, *axes = numbers.rhs_spec
    if _is_selection(known[1], [in_features, *axes]):
        return 0
    total = out[numbers.out_spec[0]] * kernel[out_features] * kernel[in_features]
    for i, axis in enumerate(axes):
        step, offset = params["lhs_dilation"][i], 0
        if isinstance(known[0], _Gaps):
            place = numbers.lhs_spec[2 + i]
            offset = step * known[0].offsets[place]
            step *= known[0].steps[place]
        pixels = np.arange(out[numbers.out_spec[2 + i]]) * params["window_strides"][i]
        taps = np.arange(kernel[axis]) * params["rhs_dilation"][i] - params["padding"][i][0]
        total *= int(((pixels[:, None] + taps[None] - offset) % step == 0).sum())
    return total


def _is_selection(value: Any, axes: Sequence[int]) -> bool:
    """Whether a constant only moves: along some axes it has a single one at most, and zeros."""
    if not isinstance(value, _Constant):
        return False
    found = np.asarray(value.value())
    ones = found == 1
    return bool((ones | (found == 0)).all() and ones.any() and (ones.sum(tuple(axes)) <= 1).all())
