"""What a function costs, where its program does more or less than the layer that it stands for."""

from collections.abc import Callable
from fractions import Fraction

import jax

_SHARE, _EACH = "lswag_jax_costs", "lswag_jax_multiplies"


def costs(share: Fraction) -> Callable[[Callable], Callable]:
    """Makes a function count for `share` times the matrix products of its traced program."""
    return lambda function: _named(function, f"{_SHARE}_{share.numerator}_{share.denominator}")


def multiplies(times: int) -> Callable[[Callable], Callable]:
    """Makes a function without matrix products count for `times` products an output element.

    Example:
        >>> three_taps = multiplies(3)(lambda a: a[2:] + 2 * a[1:-1] + 3 * a[:-2])
        >>> (eqn,) = jax.make_jaxpr(three_taps)(jax.numpy.ones(6)).eqns
        >>> declared(eqn.params["name"], 10, 4)
        12
    """
    return lambda function: _named(function, f"{_EACH}_{times}_1")


def declared(name: str, counted: int, outputs: int) -> int:
    """Products of a traced call.

    Args:
        name: of the call.
        counted: products in its program.
        outputs: elements of its output.
    """
    mark, *numbers = name.rsplit("_", 2)
    if mark not in (_SHARE, _EACH):
        return counted
    return int(Fraction(*map(int, numbers)) * (counted if mark == _SHARE else outputs))


def _named(function: Callable, name: str) -> Callable:
    def call(*args: jax.Array) -> jax.Array:
        return function(*args)

    call.__name__ = name
    return jax.jit(call)
