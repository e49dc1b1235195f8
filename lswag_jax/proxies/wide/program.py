"""Evaluating a traced program on arrays with exponents, control flow included."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import partial_eval

from lswag_jax.arrays import CALLS, JITS, bodies, evaluate, shaped
from lswag_jax.proxies.base import NotApplicable
from lswag_jax.proxies.wide.arrays import Wide, flat, normalised, placed
from lswag_jax.proxies.wide.rules import RULES, as_ordinary, literal

Array = jax.Array
_SMALL = 16  # equations of a function that is not worth a function of its own
_SETTLED = 32  # bits that a mantissa may have on its way into or out of a function


def gradient(function: Callable[[Any], Array], at: Any) -> Any:
    """`jax.grad(function)(at)`, each leaf a `Wide`: no value on the way is too large or too small.

    All floats are of one working type, the widest of `at`, whatever narrower ones the function's
    layers have.

    Example:
        >>> deep = lambda w: jnp.sum((jnp.ones((1, 2)) @ w) * 1e30) * 1e30
        >>> g = gradient(deep, jnp.ones((2, 2)))
        >>> float(jnp.log(g.mantissa[0, 0]) / jnp.log(10) + g.exponent * jnp.log10(2)).__round__(3)
        60.0
    """
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(at))
    program, shape = jax.make_jaxpr(jax.grad(function), return_shape=True)(at)
    wanted = [True] * len(program.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(program.jaxpr, wanted, instantiate=True)
    evaluator = Evaluator(dtype)
    args = [evaluator.entered(leaf) for leaf in jax.tree.leaves(at)]
    outputs = evaluator.run(core.ClosedJaxpr(jaxpr, program.consts), args)
    return jax.tree.unflatten(jax.tree.structure(shape), outputs)


@functools.lru_cache(maxsize=512)
def _function(body: core.ClosedJaxpr, dtype: Any) -> Callable:
    """A called program as a function of its own: traced once, compiled once by chains of blocks."""
    return jax.jit(functools.partial(Evaluator(dtype).run, body))


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Runs programs equation by equation.

    Attributes:
        dtype: the working type of all floats.
    """

    dtype: Any

    def entered(self, value: Any) -> Any:
        """An array from outside as the evaluator has it."""
        if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return value if isinstance(value, Wide) else literal(value, self.dtype)

    def run(self, program: core.ClosedJaxpr, args: Sequence) -> list:
        """Values of the program's outputs, `Wide` where they are floats."""
        return evaluate(program, args, self._step, lambda value: literal(value, self.dtype))

    def _step(self, eqn: core.JaxprEqn, values: list) -> list:
        name = eqn.primitive.name
        if any(jnp.issubdtype(shaped(v).dtype, jnp.complexfloating) for v in eqn.outvars):
            raise NotApplicable  # there are no positive weights and signals
        if name in ("cond", "scan", "while"):
            return getattr(self, f"_{name}")(eqn, values)
        if name in CALLS:
            return self._call(name, bodies(eqn)[0], values)
        rule = RULES.get(name)
        if rule is None or not any(isinstance(x, Wide) for x in values):
            return [self.entered(y) for y in as_ordinary(eqn, values)]
        return rule(eqn, values)

    def _call(self, name: str, body: core.ClosedJaxpr, values: list) -> list:
        if name not in JITS or len(body.jaxpr.eqns) <= _SMALL:
            return self.run(body, values)
        return _function(body, self.dtype)([_settled(x) for x in values])

    def _cond(self, eqn: core.JaxprEqn, values: list) -> list:
        index, *operands = values

        operands = [_settled(x) for x in operands]
        branches = [_function(branch, self.dtype) for branch in eqn.params["branches"]]
        shapes = [jax.eval_shape(branch, operands) for branch in branches]
        # An output that is plain in every branch stays so.
        plain = [all(_is_plain(y) for y in outputs) for outputs in zip(*shapes, strict=True)]

        def alike(branch: Callable) -> Callable:
            return lambda xs: [
                Wide(y.mantissa) if is_plain else _scaled(y)
                for y, is_plain in zip(branch(xs), plain, strict=True)
            ]

        index = index.astype(jnp.int32)  # a predicate is a boolean
        return lax.switch(index, [alike(branch) for branch in branches], operands)

    def _scan(self, eqn: core.JaxprEqn, values: list) -> list:
        params = eqn.params
        split = params["num_consts"], params["num_consts"] + params["num_carry"]
        consts, start, xs = values[: split[0]], values[slice(*split)], values[split[1] :]
        xs = [_settled(x) for x in xs]
        whole = [x.exponent if _has_one_scale(x) else None for x in xs]

        def turn(carry: list, x: list) -> tuple[list, list]:
            x = [_of_turn(a, e) for a, e in zip(x, whole, strict=True)]
            outputs = self.run(params["jaxpr"], [*consts, *carry, *x])
            carry = [_scaled(y) for y in outputs[: len(carry)]]
            return carry, [_settled(y) for y in outputs[len(carry) :]]

        stacked = [Wide(x.mantissa) if _has_one_scale(x) else _flattened(x) for x in xs]
        options = {k: params[k] for k in ("length", "reverse", "unroll")}
        carry, ys = lax.scan(turn, [_scaled(x) for x in start], stacked, **options)
        return [*carry, *(_of_all_turns(y) for y in ys)]

    def _while(self, eqn: core.JaxprEqn, values: list) -> list:
        params = eqn.params
        split = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        of_cond, of_body, start = values[: split[0]], values[slice(*split)], values[split[1] :]

        def run(name: str, consts: list, carry: list) -> list:
            return self.run(params[name], [*consts, *carry])

        return lax.while_loop(
            lambda carry: run("cond_jaxpr", of_cond, carry)[0],
            lambda carry: [_scaled(y) for y in run("body_jaxpr", of_body, carry)],
            [_scaled(x) for x in start],
        )


def _settled(x: Any) -> Any:
    """An operand of a function, whose program does not depend on how its mantissa has grown."""
    if not isinstance(x, Wide):
        return x
    if x.is_plain:
        return Wide(x.mantissa, None, x.fill)
    x = normalised(x) if x.bits > _SETTLED else x
    return Wide(x.mantissa, x.exponent, None, _SETTLED)


def _scaled(x: Any) -> Any:
    """Gives a value an exponent, so that all branches and turns have one structure."""
    if not isinstance(x, Wide):
        return x
    return _settled(placed(x) if x.is_plain else flat(x))


def _is_plain(x: Any) -> bool:
    return isinstance(x, Wide) and x.is_plain


def _has_one_scale(x: Any) -> bool:
    """Whether all turns of a loop see one exponent."""
    return isinstance(x, Wide) and not x.is_plain and x.power.ndim == 0


def _flattened(x: Any) -> Any:
    """What a loop runs over, its exponents [T] where each turn has one."""
    if not isinstance(x, Wide) or x.is_plain:
        return Wide(x.mantissa) if isinstance(x, Wide) else x
    return Wide(x.mantissa, x.power.reshape(-1))


def _of_turn(x: Any, exponent: Array | None) -> Any:
    """One turn's share of an array."""
    return x if exponent is None else Wide(x.mantissa, exponent)


def _of_all_turns(y: Any) -> Any:
    """Stacked outputs [T, ...], with exponents [T, 1, ...]."""
    if not isinstance(y, Wide) or y.is_plain:
        return y
    return Wide(y.mantissa, y.power.reshape((-1,) + (1,) * (y.mantissa.ndim - 1)))
