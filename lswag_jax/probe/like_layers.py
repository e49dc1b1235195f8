"""Layers that differ only in their arrays: computed in one loop, so that they compile once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lswag_jax.arrays import or_zeros, rows, stack_or_array_id, stacked
from lswag_jax.capture.tape import Layer

Array = jax.Array


def kind_of(layer: Layer) -> tuple:
    """What like layers share: everything but their arrays; the inputs are rows of one stack."""
    leaves, structure = jax.tree.flatten(layer.anonymous())
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return structure, shapes, stack_or_array_id(layer.calls[0].inputs)


def map_present(compute: Callable[[Any], Any], trees: Sequence[Any], present: Array | None) -> list:
    """`compute` of each tree in one loop; the trees differ only in their arrays.

    Args:
        compute: of one of them.
        trees: like ones.
        present: bool [n], zeros are given for the others; None for all.
    """

    def one(pair: tuple[Any, Array | None]) -> Any:
        tree, is_there = pair
        return compute(tree) if is_there is None else or_zeros(is_there, lambda: compute(tree))

    if len(trees) == 1:
        return [one((trees[0], None if present is None else present[0]))]
    stack = jax.tree.map(lambda *leaves: stacked(leaves), *trees)
    results = jax.lax.map(one, (stack, present))
    leaves, structure = jax.tree.flatten(results)
    return [structure.unflatten(row) for row in zip(*map(rows, leaves), strict=True)]
