"""Multiply-accumulates of any JAX function, read from its traced program."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def count_macs(function: Callable, *args: Any) -> int:
    """Multiply-accumulates of the matrix products and convolutions of `function(*args)`.

    A loop's body counts once for every turn of a scan; of a branch the largest counts.

    Example:
        >>> import jax.numpy as jnp
        >>> count_macs(lambda a, b: a @ b, jnp.ones((2, 3)), jnp.ones((3, 5)))
        30
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: core.JaxprEqn) -> int:
    out = eqn.outvars[0].aval.shape if eqn.outvars else ()
    if eqn.primitive.name == "dot_general":
        contracted = eqn.params["dimension_numbers"][0][0]
        return math.prod(out) * math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(out) * math.prod(kernel) // out_features
    bodies = [_count(body) for value in eqn.params.values() for body in _jaxprs(value)]
    if eqn.primitive.name == "cond":
        return max(bodies, default=0)
    return sum(bodies) * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    if isinstance(value, list | tuple):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    return []
