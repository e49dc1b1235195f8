"""Activations behind and before other functions: each is found, whatever stands beside it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import explain_model

UNITS = 5
BEFORE = {
    "nothing": lambda h, p: h,
    "a clip": lambda h, p: jnp.clip(h, -6, 6),
    "a bound": lambda h, p: jnp.minimum(h, 7.0),
    "a factor": lambda h, p: 2 * h,
    "a number": lambda h, p: h + 1,
    "a sign": lambda h, p: -h,
    "scale and bias": lambda h, p: h * p["scale"] + p["bias"],
    "a softcap": lambda h, p: 20 * jnp.tanh(h / 20),
    "symlog": lambda h, p: jnp.sign(h) * jnp.log1p(jnp.abs(h)),
    "a norm": lambda h, p: h * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-5) * p["scale"],
    "another type": lambda h, p: h.astype(jnp.bfloat16),
}
ACTIVATIONS = {
    **{name: getattr(nn, name) for name in ("relu", "leaky_relu", "gelu", "silu", "elu", "selu")},
    **{name: getattr(nn, name) for name in ("celu", "relu6", "hard_swish", "soft_sign", "tanh")},
    "exact gelu": lambda h: nn.gelu(h, approximate=False),
    "quick gelu": lambda h: h * nn.sigmoid(1.702 * h),
    "mish": jax.nn.mish,
    "squared relu": lambda h: jnp.square(nn.relu(h)),
    "relu by a choice": lambda h: jnp.where(h > 0, h, 0),
    "relu by a distance": lambda h: 0.5 * (h + jnp.abs(h)),
}
AFTER = {
    "a factor": lambda h, g: 2 * h,
    "a sign": lambda h, g: -h,
    "a number": lambda h, g: h + 1,
    "a gate": lambda h, g: h * nn.sigmoid(g),
    "a product": lambda h, g: h * g,
    "a sum": lambda h, g: h + g,
    "a norm": lambda h, g: h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6),
    "unit length": lambda h, g: h / (1e-6 + jnp.sqrt((h**2).sum(-1, keepdims=True))),
    "a choice": lambda h, g: jnp.where(g > 0, h, 0),
    "a clip": lambda h, g: jnp.clip(h, -10, 10),
    "a root": lambda h, g: jnp.sqrt(jnp.abs(h) + 1e-3),
    "rounding": lambda h, g: h + jax.lax.stop_gradient(jnp.round(h) - h),
    "a maximum": lambda h, g: jnp.maximum(h, g),
}


def units(before, activation, after) -> tuple[int, ...]:
    """Units of the activations that are found, of which the last is a ReLU of two."""
    rng = np.random.default_rng(0)
    shapes = {"first": (6, UNITS), "gate": (6, UNITS), "second": (UNITS, 2), "head": (2, 3)}
    params = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}
    params |= {"scale": jnp.ones((1, UNITS)), "bias": jnp.ones((1, UNITS))}

    def model(params, x):
        h = after(activation(before(x @ params["first"], params)), x @ params["gate"])
        return nn.relu(h.astype(x.dtype) @ params["second"]) @ params["head"]

    x = jnp.asarray(rng.normal(size=(8, 6)), jnp.float32)
    return explain_model(model, params, x).activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_stands_before_and_after_does_not_matter(name):
    activation = ACTIVATIONS[name]
    lost = [
        (before, "nothing")
        for before, function in BEFORE.items()
        if units(function, activation, lambda h, g: h) != (UNITS, 2)
    ]
    lost += [
        ("nothing", after)
        for after, function in AFTER.items()
        if units(BEFORE["nothing"], activation, function) != (UNITS, 2)
    ]
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_pair(name):
    lost = [
        (before, after)
        for before, first in BEFORE.items()
        for after, last in AFTER.items()
        if units(first, ACTIVATIONS[name], last) != (UNITS, 2)
    ]
    assert lost == []
