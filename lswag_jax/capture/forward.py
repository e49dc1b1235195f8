"""Functions in forward mode, which custom gradients forbid.

`jax.jvp` does not pass a `jax.custom_vjp`, as convolutions and activations of the spaces have one.
Such a gradient is a faster way to the same numbers, so that forward mode may leave it out: the
traced program is run again with the functions themselves in place of it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from lswag_jax.arrays import CUSTOM_VJP, REMATS, bind, bodies, evaluate


def forward(function: Callable) -> Callable:
    """Makes a function of arrays one that `jax.jvp` can differentiate as often as wanted.

    Custom gradients in the body of a `while` loop stay.

    Example:
        >>> square = jax.custom_vjp(lambda x: x * x)
        >>> square.defvjp(lambda x: (x * x, x), lambda x, y_bar: (2 * x * y_bar,))
        >>> jax.jvp(forward(square), (3.0,), (1.0,))[1].item()
        6.0
    """

    def run(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        outputs = _run(program, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run


def _run(program: core.ClosedJaxpr, args: Sequence[Any]) -> list:
    """Outputs of a program, without its custom gradients."""
    return evaluate(program, args, _step)


@functools.lru_cache(maxsize=512)
def _function(program: core.ClosedJaxpr) -> Callable:
    """A called program as a function of its own: compiled once by chains of blocks."""
    return jax.jit(functools.partial(_run, program))


def _step(eqn: core.JaxprEqn, values: Sequence[Any]) -> list:
    """Outputs of an equation, without the custom gradients in it."""
    kind, params = eqn.primitive.name, eqn.params
    if not _has_custom(eqn):
        return bind(eqn, values)
    if kind in CUSTOM_VJP or kind in REMATS:
        return _run(bodies(eqn)[0], values)
    if kind == "cond":
        index, *operands = values
        branches = [functools.partial(_run, branch) for branch in params["branches"]]
        return lax.switch(index.astype("int32"), branches, operands)
    if kind == "scan":
        return _scan(params, values)
    return _function(params["jaxpr"])(values) if "jaxpr" in params else bind(eqn, values)


def _scan(params: dict, values: Sequence[Any]) -> list:
    split = params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, start, xs = values[: split[0]], values[slice(*split)], values[split[1] :]

    def turn(carry: list, x: list) -> tuple[list, list]:
        outputs = _run(params["jaxpr"], [*consts, *carry, *x])
        return outputs[: len(start)], outputs[len(start) :]

    options = {key: params[key] for key in ("length", "reverse", "unroll")}
    carry, ys = lax.scan(turn, list(start), list(xs), **options)
    return [*carry, *ys]


def _has_custom(eqn: core.JaxprEqn) -> bool:
    """Whether an equation is a custom gradient or holds one."""
    return eqn.primitive.name in CUSTOM_VJP or any(
        _has_custom(inner) for body in bodies(eqn) for inner in body.jaxpr.eqns
    )
