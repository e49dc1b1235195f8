"""Types of arrays and of variables, and what JAX's own types are too weak to say."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import jax
from jax.core import ShapedArray
from jax.extend import core

Array = jax.Array
Variables = Mapping[str, Any]  # of a Flax module: collections of nested parameters
Term = TypeVar("Term")


def total(terms: Iterable[Term]) -> Term:
    """The built-in `sum` of one term or more, so that the result is of their type.

    Example:
        >>> total([jax.numpy.ones(2), jax.numpy.ones(2)]).tolist()
        [2.0, 2.0]
    """
    return cast(Term, sum(cast(Any, terms)))


def shaped(atom: core.Var | core.Literal) -> ShapedArray:
    """Shape and type of a value in a traced program, all of whose values are arrays."""
    return cast(ShapedArray, atom.aval)
