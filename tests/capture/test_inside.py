"""Activations inside of loops and calls with a gradient of their own; weights made by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture import models, tape
from lswag_jax.capture.program import hidden
from lswag_jax.capture.record import Program

B, D = 6, 4
LABELS = np.arange(B) % 3
X = np.random.default_rng(0).normal(size=(B, 3, D))
SHAPES = {"w": (D, D), "v": (D, D), "o": (D, 3), "u": (D,)}
relu, gelu = jax.nn.relu, jax.nn.gelu


@jax.custom_vjp
def biased_gelu(x, b):
    return gelu(x + b[None])


# Twice the true gradient, to tell the two apart.
biased_gelu.defvjp(
    lambda x, b: (biased_gelu(x, b), (x, b)),
    lambda kept, bar: tuple(2 * g for g in jax.vjp(lambda x, b: gelu(x + b[None]), *kept)[1](bar)),
)


@jax.custom_jvp
def swiglu(a, b):
    return jax.nn.silu(a) * b


swiglu.defjvp(lambda x, t: (swiglu(*x), 3 * t[0] * x[1] + t[1]))


@jax.custom_jvp
def star_relu(x):
    return 0.8 * relu(x) ** 2 - 0.4


star_relu.defjvp(lambda x, t: (star_relu(*x), t[0] * relu(x[0])))


def steps(p, x, length=3):
    """A recurrent layer of one number a unit."""

    def step(h, z):
        h = relu(z + p["u"][None] * h)
        return h, h

    rows = jnp.tile(jnp.swapaxes(x @ p["w"], 0, 1), (length // 3, 1, 1))
    return jax.lax.scan(step, jnp.zeros(rows.shape[1:]), rows)[1]


def recurrent(p, x):
    found = steps(p, x)
    return found[-1], found


def mapped(p, x):
    h = jax.lax.map(jnp.tanh, x @ p["w"])
    return h.mean(1), h


def of_samples(p, x):
    """A loop in a loop over samples."""
    h = jax.lax.map(lambda row: steps(p, row[None])[:, 0], x)
    return h[:, -1], h


def fused(p, x):
    h = biased_gelu(x[:, 0] @ p["w"], p["u"])
    return h, h


def gated(p, x):
    a, b = x[:, 0] @ p["w"], x[:, 1] @ p["w"]
    return swiglu(a, b), jax.nn.silu(a)


def starred(p, x):
    h = x[:, 0] @ p["w"]
    return star_relu(h), relu(h) ** 2


@pytest.mark.parametrize("function", [recurrent, mapped, of_samples, fused, gated, starred])
def test_activations_inside(x64, function):
    """All of their values, and the gradients of the functions as they are."""
    rng = np.random.default_rng(1)
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in SHAPES.items()}

    def apply(p, x):
        return jnp.sin(function(p, x)[0] @ p["v"]) @ p["o"]

    def loss(p, x, y):
        return tape.cross_entropy(apply(p, x[None]), y[None])[0]

    network = models.Function(apply)({"params": params}, "frozen")
    recorded = tape.record(network, X, LABELS)
    posts = np.concatenate([np.ravel(a.post) for a in recorded.activations])
    np.testing.assert_allclose(np.sort(posts), np.sort(function(params, X)[1], None), atol=1e-12)
    expected = jax.vmap(jax.grad(loss), (None, 0, 0))(params, X, LABELS)
    for layer in recorded.layers:
        pairs = [(call.inputs[:, None], call.cotangent[:, None]) for call in layer.calls]
        found = jax.vmap(lambda pairs, layer=layer: layer.gradient(("kernel",), pairs))(pairs)
        np.testing.assert_allclose(found["kernel"], expected[layer.name], atol=1e-9)


def while_loop(p, x):
    return jax.lax.while_loop(lambda h: h.sum() > 9, lambda h: relu(h) - 1, x[:, 0] @ p["w"])


def branch(p, x):
    h = x[:, 0] @ p["w"]
    return jax.lax.cond(h.sum() > 0, lambda h: p["u"][None] * relu(h), jnp.sin, h)


HIDDEN = {
    "short": (lambda p, x: steps(p, x)[-1], []),
    "long": (lambda p, x: steps(p, x, 129)[-1], ["scan"]),
    "while": (while_loop, ["while"]),
    "branch": (branch, ["cond"]),
    "none": (lambda p, x: jax.lax.cumlogsumexp(x[:, 0] @ p["w"], axis=1), []),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_stays_hidden(name):
    function, kinds = HIDDEN[name]
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    network = models.Function(lambda p, x: function(p, x) @ p["o"])({"params": params}, "frozen")
    program = Program.trace(network, jnp.asarray(X, "float32"))
    assert hidden(program.flat) == [f"a '{kind}' at the model" for kind in kinds]


def power_iteration(w):
    """The norm of a matrix, by a loop that ends by itself."""
    start = jnp.ones(D), jnp.zeros(D)
    return jax.lax.while_loop(
        lambda pair: jnp.abs(pair[0] - pair[1]).max() > 1e-6,
        lambda pair: ((w.T @ (w @ pair[0])) / jnp.linalg.norm(w.T @ (w @ pair[0])), pair[0]),
        start,
    )[0]


MADE = {
    "exponential": lambda w: jax.scipy.linalg.expm(w - w.T),
    "spectral norm": lambda w: w / jnp.linalg.norm(w @ jax.lax.stop_gradient(power_iteration(w))),
}


@pytest.mark.parametrize("name", MADE)
def test_weights_made_by_loops(x64, name):
    """Loops and branches on parameters alone are a part of the weight."""
    rng = np.random.default_rng(1)
    params = {k: jnp.asarray(rng.normal(size=SHAPES[k])) for k in ("w", "o")}

    def apply(p, x):
        return relu(x[:, 0] @ MADE[name](p["w"])) @ p["o"]

    def loss(p, x, y):
        return tape.cross_entropy(apply(p, x[None]), y[None])[0]

    layers = tape.record(models.Function(apply)({"params": params}, "frozen"), X, LABELS).layers
    expected = jax.vmap(jax.grad(loss), (None, 0, 0))(params, X, LABELS)
    assert [layer.name for layer in layers] == ["w", "o"]
    (call,) = layers[0].calls
    found = jax.vmap(lambda *pair: layers[0].gradient(("kernel",), [pair]))(
        call.inputs[:, None], call.cotangent[:, None]
    )
    np.testing.assert_allclose(found["kernel"], expected["w"], atol=1e-9)
