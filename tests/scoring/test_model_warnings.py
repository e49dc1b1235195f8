"""What a user is told of a model and a batch: each warning, and each refusal, in a sentence."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lswag_jax import explain_model, score, score_model, spaces
from lswag_jax.spaces import SimpleSpace

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.arange(6) % 3
A, OUT = (np.random.default_rng(1).normal(size=s).astype("float32") for s in ((4, 5), (5, 3)))


def apply(params, x):
    return jnp.maximum(x @ params["a"], 0) @ params["out"]


PARAMS = {"a": A, "out": OUT}


def told(*arguments, model=apply, params=PARAMS, x=X, y=Y, **options):
    """Warnings of scoring a model of two layers, without the one on few samples."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = score_model(model, params, x, y, *(arguments or (("params",),)), **options)
    own = [w for w in caught if w.category is UserWarning]
    assert all(w.filename == __file__ for w in own)  # the line that calls
    return [str(w.message) for w in own], table


def test_nothing_to_say():
    assert told()[0] == []


def test_weights_that_are_missed():
    def by_hand(params, x):
        h = (x[:, :, None] * params["a"][None]).sum(1)
        return jnp.maximum(h, 0) @ params["out"]

    (warning,), table = told(model=by_hand)
    assert warning == (
        "proxies see 43% of the model's weights; they miss a (which meets the images in no "
        "product)."
    )
    assert table.rows[0]["coverage"]["missed"] == {"a": "which meets the images in no product"}


def _mean_of_two(y):
    return (jax.nn.softmax(y[:, :3]) + jax.nn.softmax(y[:, 3:])) / 2


@pytest.mark.parametrize(
    ("end", "is_told"),
    [
        (jax.nn.softmax, True),
        (lambda y: jax.nn.softmax(y * 0.1), True),
        (lambda y: jnp.exp(y) / jnp.exp(y).sum(-1, keepdims=True), True),
        (jax.nn.sigmoid, True),
        (_mean_of_two, True),
        (jax.nn.log_softmax, False),  # cross-entropy of it is that of the logits
        (jax.nn.relu, False),
        (jnp.tanh, False),
        (lambda y: y / jnp.linalg.norm(y, axis=-1, keepdims=True), False),
        (lambda y: y, False),
    ],
)
def test_probabilities_for_logits(end, is_told):
    copies = 2 if end is _mean_of_two else 1
    out, bias = np.tile(OUT, (1, copies)), np.ones((1, 3 * copies), "float32")
    params = PARAMS | {"out": out, "bias": bias}

    def model(params, x):
        return end(apply(params, x) + params["bias"])

    found, table = told(model=model, params=params)
    assert [line for line in found if "probabilities" in line] == found
    assert bool(found) == is_told == table.rows[0]["coverage"]["gives_probabilities"]
    own_loss = lambda y, label: jnp.square(y - 1).sum(-1)  # noqa: E731
    assert told(model=model, params=params, loss=own_loss)[0] == []


@pytest.mark.parametrize("classes", [6, 5])
def test_more_logits_than_classes(classes):
    params = PARAMS | {"out": np.ones((5, classes), "float32")}
    found, _ = told(params=params)
    expected = [
        "the model has 6 logits and the labels use the first 3 alone: is its head the right one?"
    ]
    assert found == (expected if classes == 6 else [])  # few samples may lack a class


def test_patterns_that_are_saturated():
    """Two samples draw four patterns at most, however many units there are."""
    wide = {"a": np.tile(A, 20), "out": np.tile(OUT, (20, 1))}
    wide["a"] = wide["a"] + np.random.default_rng(2).normal(size=(4, 100)).astype("float32")
    (warning,), _ = told(("lswag",), params=wide, x=X[:2], y=Y[:2])
    assert warning == "lswag counts every pattern that the batch allows: take more samples."


def test_classes_of_one_sample():
    found, _ = told(("epe_nas",), x=X[:3], y=Y[:3])
    expected = "no class has two samples, without which epe_nas has nothing to compare."
    assert expected in found
    assert expected not in told(("epe_nas",))[0]


@pytest.mark.parametrize("place", ["images", "weights"])
def test_numbers_that_are_not_finite(place):
    bad = np.array(X if place == "images" else A)
    bad[1, 2] = np.nan
    given = {"x": bad} if place == "images" else {"params": PARAMS | {"a": bad}}
    found, _ = told(**given)
    assert found == [f"some of the {place} are not finite, so no score will be."]


def test_a_head_of_zeros_is_the_reason():
    """Named by its place in the network, whatever its name, and not a zero layer before it."""
    zeros = {"z_first": np.zeros_like(A), "out": np.zeros_like(OUT)}

    def renamed(params, x):
        return apply({"a": params["z_first"], "out": params["out"]}, x)

    for params, model in ((PARAMS | {"out": np.zeros_like(OUT)}, apply), (zeros, renamed)):
        found, table = told(("snip",), params=params, model=model)
        reason = "the logits do not depend on the images, out is all zeros: initialise it."
        assert found == [reason]
        assert table.rows[0]["reason"] == reason
        assert table.status[0] == "degenerate"


class OwnNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        return x - mean.value[None]


class OwnNnxNorm(nnx.Module):
    def __init__(self):
        self.mean = nnx.BatchStat(jnp.zeros((1, 5)))

    def __call__(self, x):
        return x - self.mean[...]


class LinenNet(nn.Module):
    kind: type = OwnNorm

    @nn.compact
    def __call__(self, x, train=False):
        options = {} if self.kind is OwnNorm else {"use_running_average": not train}
        x = self.kind(name="norm", **options)(nn.Dense(5, name="a")(x))
        return nn.Dense(3, name="out")(nn.relu(x))


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.a, self.norm = nnx.Linear(4, 5, rngs=rngs), OwnNnxNorm()
        self.out = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.norm(self.a(x))))


def haiku_net():
    hk = pytest.importorskip("haiku")

    def network(x, is_training):
        x = hk.BatchNorm(True, True, 0.9, name="norm")(hk.Linear(5)(x), is_training)
        return hk.Linear(3)(jax.nn.relu(x))

    model = hk.without_apply_rng(hk.transform_with_state(network))
    return model, model.init(jax.random.key(0), X, True)


@pytest.mark.parametrize("library", ["linen", "nnx", "haiku"])
def test_statistics_that_no_batch_norm_owns(library):
    with jax.numpy_rank_promotion("allow"):
        model, variables = {
            "linen": lambda: (LinenNet(), LinenNet().init(jax.random.key(0), X)),
            "nnx": lambda: (NnxNet(), None),
            "haiku": haiku_net,
        }[library]()
        (warning,), _ = told(model=model, params=variables)
    assert warning.startswith("the model keeps batch_stats in norm")
    assert "does not follow `batch_norm`" in warning


def test_a_batch_norm_of_linen_inside_nnx_is_followed():
    """In every mode its logits are those of the Linen module; nothing is foreign."""
    inner = LinenNet(nn.BatchNorm)
    model = nnx.bridge.ToNNX(inner, rngs=nnx.Rngs(0)).lazy_init(X)
    for mode in ("frozen", "eval"):
        found = explain_model(model, None, X, batch_norm=mode)
        assert dict(found.norms) == {"norm": mode}
        assert found.foreign == found.mixed == ()


def test_samples_that_are_mixed():
    def centred(params, x):
        h = x @ params["a"]
        return apply({"a": jnp.eye(5), "out": params["out"]}, h - h.mean(0, keepdims=True))

    (warning,), _ = told(model=centred)
    assert warning.startswith("the model mixes the samples of a batch in the model: ")


def scalar(params, x):
    return (x @ params["a"]).sum()


def no_classes(params, x):
    return (x @ params["a"]).sum(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params": {"a": A.astype("complex64")}}, "weights must be real, got complex64 in .*a: "),
        ({"x": X.astype("complex64")}, "images must be floats or uint8, got complex64"),
        ({"params": {}, "model": lambda params, x: x[:, :3]}, "no weight layer was captured"),
        ({"model": scalar}, r"must return logits \[B, C\], got an array of shape \(\)"),
        ({"model": no_classes}, r"must return logits \[B, C\], got an array of shape \(6,\)"),
    ],
)  # fmt: skip
def test_refused_in_a_sentence(given, message):
    with pytest.raises(ValueError, match=message) as error:
        told(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("proxy", ["swap", "linear_regions", "te_nas"])
def test_no_activation_is_said(proxy):
    with pytest.raises(ValueError, match="no activation function was found on the way to the log"):
        told((proxy,), model=lambda params, x: x[:, 0, :, 0] @ params["a"], x=np.ones((6, 4, 4, 1)))


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2)])
def test_a_python_number_among_the_parameters(number):
    def model(params, x):
        return apply(params, x) / params["temperature"]

    _, table = told(("lswag",), params=PARAMS | {"temperature": number}, model=model)
    _, expected = told(("lswag",), model=lambda params, x: apply(params, x) / 2)
    np.testing.assert_allclose(table["lswag"], expected["lswag"], rtol=1e-5)


def test_integers_among_the_parameters():
    params = PARAMS | {"steps": np.arange(3)}
    assert told(params=params)[1].status[0] == "ok"


class ByHand(nn.Module):
    """A weight that no product meets, and a softmax at the end of the wider one."""

    width: int

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(), (3, self.width))
        h = nn.relu((x.mean((1, 2))[:, :, None] * w[None]).sum(1))
        y = nn.Dense(5)(h)
        return nn.softmax(y) if self.width > 8 else y


@pytest.mark.parametrize(
    ("widths", "told_of"),
    [((4, 8, 16), ["width=4", "62%"]), ((16, 4), ["width=16", "62%", "probabilities"])],
)
def test_networks_of_a_space_of_ones_own(widths, told_of):
    """The first network that needs a warning has it; each has its coverage."""
    space = SimpleSpace({"width": widths}, lambda g: ByHand(g.width), image_size=4, num_classes=5)
    genotypes = [space.parse(f"width={width}") for width in widths]
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype("float32")
    with pytest.warns(UserWarning, match="of simple") as caught:
        table = score(space, genotypes, images, np.arange(6) % 5, ("snip",))
    (warning,) = [str(w.message) for w in caught if "of simple" in str(w.message)]
    assert all(part in warning for part in told_of)
    for row, width in zip(table.rows, widths, strict=True):
        share = 5 * width / (8 * width)
        assert row["coverage"]["share"] == pytest.approx(share)
        assert row["coverage"]["gives_probabilities"] == (width > 8)


def test_spaces_with_a_plan_have_no_coverage():
    space = spaces.get("nasbench201", width=4, cells=1, image_size=8)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    table = score(space, space.sample(np.random.default_rng(0), 1), images, np.arange(4), ("nwot",))
    assert "coverage" not in table.rows[0]


def test_activations_that_are_not_seen():
    """More turns than are unrolled, each with an activation."""

    def model(params, x):
        h = x @ params["a"]
        h = jax.lax.fori_loop(0, 1000, lambda i, h: jnp.maximum(h * 0.99, 0), h)
        return h @ params["out"]

    (warning,), table = told(model=model)
    place = table.rows[0]["coverage"]["hidden"][0]
    assert warning == f"activations inside {place} are not seen, and no pattern counts them."
    assert place.startswith("a 'scan' at ")
