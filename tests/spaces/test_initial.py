"""Variables drawn together are those that the module draws one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.spaces import initial

KEY = jax.random.key(3)
VIT = spaces.get("autoformer_tiny", image_size=8, patch_size=4, channels=1, num_classes=3)
SMALL = spaces.AutoFormer(
    "small", (8, 16), (2,), (2.0,), (3,), image_size=8, patch_size=4, num_classes=3
)
CNN = spaces.get("nasbench201", width=4, cells=1, image_size=8)


def normed(key):
    """Draws that depend on other draws, and a number that is none."""
    first = jax.random.normal(key, (3, 2))
    own = jax.random.fold_in(key, 7)
    return {"a": first, "b": jax.random.normal(own, (3, 2)) * first.sum(), "c": jnp.ones(2)}


def a_layer(key):
    """One layer's variables."""
    return nn.Dense(2).init(key, jnp.ones((1, 9)))


@pytest.mark.parametrize("draw", [SMALL.init, CNN.init, normed, a_layer])
def test_like_draws_together_are_the_same_numbers(draw):
    got, want = initial.drawing(draw)(KEY), jax.jit(draw)(KEY)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-7)


def test_like_draws_are_compiled_once():
    def draws(function):
        return function.lower(KEY).as_text().count("call @_normal")

    assert draws(jax.jit(VIT.init)) > 100
    assert draws(initial.drawing(VIT.init)) <= 20  # a kind has two: a draw, and what it is made of
