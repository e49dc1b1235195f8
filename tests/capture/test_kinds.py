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
STACKED = [f"ss[{i}][{j}]" for i in range(2) for j in range(3)]
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


@pytest.mark.parametrize("gain", ["bias", "row"])
def test_a_gain_is_no_layer_however_many_axes_it_has(gain):
    def weight_norm(p, x):
        scale = p[gain].reshape(1, 8) if gain == "bias" else p[gain]
        return relu(x @ (scale * p["a"] / jnp.linalg.norm(p["a"], axis=0)[None])) @ p["h"]

    program, coverage = explained(weight_norm, ("a", "h", gain))
    assert list(program.layers) == ["a", "h"]
    assert not coverage.tables
    assert coverage.share == 1


def test_a_scale_of_numbers_that_are_no_parameters_is_named():
    def quantised(p, x):
        return relu(x @ (np.sign(ROWS.T[:, :1] + np.zeros((1, 8), "f4")) * p["row"])) @ p["h"]

    missed = explained(quantised, ("row", "h"))[1].missed
    assert missed == {"row": "which is stored as a vector"}


def test_tokens_that_weigh_themselves_have_places_and_no_weights():
    """Attention pooling: what is added to the tokens is on both sides of the product."""

    def pooled(p, x):
        tokens = relu(x @ p["q"].T @ p["q"]) + p["places"][None]
        weights = jax.nn.softmax(tokens.sum(-1))
        return jnp.einsum("bn,bnd->bd", weights, tokens) @ p["q"].T @ jnp.ones((5, 3))

    coverage = explained(pooled, ("q", "places"), TOKENS)[1]
    assert coverage.tables == ("places",)
    assert not coverage.missed


def solved(p, x):
    return relu(x @ p["a"]) @ p["s"][0] @ jnp.linalg.solve(p["s"][0], jnp.ones((8, 3)))


def chosen(p, x):
    h = relu(x @ p["a"])
    return jnp.where(h[:, :3] > 1, h @ p["h"], p["h"][:1])


def in_a_loop(p, x):
    h = jax.lax.fori_loop(0, 3, lambda i, h: h * p["s"][0].sum(0)[None], relu(x @ p["a"]))
    return h @ p["s"][0] @ p["h"]


def solved_for_samples(p, x):
    h = relu(x @ p["a"]) @ p["s"][0]
    return jnp.linalg.solve(p["s"][0], h.T).T @ p["h"]


@pytest.mark.parametrize(
    ("function", "name"),
    [(solved, None), (chosen, "h"), (in_a_loop, "s"), (solved_for_samples, "s")],
)
def test_a_way_that_is_not_followed_is_named(function, name):
    """By a warning, since the gradient lacks it; arithmetic of weights alone is followed."""
    _, coverage = explained(function, ("a", "s", "h"))
    assert list(coverage.partly) == ([] if name is None else [name])
    told = [text for text in coverage.warnings() if "leaves that out" in text]
    assert [text.split()[0] for text in told] == list(coverage.partly)


def routed(p, x):
    def one(t):
        return jax.lax.cond(t.sum() > 0, lambda t: t @ p["a"], lambda t: -(t @ p["a"]), t)

    return relu(jax.vmap(one)(x)) @ p["h"]


def with_a_base(p, x):
    made = jnp.einsum("bi,jk->bjk", x, jnp.ones((24, 8)))
    return relu(jnp.einsum("bi,bio->bo", x, p["a"][None] + made)) @ p["h"]


def experts_summed(p, x):
    index = jnp.argsort(x[:, :2], axis=1)
    return relu(jnp.einsum("bi,bio->bo", x[:, :8], p["s"][index].sum(1))) @ p["h"]


def of_a_vector(p, x):
    return relu(x[:, :8] @ p["bias"][(np.arange(8)[:, None] + np.arange(8)[None]) % 8]) @ p["h"]


def of_two_vectors(p, x):
    return relu(x[:, :8] @ jnp.outer(p["bias"], jnp.sin(p["bias"]))) @ p["h"]


def a_sum(p, x):
    return relu((x[:, :8] @ p["bias"])[:, None] * p["h"].sum(1)[None]) @ p["h"]


@pytest.mark.parametrize(
    ("function", "name", "why"),
    [
        (of_two_vectors, "bias", "stored as a vector"),
        (a_sum, "bias", "stored as a vector"),
        (routed, "a", "another one for each sample"),
        (with_a_base, "a", "another one for each sample"),
        (experts_summed, "s", "another one for each sample"),
        (of_a_vector, "bias", "stored as a vector"),
    ],
)
def test_weights_that_are_chosen_or_put_together_are_named(function, name, why):
    """They were taken for tables, which are no weights, without a word."""
    _, coverage = explained(function, (name, "h"))
    assert why in coverage.missed[name]
    assert coverage.share < 1
    assert name not in coverage.tables


def scaled(p, x):
    return relu(x @ p["a"] * p["bias"][None]) @ p["h"]


def scaled_by_einsum(p, x):
    return relu(jnp.einsum("bo,o->bo", x @ p["a"], p["bias"])) @ p["h"]


def scaled_weight(p, x):
    return relu(x @ (p["a"] * p["bias"][None])) @ p["h"]


@pytest.mark.parametrize("function", [scaled, scaled_by_einsum, scaled_weight])
def test_a_scale_is_no_weight(function):
    """A vector that no product sums over, or that a matrix is multiplied by."""
    _, coverage = explained(function, ("a", "bias", "h"))
    assert coverage.share == 1
    assert not coverage.missed


@jax.custom_vjp
def straight(x, w):
    return x @ w


straight.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, 0 * kept[1]))


def test_a_gradient_rule_that_is_not_followed_is_told_of():
    """Around a product; a rule for the weight alone is followed, and needs no word."""

    @jax.custom_vjp
    def rounded(w):
        return jnp.round(w)

    rounded.defvjp(lambda w: (jnp.round(w), None), lambda _, g: (3 * g,))
    _, coverage = explained(lambda p, x: relu(straight(x, p["a"])) @ p["h"], ("a", "h"))
    assert coverage.own_rules == ("a",)
    assert "rule of its own" in coverage.warnings()[0]
    _, coverage = explained(lambda p, x: relu(x @ rounded(p["a"])) @ p["h"], ("a", "h"))
    assert coverage.own_rules == ()


def test_unused_members_of_a_stack_are_no_part_of_the_share():
    """Three of four matrices of 8 x 8 reach nothing."""
    used = lambda p, x: relu(x @ p["a"]) @ p["e"][2] @ p["h"]  # noqa: E731
    _, coverage = explained(used, ("a", "e", "h"))
    assert coverage.share == pytest.approx((24 * 8 + 64 + 24) / (24 * 8 + 4 * 64 + 24))
    assert list(coverage.missed) == ["e[0]", "e[1]", "e[3]"]
