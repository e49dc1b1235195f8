"""Layers that are alike, wherever their arrays come from, are one loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.arrays import rows
from lswag_jax.probe.like_layers import map_present


def _trees(seed):
    """Rows of two stacks among arrays of their own, in a mixed order."""
    x, y, single, other = np.random.default_rng(seed).normal(size=(4, 3, 2, 5)).astype(np.float32)
    first, second = rows(jnp.asarray(x)), rows(jnp.asarray(y))
    singles = [jnp.asarray(single[0]), jnp.asarray(other[0])]
    return [{"x": a, "y": 2 * a} for a in (second[1], first[0], singles[0], *first[1:], *singles)]


@pytest.mark.parametrize("present", [None, (1, 0, 1, 1, 0, 1, 0)], ids=["all", "some"])
@pytest.mark.parametrize("number", [1, 3, 7])
def test_each_as_by_itself(present, number):
    trees = _trees(0)[:number]
    flags = None if present is None else jnp.array(present[:number], bool)

    def compute(tree):
        return {"sum": (tree["x"] * tree["y"]).sum(), "sorted": jnp.sort(tree["x"], axis=None)}

    found = jax.jit(lambda trees, flags: map_present(compute, trees, flags))(trees, flags)
    inside = map_present(compute, trees, flags)  # of arrays at hand, in their stacks
    for i, (tree, *results) in enumerate(zip(trees, found, inside, strict=True)):
        is_there = present is None or present[i]
        for result in results:
            jax.tree.map(
                lambda a, b, n=is_there: np.testing.assert_allclose(a, b * n, rtol=1e-6),
                result,
                compute(tree),
            )


def test_all_are_turns_of_one_loop():
    """The computation stands once in the program."""

    def run(x, y, z):
        trees = [*rows(x), *rows(y), z]
        return map_present(lambda tree: jnp.linalg.norm(jnp.tanh(tree)), trees, None)

    x = jnp.ones((3, 4))
    program = str(jax.make_jaxpr(run)(x, x, x[0]))
    assert program.count("tanh") == 1


def test_arrays_of_their_own_are_not_joined():
    """Large ones would be held twice, all at once."""

    def run(*trees):
        return map_present(lambda tree: tree["x"].sum() * tree["w"], trees, None)

    trees = [{"x": jnp.ones((5, 7)), "w": jnp.float32(i)} for i in range(3)]
    program = jax.make_jaxpr(run)(*trees)
    assert "[3,5,7]" not in str(program)
    assert [float(y) for y in jax.jit(run)(*trees)] == [0.0, 35.0, 70.0]
