"""What counts as an activation: by what is computed, not by how it is written."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import explain_model

UNITS = 5

ACTIVATIONS = {
    "relu": lambda h, b: nn.relu(h),
    "elu": lambda h, b: nn.elu(h),
    "mish": lambda h, b: jax.nn.mish(h),
    "hard_swish": lambda h, b: nn.hard_swish(h),
    "hard_swish by hand": lambda h, b: h * jnp.clip(h + 3, 0, 6) / 6,
    "relu squared": lambda h, b: jnp.square(nn.relu(h)),
    "star relu": lambda h, b: 0.8 * jnp.square(nn.relu(h)) - 0.4,
    "relu after a number": lambda h, b: nn.relu(h - 0.1),
    "relu after a scalar parameter": lambda h, b: nn.relu(h + b),
    "leaky relu after a number": lambda h, b: nn.leaky_relu(h - 0.3),
    "silu after a number": lambda h, b: nn.silu(h - 1),
    "tanh's gelu after a number": lambda h, b: nn.gelu(h + 1),
    "exact gelu after a line": lambda h, b: nn.gelu(2 * h + 1, approximate=False),
    "leaky relu as a maximum": lambda h, b: jnp.maximum(h, 0.1 * h),
    "relu of the other sign": lambda h, b: nn.relu(-h),
    "elu as a sum": lambda h, b: nn.relu(h) + jnp.minimum(0, jnp.expm1(h)),
    "softplus through zero": lambda h, b: nn.softplus(h) - jnp.log(2.0),
    "soft sign": lambda h, b: nn.soft_sign(h),
    "swish of a slope of its own": lambda h, b: h * nn.sigmoid((b + 1) * h),
    "gelu by the normal distribution": lambda h, b: h * jax.scipy.stats.norm.cdf(h),
    "a branch of a known index": lambda h, b: jax.lax.switch(1, [jnp.tanh, nn.relu], h),
    "relu under a norm of its own": lambda h, b: unit(nn.relu(h)),
}


def unit(r):
    return r / (1 + jnp.square(r).sum(-1, keepdims=True))


NOT_ACTIVATIONS = {
    "a line": lambda h, z: (h - 0.5) / 0.5,
    "absolute value": lambda h, z: jnp.abs(h - 0.1),
    "a bound": lambda h, z: jnp.maximum(h, 0.1),
    "softmax": lambda h, z: nn.softmax(h),
    "softcap": lambda h, z: 30 * jnp.tanh(h / 30),
    "maxout": lambda h, z: jnp.maximum(h, z),
    "a choice by another": lambda h, z: jnp.where(z > 0, h, 0),
    "sine": lambda h, z: jnp.sin(30 * h),
    "gate": lambda h, z: z * nn.sigmoid(h + 1),
    "hard gate": lambda h, z: z * nn.hard_sigmoid(h),
    "hard gate by hand": lambda h, z: z * jnp.clip(h + 3, 0, 6) / 6,
    "another hard gate by hand": lambda h, z: z * jnp.clip(0.2 * h + 0.5, 0, 1),
}


class Net(nn.Module):
    """Three dense layers; the function stands behind the first, a ReLU of two units at the end."""

    function: callable
    other: bool

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(UNITS)(x)
        second = nn.Dense(UNITS)(x) if self.other else self.param("b", nn.initializers.zeros, ())
        return nn.Dense(3)(nn.relu(nn.Dense(2)(self.function(h, second))))


def units(function, other) -> int:
    """Units of all activations that were found."""
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    net = Net(function, other)
    return sum(explain_model(net, net.init(jax.random.key(0), x), x).activations) - 2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    assert units(ACTIVATIONS[name], other=False) == UNITS


@pytest.mark.parametrize("name", NOT_ACTIVATIONS)
def test_what_is_none(name):
    assert units(NOT_ACTIVATIONS[name], other=True) == 0
