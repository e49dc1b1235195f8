"""Ways to write a weight's use: each sample's gradient of what is stored, and all of it seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture import tape
from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.record import Program
from tests.helpers.uses import PIXELS, ROWS, TOKENS, B, network, parameters, relu

LABELS = np.arange(B) % 3
STACKED = [f"ss[{i}][{j}]" for i in range(2) for j in range(3)]
NHWC = ("NHWC", "HWIO", "NHWC")


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


@jax.custom_vjp
def cut_in_heads(x):
    """A call with a gradient of its own, which gives an array of another rank."""
    return x.reshape(len(x), 2, 4)


cut_in_heads.defvjp(lambda x: (cut_in_heads(x), None), lambda _, bar: (bar.reshape(len(bar), 8),))


def heads_by_a_call(p, x):
    return relu(cut_in_heads(x @ p["a"]) * 2).reshape(len(x), 8) @ p["h"]


def learned_queries(p, x):
    """Queries of a cross attention, with a residual and among the keys too."""
    x = x @ p["q"].T @ p["q"]
    keys = jnp.concatenate([jnp.broadcast_to(p["q"][None], (len(x), 5, 4)), x], axis=1)
    h = p["q"][None] + jax.nn.softmax(jnp.einsum("nd,bmd->bnm", p["q"], keys)) @ keys
    return relu(h).mean(1) @ p["q"].T @ jnp.ones((5, 3)) + h.sum(1)[:, :3]


def norm_behind_its_product(p, x):
    """A mean taken away, and a scale given, after the product instead of before it."""
    h = x @ p["a"] - x.mean(1, keepdims=True) * p["a"].sum(0, keepdims=True)
    return relu(h / jnp.linalg.norm(p["a"], axis=0, keepdims=True)) @ p["h"]


def prototypes(p, x):
    """-|x - c|^2, and a mean of theirs that is stored with them."""
    h = relu(x @ p["a"] - (p["mean"] @ p["h"].T)[None])
    return 2 * h @ p["h"] - (p["h"] ** 2).sum(0, keepdims=True) - (h**2).sum(1, keepdims=True)


def diagonal_too(p, x):
    x = relu(x @ p["a"])
    x = relu(x @ p["s"][0] - x * jnp.diag(p["s"][0])[None] + x @ p["s"].mean(0))
    return x @ p["h"]


def scans_of_scans(p, x):
    """A stack of stacks: a layer for each matrix."""

    def turn(x, matrix):
        return jnp.tanh(x @ matrix), None

    x, _ = jax.lax.scan(lambda x, m: jax.lax.scan(turn, x, m), relu(x @ p["a"]), p["ss"])
    return x @ p["h"]


def experts_in_a_scan(p, x):
    def turn(x, matrices):
        return x + relu(jax.vmap(lambda m: x @ m)(matrices)).mean(0), None

    return jax.lax.scan(turn, relu(x @ p["a"]), p["ss"])[0] @ p["h"]


def columns_taken(p, x):
    return relu(x @ jnp.take(p["a"], jnp.array([0, 2, 3, 5]), axis=1)) @ p["h"][:4]


def a_member_by_parameters(p, x):
    chosen = p["e"][jnp.argmax(p["a"][:4, 0])]
    return relu(relu(x @ p["a"]) @ chosen) @ p["h"]


def toeplitz(p, x):
    matrix = p["t"][np.abs(np.arange(6)[:, None] - np.arange(6)[None]), 0]
    return relu(x[:, :6] @ matrix) @ p["h"][:6]


def heads_outside_of_the_samples(p, x):
    b = len(x)
    heads = x[:, :16].reshape(b, 2, 8).swapaxes(0, 1).reshape(2 * b, 8)
    y = relu(jnp.einsum("gi,gio->go", heads, jnp.repeat(p["s"], b, 0))).reshape(2, b, 8)
    return y.sum(0) @ p["h"]


def a_base_and_its_deltas(p, x):
    return relu(jnp.einsum("bi,eio->beo", x[:, :8], p["base"][None] + p["s"])).mean(1) @ p["h"]


def adapters_of_a_base(p, x):
    own = p["base"][None] + jnp.einsum("eir,ero->eio", p["down"], p["up"])
    return relu(jnp.einsum("bi,eio->beo", x[:, :8], own)).mean(1) @ p["h"]


def a_column_added(p, x):
    return relu(x @ (p["a"] + p["column"])) @ p["h"]


def of_rank_one(p, x):
    return relu(x @ (p["column"] @ p["row"])) @ p["h"]


def changed_by_rank_one(p, x):
    return relu(x @ (p["a"] + p["column"] @ p["row"])) @ p["h"]


def an_outer_product(p, x):
    return relu(x @ (p["column"] * p["row"])) @ p["h"]


def rows_taken(p, x):
    keep = np.array([0, 3, 4, 20])
    return relu(x[:, keep] @ p["a"][keep]) @ p["h"]


def registers(p, x):
    """Queries among the tokens, behind a token of ones for all samples."""
    x = x @ p["q"].T @ p["q"]
    ones, latents = jnp.ones((len(x), 1, 4)), jnp.broadcast_to(p["q"][None], (len(x), 5, 4))
    keys = jnp.concatenate([ones * jnp.sin(1.0), x, latents], axis=1)
    keys = jnp.concatenate([jnp.broadcast_to(p["mean"].sum(), (len(x), 1, 4)), keys], axis=1)
    return relu(jnp.einsum("nd,bmd->bnm", p["q"], keys)).mean(1) @ jnp.ones((13, 3))


def chosen_by_samples(p, x):
    h = relu(x @ p["a"])
    return (jnp.where(h[:, :, None] > 0, p["h"], 0.0) * (h @ p["h"])[:, None]).mean(1)


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
    learned_queries: (TOKENS, ["q"]),
    norm_behind_its_product: (ROWS, ["a", "h"]),
    prototypes: (ROWS, ["a", "h"]),
    diagonal_too: (ROWS, ["a", "s", "h"]),
    scans_of_scans: (ROWS, ["a", *STACKED, "h"]),
    experts_in_a_scan: (ROWS, ["a", *STACKED, "h"]),
    heads_outside_of_the_samples: (ROWS, ["s", "h"]),
    columns_taken: (ROWS, ["a", "h"]),
    a_member_by_parameters: (ROWS, ["a", "e", "h"]),
    toeplitz: (ROWS, ["t", "h"]),
    a_base_and_its_deltas: (ROWS, ["base", "s", "h"]),
    adapters_of_a_base: (ROWS, ["base", "down", "up", "h"]),
    a_column_added: (ROWS, ["a", "column", "h"]),
    of_rank_one: (ROWS, ["column", "row", "h"]),
    changed_by_rank_one: (ROWS, ["a", "column", "row", "h"]),
    an_outer_product: (ROWS, ["column", "row", "h"]),
    rows_taken: (ROWS, ["a", "h"]),
    registers: (TOKENS, ["q"]),
    chosen_by_samples: (ROWS, ["a", "h"]),
}


@pytest.mark.parametrize("num", [B, 1])
@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_gradients_of_what_is_stored(x64, function, num):
    x, names = KINDS[function]
    x, labels = x[:num], LABELS[:num]
    params = parameters({name.partition("[")[0] for name in names} | {"mean"})

    @jax.jit
    def both(params):
        def loss(params, x, y):
            return tape.cross_entropy(function(params, x[None]), y[None])[0]

        expected = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, labels)
        found = {}
        for layer in tape.record(network(function, params), x, labels).layers:
            pairs = [(call.inputs[:, None], call.cotangent[:, None]) for call in layer.calls]
            one = jax.vmap(lambda pairs, layer=layer: layer.gradient(("kernel",), pairs))
            name, *index = layer.name.replace("]", "").split("[")
            full = expected[name][(slice(None), *map(int, index))]
            found[layer.name] = one(pairs)["kernel"], full
        return found

    found = both(params)
    assert sorted(found) == sorted(names)
    for name, (ours, expected) in found.items():
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9, err_msg=name)
    coverage = Coverage.of(Program.trace(network(function, params), jnp.asarray(x)), "frozen")
    assert coverage.share == 1, coverage.missed
    assert not coverage.mixed
    assert not coverage.partly
