"""Layers that differ only in their arrays: computed in one loop, so that they compile once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from lswag_jax.arrays import alike, or_zeros, rows, stack_id, stack_or_array_id, stacked
from lswag_jax.capture.tape import Layer

Array = jax.Array


def kind_of(layer: Layer) -> tuple:
    """What like layers share: everything but their arrays."""
    leaves, structure = jax.tree.flatten(layer.anonymous())
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return structure, shapes, loop_of(layer.calls[0].inputs)


def loop_of(array: Array) -> int:
    """Gives what arrays of one shape must share to be taken in one loop.

    That is nothing where a program is traced. The arrays of a chain are at hand: each block is
    compiled by itself, and loops over how many a network has would be compiled for every network.
    """
    return 0 if isinstance(array, Tracer) else stack_or_array_id(array)


def map_present(compute: Callable[[Any], Any], trees: Sequence[Any], present: Array | None) -> list:
    """`compute` of each tree in one loop; the trees differ only in their arrays.

    Args:
        compute: of one of them.
        trees: like ones.
        present: bool [n], zeros are given for the others; None for all.
    """
    if len(trees) == 1:
        (tree,) = trees
        if present is None:
            return [compute(tree)]
        return [or_zeros(present[0], lambda: compute(tree))]
    # Trees whose arrays are rows of the same stacks are together: nothing large is copied to join
    # them. A turn of the loop copies its own.
    parts = alike(map(_home, trees))
    stacks = [jax.tree.map(lambda *a: stacked(a), *[trees[i] for i in some]) for some in parts]
    order = np.concatenate(parts)
    part = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    row = np.concatenate([np.arange(len(some)) for some in parts])

    def one(place: tuple[Array, Array, Array | None]) -> Any:
        part, row, is_there = place

        def taken() -> Any:
            if len(stacks) == 1:
                return compute(_row(stacks[0], row))
            return compute(lax.switch(part, [lambda row, s=s: _row(s, row) for s in stacks], row))

        return taken() if is_there is None else or_zeros(is_there, taken)

    places = jnp.asarray(part), jnp.asarray(row), None if present is None else present[order]
    leaves, structure = jax.tree.flatten(lax.map(one, places))
    found = [structure.unflatten(each) for each in zip(*map(rows, leaves), strict=True)]
    return [found[i] for i in np.argsort(order)]


def _home(tree: Any) -> tuple[int, ...]:
    """Gives the stacks that a tree's arrays are rows of; its largest array itself if of none."""
    leaves = jax.tree.leaves(tree)
    return *map(stack_id, leaves), stack_or_array_id(max(leaves, key=jnp.size))


def _row(stack: Any, row: Array) -> Any:
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, row, keepdims=False), stack)
