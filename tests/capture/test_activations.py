"""What counts as an activation: by what is computed, not by how it is written."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import explain_model, score_model

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
    "twice a relu under a norm": lambda h, b: less_its_square(nn.relu(h)),
    "twice a relu in a norm": lambda h, b: less_its_square(nn.relu(h), 2),
    "tanh beside its input": lambda h, b: h + jnp.tanh(h),
    "tanh mixed with its input": lambda h, b: (b + 1) * jnp.tanh(h) - b * h,
    "tanh off its input": lambda h, b: h - jnp.tanh(h),
    "squared tanh": lambda h, b: 1 - jnp.tanh(h) ** 2,
    "gelu times its input": lambda h, b: h * nn.gelu(h),
    "soft threshold": lambda h, b: jnp.sign(h) * nn.relu(jnp.abs(h) - 0.1),
    "hat": lambda h, b: nn.relu(1 - jnp.abs(h)),
    "relu by an array of zeros": lambda h, b: jnp.maximum(h, np.zeros((1, UNITS), np.float32)),
    "leaky relu by an array": lambda h, b: jnp.where(h > 0, h, np.full((1, UNITS), 0.1, "f4") * h),
    "hard tanh by hand": lambda h, b: nn.relu(h + 1) - nn.relu(h - 1) - 1,
    "gelu beside its input": lambda h, b: h + nn.gelu(h),
    "what is negative": lambda h, b: jnp.minimum(h, 0),
    "what a relu leaves": lambda h, b: h - nn.relu(h),
    "relu less itself": lambda h, b: 1 - nn.relu(h),
    "negative elu": lambda h, b: -nn.elu(-h),
    "prelu of both halves": lambda h, b: nn.relu(h) + 0.2 * jnp.minimum(h, 0),
    "root of a relu": lambda h, b: jnp.sqrt(nn.relu(h) + 1e-5),
    "logarithm of a relu": lambda h, b: jnp.log(nn.relu(h) + 1e-3),
    "exponential of a relu": lambda h, b: jnp.exp(nn.relu(h)),
    "powers of a relu, as GeM takes them": lambda h, b: jnp.maximum(nn.relu(h), 1e-6) ** 3,
    "a power of a relu by a parameter": lambda h, b: jnp.maximum(nn.relu(h), 1e-6) ** (b + 3),
    "softcap of a relu": lambda h, b: 10 * jnp.tanh(nn.relu(h) / 10),
    "gelu of a clip": lambda h, b: nn.gelu(jnp.clip(h, -10, 10)),
    "leaky relu of a clip": lambda h, b: nn.leaky_relu(jnp.clip(h, -10, 10)),
    "elu of a logarithm": lambda h, b: nn.elu(jnp.sign(h) * jnp.log1p(jnp.abs(h))),
    "hard swish of a clip": lambda h, b: nn.hard_swish(jnp.clip(h, -10, 10)),
    "silu after a number after a clip": lambda h, b: nn.silu(jnp.clip(h, -10, 10) - 1),
    "root of a bounded relu": lambda h, b: jnp.sqrt(nn.relu6(h) + 1e-3),
    "root of a relu of the other sign": lambda h, b: jnp.sqrt(nn.relu(-h) + 1e-3),
    "clip of an elu": lambda h, b: jnp.clip(nn.elu(h), -10, 10),
    "clip of a relu after a number": lambda h, b: jnp.clip(nn.relu(h + 1), -10, 10),
    "relu6 after a number": lambda h, b: nn.relu6(h + 1),
    "soft sign after a number": lambda h, b: nn.soft_sign(h + 1),
    "soft sign of the other sign": lambda h, b: nn.soft_sign(-h),
    "leaky relu as a minimum": lambda h, b: jnp.minimum(h, 0.1 * h),
}


def unit(r):
    return r / (1 + square_sum(r))


def square_sum(r):
    return jnp.square(r).sum(-1, keepdims=True)


def less_its_square(r, factor=1):
    return 2 * r - square_sum(factor * r)


NOT_ACTIVATIONS = {
    "clip": lambda h, z: jnp.clip(h, -30, 20),
    "wide clip": lambda h, z: jnp.clip(h, -185, 5),
    "lower bound": lambda h, z: jnp.maximum(h, -5),
    "upper bound": lambda h, z: jnp.minimum(h, 5),
    "softcap of the other sign": lambda h, z: -30 * jnp.tanh(h / 30),
    "hard gate after a number": lambda h, z: z * jnp.clip((h + 1) + 3, 0, 6) / 6,
    "clip in an exponential": lambda h, z: jnp.exp(jnp.clip(h, -20, 2)),
    "lower bound of a logarithm": lambda h, z: jnp.log(jnp.maximum(h, 1e-8)),
    "root of what is not negative": lambda h, z: jax.lax.rsqrt(nn.relu(h) + 1e-3),
    "decay": lambda h, z: z * jnp.exp(-nn.relu(h)),
    "decay of what is negative": lambda h, z: z * jnp.exp(jnp.minimum(h, 0)),
    "log sigmoid by hand": lambda h, z: jnp.minimum(h, 0) - jnp.log1p(jnp.exp(-jnp.abs(h))),
    "log sigmoid": lambda h, z: jax.nn.log_sigmoid(h),
    "an upper bound": lambda h, z: jnp.minimum(h, -0.1),
    "softplus": lambda h, z: nn.softplus(h),
    "softplus by hand": lambda h, z: nn.relu(h) + jnp.log1p(jnp.exp(-jnp.abs(h))),
    "choice by a relu": lambda h, z: jnp.where(nn.relu(h) > 0, z, 0),
    "hard gate of relus": lambda h, z: z * (nn.relu(h) - nn.relu(h - 1)),
    "a line": lambda h, z: (h - 0.5) / 0.5,
    "absolute value": lambda h, z: jnp.abs(h - 0.1),
    "a bound": lambda h, z: jnp.maximum(h, 0.1),
    "softmax": lambda h, z: nn.softmax(h),
    "softcap": lambda h, z: 30 * jnp.tanh(h / 30),
    "maxout": lambda h, z: jnp.maximum(h, z),
    "a choice by another": lambda h, z: jnp.where(z > 0, h, 0),
    "logarithm of both signs": lambda h, z: jnp.sign(h) * jnp.log1p(jnp.abs(h)),
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


SAME = {
    "relu": [
        lambda h: -jnp.minimum(-h, 0),
        lambda h: 0 - jnp.minimum(-1.0 * h, 0),
        lambda h: -jnp.where(h > 0, -h, 0),
        lambda h: -0.5 * jnp.minimum(-2 * h, 0),
    ],
    "leaky_relu": [lambda h: -jnp.minimum(-h, -0.01 * h)],
    "gelu": [lambda h: nn.gelu(jnp.clip(h, -100, 100))],
}


@pytest.mark.parametrize("name", SAME)
def test_patterns_are_those_of_the_function(name):
    x, labels = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32), np.arange(8) % 3

    def patterns(function):
        net = Net(lambda h, b: function(h), False)
        variables = net.init(jax.random.key(0), x)
        parts = score_model(net, variables, x, labels, "lswag").parts["lswag"]
        return float(parts["psi"][0])

    want = patterns(getattr(nn, name))
    assert want > 4
    assert [patterns(function) for function in SAME[name]] == [want] * len(SAME[name])


@pytest.mark.parametrize("name", NOT_ACTIVATIONS)
def test_what_is_none(name):
    assert units(NOT_ACTIVATIONS[name], other=True) == 0
