"""Small functions of stored arrays: their samples, and arrays by name."""

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture import models

B = 6
ROWS = np.random.default_rng(0).normal(size=(B, 24))
TOKENS, PIXELS = ROWS.reshape(B, 6, 4), ROWS.reshape(B, 2, 4, 3)
relu = jax.nn.relu
SHAPES = {
    "a": (24, 8), "h": (8, 3), "e": (4, 8, 8), "s": (2, 8, 8), "r": (3, 2), "k": (2, 3, 3, 3, 4),
    "t": (6, 6), "bias": (8,), "mean": (3,), "q": (5, 4), "ss": (2, 3, 8, 8), "base": (8, 8),
    "column": (24, 1), "row": (1, 8), "places": (6, 4), "down": (2, 8, 2), "up": (2, 2, 8),
}  # fmt: skip


def parameters(names):
    rng = np.random.default_rng(1)
    return {k: jnp.asarray(rng.normal(size=SHAPES[k]) / 3) for k in names}


def network(function, params):
    return models.Function(function)({"params": params}, "frozen")
