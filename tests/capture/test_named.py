"""What the coverage says of stored arrays: missed ones by name and why, and what is no weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.record import Program
from tests.helpers.uses import ROWS, TOKENS, network, parameters, relu


def explained(function, names, x=ROWS):
    program = Program.trace(network(function, parameters(names)), jnp.asarray(x, jnp.float32))
    return program, Coverage.of(program, "frozen")


def bias_of_a_swapped_product(p, x):
    return p["h"].T @ relu(p["a"].T @ x.T + p["bias"][:, None])


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


@pytest.mark.parametrize("scale", ["none", "one", "each"])
def test_weights_stored_as_integers_are_named_and_their_scale_is_not(scale):
    params = parameters(("a", "h"))
    params |= {"q": jnp.ones((8, 8), jnp.int8), "mask": jnp.ones((8, 3), jnp.int32)}
    params |= {"one": jnp.ones(()), "each": jnp.ones((1, 8))}

    def quantised(p, x):
        q = p["q"].astype(x.dtype) * (p[scale] if scale != "none" else 1)
        return relu(relu(x @ p["a"]) @ q) @ (p["h"] * p["mask"])

    coverage = Coverage.of(
        Program.trace(network(quantised, params), jnp.asarray(ROWS, jnp.float32)), "frozen"
    )
    assert coverage.missed == {"q": "which is stored as integers"}
    assert coverage.share == pytest.approx((24 * 8 + 24) / (24 * 8 + 24 + 64))


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


def by_column(table, ids):
    return table[:, ids]


def by_take(table, ids):
    return jnp.take(table, ids, axis=1)


def under_vmap(table, ids):
    def one(i):
        return jax.lax.dynamic_index_in_dim(table, i, 1, False)

    return jnp.moveaxis(jax.vmap(jax.vmap(one))(ids), -1, 0)


@pytest.mark.parametrize("look_up", [by_column, by_take, under_vmap])
@pytest.mark.parametrize("name", ["base", "row"])
def test_columns_that_the_images_look_up_are_of_a_table(look_up, name):
    """As rows are, also of width one: in a product they were weights that are missed."""

    def pooled(p, x):
        looked_up = look_up(p[name], jnp.abs(x * 4).astype(int) % 8)
        return relu(jnp.einsum("bn,dbn->bd", x, looked_up)) @ p["h"][: len(p[name])]

    _, coverage = explained(pooled, (name, "h"))
    assert coverage.tables == (name,)
    assert coverage.share == 1


def test_single_numbers_that_the_images_look_up_are_of_a_table():
    def pooled(p, x):
        ids = jnp.abs(x * 9).astype(int) % 24
        return relu(jnp.einsum("bn,bnd->bd", x, p["column"][ids])) @ p["h"][:1]

    assert explained(pooled, ("column", "h"))[1].tables == ("column",)


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
