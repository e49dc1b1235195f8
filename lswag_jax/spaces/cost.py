"""What a function costs, where its program does more or less than the layer that it stands for."""

from collections.abc import Callable
from fractions import Fraction

import jax

_MARK = "lswag_jax_costs"


def costs(share: Fraction) -> Callable[[Callable], Callable]:
    """Makes a function count for `share` times the products of its traced program.

    Example:
        >>> half = costs(Fraction(1, 2))(lambda a: a * a)
        >>> share_of(jax.make_jaxpr(half)(2.0).eqns[0].params["name"])
        Fraction(1, 2)
    """

    def marked(function: Callable) -> Callable:
        def call(*args: jax.Array) -> jax.Array:
            return function(*args)

        call.__name__ = f"{_MARK}_{share.numerator}_{share.denominator}"
        return jax.jit(call)

    return marked


def share_of(name: str) -> Fraction:
    """The share that a traced call's name says; 1 of any other."""
    if not name.startswith(_MARK):
        return Fraction(1)
    return Fraction(*(int(part) for part in name.split("_")[-2:]))
