"""Ways to write a weight's use: each sample's gradient of what is stored, and all of it seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture import models, tape
from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.record import Program

B = 6
LABELS = np.arange(B) % 3
ROWS = np.random.default_rng(0).normal(size=(B, 24))
TOKENS, PIXELS = ROWS.reshape(B, 6, 4), ROWS.reshape(B, 2, 4, 3)
NHWC = ("NHWC", "HWIO", "NHWC")
relu = jax.nn.relu


def conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def experts_looked_up(p, x):
    """One expert a sample, chosen by its values: top-1 routing."""
    x = relu(x @ p["a"])
    return relu(jnp.einsum("bi,bio->bo", x, p["e"][jnp.argmax(x[:, :4], 1)])) @ p["h"]


def permuted(p, x):
    return relu(x @ p["a"][:, jnp.array([3, 1, 0, 2, 7, 6, 5, 4])]) @ p["h"]


def sample_by_sample(p, x):
    return jax.lax.map(lambda row: relu(row @ p["a"]) @ p["h"], x)


def stack_by_index(p, x):
    """A loop that takes each turn's slice itself."""
    x = relu(x @ p["a"])
    x = jax.lax.fori_loop(0, 4, lambda i, x: x + jnp.tanh(x @ p["e"][i]), x)
    return x @ p["h"]


def scans_in_scans(p, x):
    """Two turns, in each of which one matrix is used twice."""

    def turn(x, matrix):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ matrix), None), x, None, length=2)

    x, _ = jax.lax.scan(turn, relu(x @ p["a"]), p["s"])
    return x @ p["h"]


def kernels_of_each_sample(p, x):
    """A convolution whose kernel is mixed of two, for each sample."""
    mixed = jnp.einsum("be,ehwio->bhwio", jax.nn.sigmoid(x.mean((1, 2)) @ p["r"]), p["k"])
    x = jax.vmap(lambda image, kernel: conv(image[None], kernel)[0])(x, mixed)
    return relu(x).mean((1, 2)) @ p["h"][:4]


def kernels_at_once(p, x):
    """Two convolutions by a vmap over their kernels: one layer."""
    x = jax.vmap(conv, (None, 0))(x, p["k"])
    return relu(x).sum(0).mean((1, 2)) @ p["h"][:4]


def both_signs(p, x):
    """The samples once more with the other sign, behind each other on their axis."""
    h = relu(jnp.concatenate([x, -x]) @ p["a"])
    return (h[: len(x)] + 2 * h[len(x) :]) @ p["h"]


def as_many_tokens_as_samples(p, x):
    """Products along an axis that is as long as that of the samples."""
    h = relu(jnp.einsum("bnd,nm->dbm", x, p["t"]))
    return h.mean(0) @ p["t"] @ jnp.ones((6, 3))


def as_many_stacked_as_samples(p, x):
    """Arrays of all samples, as many as there are samples, on a new first axis, and one of them."""
    x = jnp.stack([x @ p["a"] * (i + 1) for i in range(B)])
    return relu(x[2] + x.cumsum(0)[3]) @ p["h"]


def bias_of_a_swapped_product(p, x):
    return p["h"].T @ relu(p["a"].T @ x.T + p["bias"][:, None])


@jax.custom_vjp
def cut_in_heads(x):
    """A call with a gradient of its own, which gives an array of another rank."""
    return x.reshape(len(x), 2, 4)


cut_in_heads.defvjp(lambda x: (cut_in_heads(x), None), lambda _, bar: (bar.reshape(len(bar), 8),))


def heads_by_a_call(p, x):
    return relu(cut_in_heads(x @ p["a"]) * 2).reshape(len(x), 8) @ p["h"]


KINDS = {  # function, samples, names of its layers
    experts_looked_up: (ROWS, ["a", "e", "h"]),
    permuted: (ROWS, ["a", "h"]),
    sample_by_sample: (ROWS, ["a", "h"]),
    stack_by_index: (ROWS, ["a", "e[0]", "e[1]", "e[2]", "e[3]", "h"]),
    scans_in_scans: (ROWS, ["a", "s[0]", "s[1]", "h"]),
    kernels_of_each_sample: (PIXELS, ["r", "k", "h"]),
    kernels_at_once: (PIXELS, ["k", "h"]),
    both_signs: (ROWS, ["a", "h"]),
    as_many_tokens_as_samples: (TOKENS, ["t"]),
    as_many_stacked_as_samples: (ROWS, ["a", "h"]),
    heads_by_a_call: (ROWS, ["a", "h"]),
}
SHAPES = {
    "a": (24, 8), "h": (8, 3), "e": (4, 8, 8), "s": (2, 8, 8), "r": (3, 2), "k": (2, 3, 3, 3, 4),
    "t": (6, 6), "bias": (8,),
}  # fmt: skip


def parameters(names):
    rng = np.random.default_rng(1)
    return {k: jnp.asarray(rng.normal(size=SHAPES[k]) / 3) for k in names}


def network(function, params):
    return models.Function(function)({"params": params}, "frozen")


@pytest.mark.parametrize("num", [B, 1])
@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_gradients_of_what_is_stored(x64, function, num):
    x, names = KINDS[function]
    x, labels = x[:num], LABELS[:num]
    params = parameters({name.partition("[")[0] for name in names})

    @jax.jit
    def both(params):
        def loss(params, x, y):
            return tape.cross_entropy(function(params, x[None]), y[None])[0]

        expected = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, labels)
        found = {}
        for layer in tape.record(network(function, params), x, labels).layers:
            pairs = [(call.inputs[:, None], call.cotangent[:, None]) for call in layer.calls]
            one = jax.vmap(lambda pairs, layer=layer: layer.gradient(("kernel",), pairs))
            name, _, index = layer.name.partition("[")
            full = expected[name] if not index else expected[name][:, int(index[:-1])]
            found[layer.name] = one(pairs)["kernel"], full
        return found

    found = both(params)
    assert sorted(found) == sorted(names)
    for name, (ours, expected) in found.items():
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9, err_msg=name)
    coverage = Coverage.of(Program.trace(network(function, params), jnp.asarray(x)), "frozen")
    assert coverage.share == 1, coverage.missed
    assert not coverage.mixed


def explained(function, names, x=ROWS):
    program = Program.trace(network(function, parameters(names)), jnp.asarray(x, jnp.float32))
    return program, Coverage.of(program, "frozen")


def test_a_bias_behind_a_product_with_the_weight_first():
    program, _ = explained(lambda p, x: bias_of_a_swapped_product(p, x).T, ("a", "h", "bias"))
    assert [use.bias is not None for use in program.calls] == [True, False]


def test_weights_that_no_product_shows_are_named():
    def flat(p, x):
        return relu(x[:, :4] @ p["bias"].reshape(4, 2)) @ p["h"][:2]

    def by_hand(p, x):
        return relu((x[:, :, None] * p["a"][None]).sum(1)) @ p["h"]

    assert explained(flat, ("bias", "h"))[1].missed == {"bias": "which is stored as a vector"}
    assert explained(by_hand, ("a", "h"))[1].missed == {"a": "which meets the images in no product"}
