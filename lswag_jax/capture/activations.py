"""Activation functions, recognised in a traced network."""

from typing import Any

import jax
import numpy as np
from jax.extend import core

Array = jax.Array

# Activation functions by the name of their traced call; GELU and tanh also by their primitive.
ACTIVATIONS = frozenset(
    [
        *("celu", "elu", "gelu", "hard_silu", "hard_swish", "leaky_relu", "mish", "relu", "relu6"),
        *("selu", "silu", "swish"),
    ]
)


def name_of(eqn: core.JaxprEqn) -> str:
    """Name of the function that a call equation calls, also under `jax.custom_jvp`."""
    if eqn.primitive.name == "custom_jvp_call":
        body = eqn.params["call_jaxpr"].jaxpr.eqns
        return name_of(body[0]) if len(body) == 1 else ""
    return eqn.params.get("name", "") if eqn.primitive.name in ("jit", "pjit") else ""


def activation_of(
    eqn: core.JaxprEqn, values: list, outputs: list, gelu_input: Array | None
) -> Array | None:
    """The activation's output [B, ...] where `eqn` is an activation function, else None.

    `jax.nn.gelu` and `tanh` leave only primitives in the program, of which one stands for the
    whole: erf(x / sqrt 2), erfc(-x / sqrt 2) or tanh, of which `gelu_input` is the x in GELU.
    """
    primitive = eqn.primitive.name
    if gelu_input is not None:
        return gelu_input * (0.5 * (1 + outputs[0]))
    if name_of(eqn) in ACTIVATIONS or primitive == "tanh":
        return outputs[0]
    if primitive in ("erf", "erfc"):
        x = values[0] if primitive == "erf" else -values[0]
        cdf = 1 + outputs[0] if primitive == "erf" else outputs[0]
        return x * np.sqrt(0.5).astype(x.dtype) * cdf
    return None


def gelu_input_of(eqn: core.JaxprEqn, jaxpr: core.Jaxpr) -> core.Var | None:
    """The x of tanh(a (x + b x^3)) with numbers a and b, as in approximate GELU, else None."""
    if eqn.primitive.name != "tanh":
        return None
    made_by = {var: other for other in jaxpr.eqns for var in other.outvars}

    def operands(var: Any, primitive: str, **params: Any) -> list:
        """Operands of the equation that makes `var` where it is of this kind, else none."""
        found = made_by.get(var) if isinstance(var, core.Var) else None
        if found is None or found.primitive.name != primitive:
            return []
        return found.invars if params.items() <= found.params.items() else []

    def scaled(var: Any) -> list:
        """What is multiplied by a number to give `var`."""
        factors = operands(var, "mul")
        pairs = zip(factors, factors[::-1], strict=True)
        return [factor for factor, other in pairs if not other.aval.shape]

    for total in scaled(eqn.invars[0]):
        terms = operands(total, "add")
        for x, cubic in zip(terms, terms[::-1], strict=True):
            if any(operands(cube, "integer_pow", y=3) == [x] for cube in scaled(cubic)):
                return x
    return None
