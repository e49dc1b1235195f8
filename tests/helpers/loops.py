"""Loops that the tape finds in a space's elastic network."""

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture import adapters
from lswag_jax.capture.record import Program


def turns_of(space):
    """How many turns each loop has, in order of execution."""
    variables = jax.eval_shape(space.init, jax.random.key(0))
    encoded = space.encode(space.sample(np.random.default_rng(0), 1))
    codes = {key: jnp.asarray(code[0]) for key, code in encoded.items()}
    found: list[int] = []

    def trace(variables, codes, images):
        network = adapters.linen_network(space.network(), variables, codes, batch_norm="frozen")
        found.extend(loop.turns for loop in Program.trace(network, images).loops)
        return images

    jax.eval_shape(trace, variables, codes, jnp.zeros((2, *space.image_shape)))
    return found
