"""Types of arrays and of variables, and what JAX's own types are too weak to say."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
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


def each(function: Callable[..., Array], arguments: Sequence[tuple[Any, ...]]) -> Array:
    """`function(*arrays)` of every tuple of arrays, stacked.

    Tuples of the same shapes are turns of one loop, so that many layers compile as few. A loop, not
    a `vmap`: two of jaxlib's batched LAPACK calls at a time, on two cores, wait for ever.

    Example:
        >>> rows = [(jnp.ones(2), 3.0), (jnp.ones(4), 1.0), (jnp.ones(2), 2.0)]
        >>> each(lambda x, y: x.sum() * y, rows).tolist()
        [6.0, 4.0, 4.0]
    """
    groups: dict[tuple, list[int]] = {}
    for i, arrays in enumerate(arguments):
        groups.setdefault(tuple(jnp.shape(x) for x in arrays), []).append(i)
    found = [
        _loop(function)(*map(jnp.stack, zip(*(arguments[i] for i in group), strict=True)))
        for group in groups.values()
    ]
    order = np.argsort([i for group in groups.values() for i in group])
    return jnp.concatenate(found)[order]


@functools.lru_cache(maxsize=64)
def _loop(function: Callable[..., Array]) -> Callable[..., Array]:
    """One compiled loop for each set of shapes, also for chains of blocks."""
    return jax.jit(lambda *stacks: jax.lax.map(lambda arrays: function(*arrays), stacks))


def shaped(atom: core.Var | core.Literal) -> ShapedArray:
    """Shape and type of a value in a traced program, all of whose values are arrays."""
    return cast(ShapedArray, atom.aval)
