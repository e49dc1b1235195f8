"""Stretches that repeat run as a loop: the same numbers, and only where they are the same."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture import adapters, tape
from lswag_jax.capture.record import Program

SAMPLES, WIDTH = 3, 4


def normalise(x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def block(params, x, kept=jnp.tanh, scale=1.0):
    """As many equations as a block of a network has."""
    h = normalise(x) * scale
    h = jax.nn.gelu(h @ params["a"]["kernel"] + params["a"]["bias"])
    h = kept(h @ params["b"]["kernel"])
    h = normalise(jnp.where(h > 0, h, 0.1 * h))
    return x + normalise(h) * params["scale"][None]


def weights(blocks, rng):
    def one():
        return {
            "a": {"kernel": rng.normal(size=(WIDTH, 6)), "bias": rng.normal(size=(1, 6))},
            "b": {"kernel": rng.normal(size=(6, WIDTH))},
            "scale": rng.random(WIDTH) + 0.5,
        }

    params = {f"blocks_{i:02}": one() for i in range(blocks)}
    params["head"] = {"kernel": rng.normal(size=(WIDTH, 5))}
    return jax.tree.map(jnp.asarray, {"params": params})


@jax.custom_jvp
def straight(x):
    return jnp.tanh(x)


@jax.custom_jvp
def through(x):
    return jnp.tanh(x)


straight.defjvp(lambda x, t: (straight(*x), t[0]))
through.defjvp(lambda x, t: (through(*x), 2 * t[0]))


def plain(params, x):
    for i in range(4):
        x = block(params[f"blocks_{i:02}"], x)
    return x @ params["head"]["kernel"]


def two_back(params, x):
    """Each block reads the one before the last too."""
    before = x
    for i in range(5):
        before, x = x, block(params[f"blocks_{i:02}"], x) + 0.5 * before
    return x @ params["head"]["kernel"]


def gathered(params, x):
    """The end reads every block."""
    found = []
    for i in range(4):
        x = block(params[f"blocks_{i:02}"], x)
        found.append(x)
    return sum(found) @ params["head"]["kernel"]


def different(params, x):
    """Each block has a number of its own, so that nothing repeats."""
    for i in range(4):
        x = block(params[f"blocks_{i:02}"], x, scale=1.0 + i)
    return x @ params["head"]["kernel"]


def gradients(params, x):
    """Blocks that compute the same and have other gradients."""
    for i in range(4):
        x = block(params[f"blocks_{i:02}"], x, kept=straight if i < 2 else through)
    return x @ params["head"]["kernel"]


def pairs(params, x):
    """Two kinds of blocks in turn."""
    for i in range(6):
        kept = jnp.tanh if i % 2 else jnp.sin
        x = block(params[f"blocks_{i:02}"], x, kept=kept)
    return x @ params["head"]["kernel"]


def scanned(params, x):
    stack = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[params[f"blocks_{i:02}"] for i in range(4)]
    )
    x, _ = jax.lax.scan(lambda x, own: (block(own, x), None), x, stack)
    return x @ params["head"]["kernel"]


TURNS = {
    plain: [4], two_back: [5], gathered: [4], different: [], gradients: [2, 2], pairs: [3],
    scanned: [4],
}  # fmt: skip


same = functools.partial(
    jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
)


def record(function, variables, images, unrolled, first_layer=0):
    """Everything on the tape, of a bare function."""

    def apply(variables, images, hook):
        return function(variables["params"], images)

    network = tape.Network(apply, variables)
    with pytest.MonkeyPatch.context() as patch:
        if unrolled:
            patch.setattr("lswag_jax.capture.loops.find", lambda *_: [])
        recorded = tape.record(network, images, jnp.arange(SAMPLES) % 5, first_layer=first_layer)
    return recorded.logits, recorded.losses, recorded.layers, recorded.activations


@pytest.mark.parametrize("function", TURNS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("first_layer", [0, 5])
def test_same_as_unrolled(x64, rng, function, first_layer):
    variables = weights(6, rng)
    images = jnp.asarray(rng.normal(size=(SAMPLES, WIDTH)))
    run = jax.jit(functools.partial(record, function), static_argnums=(2, 3))
    looped = run(variables, images, False, first_layer)
    unrolled = run(variables, images, True, first_layer)
    assert jax.tree.structure(looped) == jax.tree.structure(unrolled)
    same(looped, unrolled)


@pytest.mark.parametrize(("function", "turns"), TURNS.items(), ids=[f.__name__ for f in TURNS])
def test_what_repeats(rng, function, turns):
    def apply(variables, images, hook):
        return function(variables["params"], images)

    images = jnp.ones((SAMPLES, WIDTH), jnp.float32)
    variables = jax.tree.map(lambda x: x.astype(jnp.float32), weights(6, rng))
    program = Program.trace(tape.Network(apply, variables), images)
    assert [loop.turns for loop in program.loops] == turns


@jax.custom_jvp
def without_rule(x):
    return jnp.tanh(x)


@without_rule.defjvp
def _refuse(primals, tangents):
    raise NotImplementedError("forward only")


def test_a_rule_that_cannot_be_traced(rng):
    """A pass forward needs no gradient; blocks with such a function are not taken for alike."""

    def blocks(params, x):
        for i in range(4):
            x = block(params[f"blocks_{i:02}"], x, kept=without_rule)
        return x @ params["head"]["kernel"]

    def apply(variables, images, hook):
        return blocks(variables["params"], images)

    variables = jax.tree.map(lambda x: x.astype(jnp.float32), weights(6, rng))
    images = jnp.ones((SAMPLES, WIDTH), jnp.float32)
    network = tape.Network(apply, variables)
    assert Program.trace(network, images).loops == ()
    np.testing.assert_allclose(
        tape.record(network, images).logits, blocks(variables["params"], images), rtol=1e-5
    )


@pytest.mark.parametrize("unrolled", [False, True])
def test_no_gradient_passes_through_what_is_recorded(rng, unrolled):
    """In a loop or not: a score that is differentiated is refused its gradient in the same way."""
    variables = jax.tree.map(lambda x: x.astype(jnp.float32), weights(6, rng))
    images = jnp.ones((SAMPLES, WIDTH), jnp.float32)

    def total(params):
        _, _, layers, activations = record(plain, {"params": params}, images, unrolled)
        recorded = [*(layer.calls[0].inputs for layer in layers), *(a.post for a in activations)]
        return sum(x.sum() for x in recorded)

    gradients = jax.grad(total)(variables["params"])
    assert all((g == 0).all() for g in jax.tree.leaves(gradients))


class Cell(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.BatchNorm(use_running_average=False)(nn.Conv(4, (3, 3))(nn.relu(x)))
        y = nn.BatchNorm(use_running_average=False)(nn.Conv(4, (1, 1))(nn.relu(y)))
        return x + y


class Cells(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = Cell()(x)
        return nn.Dense(3)(x.mean((1, 2)))


@pytest.mark.parametrize("mode", ["frozen", "eval", "through"])
def test_norms_of_cells(x64, rng, mode):
    """Normalisations are turns too; their gradients are those of the unrolled network."""
    images = jnp.asarray(rng.normal(size=(SAMPLES, 4, 4, 4)))
    variables = Cells().init(jax.random.key(0), images)
    network = adapters.linen_network(Cells(), variables, batch_norm=mode)
    assert [loop.turns for loop in Program.trace(network, images).loops] == [3]

    def norms(unrolled):
        with pytest.MonkeyPatch.context() as patch:
            if unrolled:
                patch.setattr("lswag_jax.capture.loops.find", lambda *_: [])
            recorded = tape.record(network, images, jnp.arange(SAMPLES))
        return [
            layer.gradient(tuple(layer.params), [(c.inputs, c.cotangent) for c in layer.calls])
            for layer in (*recorded.layers, *recorded.norms)
        ]

    looped, unrolled = (
        jax.jit(norms, static_argnums=0)(False),
        jax.jit(norms, static_argnums=0)(True),
    )
    same(looped, unrolled)
