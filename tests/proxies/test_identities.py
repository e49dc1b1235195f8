"""Values that follow from a proxy's definition, on models of a few lines."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.proxies import (
    AzTrainability,
    Dss,
    GradSign,
    Gsnr,
    LinearRegions,
    LogSynFlow,
    LSwag,
    LSwagVariant,
    MeCo,
    Nwot,
    Swap,
    ZiCo,
)
from lswag_jax.proxies.az_nas import entropy
from lswag_jax.proxies.base import log_determinants
from lswag_jax.proxies.input_jacobian import EpeNas, Jacov
from lswag_jax.spaces.layers import Feature
from tests.helpers.batches import Batch

BATCH = 6


class Chain(nn.Module):
    """Linear layers with ReLU between, no biases."""

    widths: tuple[int, ...] = (7, 5, 3)

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, use_bias=False, dtype=x.dtype)(nn.relu(x) if i else x)
        return x


class Linear(nn.Module):
    """One linear layer, with an activation that changes nothing where its input is positive."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(3, use_bias=False)(x.reshape(len(x), -1)) + 100) - 100


@pytest.fixture
def data(x64, rng):
    return Batch(rng.normal(size=(BATCH, 2, 2, 1)), np.arange(BATCH) % 3)


def score(model, data, names, variables=None, **settings):
    images, labels = data
    if variables is None:
        variables = model.init(jax.random.key(0), jnp.asarray(images))
        variables = jax.tree.map(lambda v: v.astype(float), variables)
    return lswag_jax.score_model(model, variables, images, labels, names, **settings)


def test_synflow_of_a_chain(data):
    """Each layer passes all of the signal: its sum is R, and the score log(layers * R)."""
    images = jnp.asarray(data.images)
    variables = jax.tree.map(lambda v: v.astype(float), Chain().init(jax.random.key(0), images))
    positive = jax.tree.map(jnp.abs, variables)
    signal = Chain().apply(positive, jnp.ones((1, 2, 2, 1))).sum()
    table = score(Chain(), data, "synflow", variables)
    np.testing.assert_allclose(np.exp(table.parts["synflow"]["layers"][0]), signal, rtol=1e-9)
    assert table["synflow"][0] == pytest.approx(np.log(3 * signal), rel=1e-12)


@pytest.mark.filterwarnings("ignore:the logits do not depend on the images")
def test_synflow_beyond_float32(rng):
    """20 wide layers: the signal is past float32's largest number and its logarithm is right."""
    images = rng.uniform(size=(4, 4, 4, 4)).astype(np.float32)
    model = Chain(widths=(256,) * 20)
    variables = jax.tree.map(jnp.ones_like, model.init(jax.random.key(0), images))
    variables["params"]["Dense_0"]["kernel"] *= -1  # so that the real forward pass stays at zero
    table = score(model, (images, np.arange(4)), ("synflow", LogSynFlow()), variables)
    # R = 64 * 256^20; every one of the 20 layers carries all of it.
    expected = np.log(20 * 64.0) + 20 * np.log(256)
    assert table.raw["synflow"][0] == pytest.approx(expected, rel=1e-6)
    assert expected > np.log(np.finfo(np.float32).max)
    assert np.isfinite(table.raw["logsynflow"][0])


def test_grasp_of_a_quadratic(data):
    """Loss 0.5 |W x - y|^2 is quadratic in W: -sum W (H g) with g = H W - b, done by hand."""
    images, labels = data
    x = images.reshape(BATCH, -1)
    targets = np.eye(3)[labels]
    variables = {
        "params": {"Dense_0": {"kernel": jnp.asarray(np.linspace(-1, 1, 12).reshape(4, 3))}}
    }

    def loss(outputs, labels):
        return 0.5 * ((outputs - jnp.eye(3)[labels]) ** 2).sum(1)

    w = np.asarray(variables["params"]["Dense_0"]["kernel"])
    hessian = x.T @ x / BATCH  # the same for each output
    gradient = hessian @ w - x.T @ targets / BATCH
    table = score(Linear(), data, "grasp", variables, loss=loss)
    assert table["grasp"][0] == pytest.approx(-(w * (hessian @ gradient)).sum(), rel=1e-9)


def test_plain_snip_and_sign_agreement(data):
    """|plain| <= snip; GradSign is at most samples times weights."""
    table = score(Chain(), data, ("plain", "snip", GradSign()))
    assert abs(table["plain"][0]) <= table["snip"][0]
    assert 0 < table["gradsign"][0] <= BATCH * (4 * 7 + 7 * 5 + 5 * 3)


@pytest.mark.filterwarnings("ignore:the logits do not depend on the images")
def test_gradients_that_agree(data):
    """Copies of one sample: all signs agree."""
    images, labels = np.repeat(data.images[:1], BATCH, 0), np.zeros(BATCH, int)
    variables = {
        "params": {"Dense_0": {"kernel": jnp.asarray(np.linspace(-1, 1, 12).reshape(4, 3))}}
    }
    table = score(Linear(), (images, labels), GradSign(), variables)
    assert table.raw["gradsign"][0] == BATCH * 12


def test_jacobian_scores_of_known_correlations():
    """Uncorrelated samples reach jacov's bound; correlated ones fall below it."""
    one = np.eye(4)[None]
    best = -4 * (np.log(1 + 1e-5) + 1 / (1 + 1e-5))
    assert Jacov().finish({"correlation": one})["score"][0] == pytest.approx(best)
    alike = np.full((1, 4, 4), 0.9) + 0.1 * one
    assert Jacov().finish({"correlation": alike})["score"][0] < best
    parts = {"correlation": one, "labels": np.array([[0, 1, 2, 3]]), "num_classes": np.array([10])}
    # A class with one sample contributes log(1 + 1e-5).
    assert EpeNas().finish(parts)["score"][0] == pytest.approx(4 * np.log(1 + 1e-5))
    many = parts | {"num_classes": np.array([200])}
    assert EpeNas().finish(many)["score"][0] == pytest.approx(0)


def test_regions_cannot_be_more_than_crops(data):
    table = score(Chain(), data, LinearRegions(crops=16, size=1))
    assert 1 < table["linear_regions"][0] <= 16


def test_regions_of_other_images(data, rng):
    """Rows of numbers have no crops, and a crop no more pixels than its image."""
    rows = rng.normal(size=(BATCH, 4)), data.labels
    table = score(Chain(), rows, ("linear_regions", "te_nas", "ntk"))
    assert [table.statuses[name][0] for name in table] == [*("not_applicable",) * 2, "ok"]
    with pytest.raises(ValueError, match="at most that of the images, 2 x 2, got 9"):
        score(Chain(), data, LinearRegions(size=9))


class Residual(nn.Module):
    """A branch whose last layer starts at zero, or not."""

    zero: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(32)(x.reshape(len(x), -1))
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        x += nn.Dense(32, kernel_init=init)(nn.relu(x))
        return nn.Dense(3)(nn.relu(x))


def test_layers_that_start_at_zero_are_drawn_too(data):
    chosen = Nwot(init="normal01"), Swap(init="normal01")
    zero, other = (score(Residual(zero), data, chosen) for zero in (True, False))
    for name in ("nwot", "swap"):
        assert zero.statuses[name][0] == "ok"
        assert zero[name][0] == other[name][0]


class Attention(nn.Module):
    """Flax's own attention, whose output has a kernel [H, K, D]."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6, name="embed")(x.reshape(len(x), -1, 1))
        x += nn.MultiHeadDotProductAttention(num_heads=2, name="attn")(x, x)
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(5, name="fc")(x)).mean(1))


@pytest.mark.parametrize("branch", ["role", "shape"])
def test_diversity_of_flax_attention(data, branch):
    """Nuclear norms of matrices of all inputs and all outputs; all of attention's are square."""
    model = Attention()
    variables = model.init(jax.random.key(0), jnp.asarray(data.images))
    variables = jax.tree.map(lambda v: v.astype(float), variables)
    positive = jax.tree.map(jnp.abs, variables)
    ones = jnp.ones((1, *data.images.shape[1:]))
    gradients = jax.grad(lambda v: model.apply(v, ones).sum())(positive)
    expected = []
    for name in ("query", "key", "value", "out", "fc", "head"):
        w, g = (tree["params"].get(name) for tree in (positive, gradients))
        if name not in ("fc", "head"):
            w, g = (tree["params"]["attn"][name] for tree in (positive, gradients))
        w, g = (np.asarray(layer["kernel"]) for layer in (w, g))
        if name in ("fc", "head"):
            expected.append(np.abs(w * g).sum())
        else:
            expected.append(np.prod([np.linalg.norm(m.reshape(6, 6), "nuc") for m in (w, g)]))
    table = score(model, data, Dss(branch=branch), variables)
    np.testing.assert_allclose(table.parts["dss"]["layers"][0], expected, rtol=1e-8)


class Marked(nn.Module):
    """Two marked feature maps with an orthogonal layer between."""

    @nn.compact
    def __call__(self, x):
        x = Feature()(x.reshape(len(x), -1, 4))
        x = Feature()(nn.Dense(4, use_bias=False)(x))
        return nn.Dense(3)(nn.relu(x).mean(1))


def test_trainability_of_an_orthogonal_layer(x64, rng):
    """Singular values of one: trainability is near its bound of 0 where signs are many."""
    images, labels = rng.normal(size=(BATCH, 4, 4, 1)), np.arange(BATCH) % 3
    variables = Marked().init(jax.random.key(0), jnp.asarray(images))
    variables = jax.tree.map(lambda v: v.astype(float), variables)
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    variables["params"]["Dense_0"]["kernel"] = jnp.asarray(q)
    proxy = AzTrainability(batch=512)
    (near,) = score(Marked(), (images, labels), proxy, variables)["az_trainability"]
    assert -0.05 < near <= 0
    variables["params"]["Dense_0"]["kernel"] = jnp.asarray(10 * q)
    (far,) = score(Marked(), (images, labels), proxy, variables)["az_trainability"]
    assert far < -5


class Strided(nn.Module):
    """Feature maps of 5 x 6 and, after a convolution of `strides`, smaller ones."""

    strides: tuple[int, int]

    @nn.compact
    def __call__(self, x):
        x = Feature()(x)
        x = Feature()(nn.Conv(3, (3, 3), self.strides, padding=1, use_bias=False)(x))
        return nn.Dense(3)(nn.relu(x).mean((1, 2)))


@pytest.mark.parametrize("strides", [(2, 2), (2, 1), (2, 3)])
def test_trainability_of_odd_maps(data, x64, rng, strides):
    """Pixels of the finer map by their place beneath one of the coarser; those outside are zero."""
    images = rng.normal(size=(4, 5, 6, 2))
    model = Strided(strides)
    variables = jax.tree.map(lambda v: v.astype(float), model.init(jax.random.key(0), images))
    convolve = lambda x: nn.Conv(3, (3, 3), strides, padding=1, use_bias=False).apply(  # noqa: E731
        {"params": variables["params"]["Conv_0"]}, x
    )
    noise = jnp.asarray(rng.normal(size=images.shape))
    f, back = jax.vjp(convolve, noise)
    signs = rng.choice([-1.0, 1.0], f.shape)
    (g_in,) = map(np.asarray, back(jnp.asarray(signs)))
    _, h, w, _ = signs.shape
    j, k = -(-5 // h), -(-6 // w)
    in_NxC = np.zeros((4, h, w, j, k, 2))
    for row in range(5):
        for column in range(6):
            in_NxC[:, row // j, column // k, row % j, column % k] = g_in[:, row, column]
    in_NxC, out_NxD = in_NxC.reshape(4 * h * w, -1), signs.reshape(4 * h * w, -1)
    s = np.linalg.svd(in_NxC.T @ out_NxD / len(out_NxD), compute_uv=False)[0]
    given = {"az/images": noise, "az/signs_1": signs}
    proxy, labels = AzTrainability(batch=4), np.arange(4) % 3
    found = score(model, (images, labels), proxy, variables, draws=given)["az_trainability"]
    np.testing.assert_allclose(found, -s - 1 / (s + 1e-6) + 2, rtol=1e-8)


def test_features_must_be_marked(data):
    table = score(Chain(), data, ("az_expressivity", "zen", "dss", MeCo(), "snip"))
    assert table.statuses["az_expressivity"][0] == "not_applicable"
    assert table.statuses["zen"][0] == "not_applicable"
    assert table.statuses["dss"][0] == "not_applicable"
    assert table.statuses["snip"][0] == "ok"
    assert table.values("dss")[0] == -np.inf


@pytest.mark.parametrize("k", [2, 5])
def test_entropy_of_few_directions(k, rng):
    """Features that use k directions alike have entropy log k, also in float32."""
    orthogonal = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    directions = np.linalg.qr(rng.normal(size=(64, k)))[0]
    centred = np.concatenate([orthogonal[:, :k], -orthogonal[:, :k]])
    features = (1e3 * centred @ directions.T).astype(np.float32)
    assert float(entropy(jnp.asarray(features))) == pytest.approx(np.log(k), abs=1e-3)


def test_singular_kernels_in_any_order(rng):
    """Counts of agreeing bits with two equal samples: -inf however rows and columns are ordered."""
    bits = rng.integers(0, 2, (8, 200))
    bits[5] = bits[2]
    kernel = (bits @ bits.T + (1 - bits) @ (1 - bits).T).astype(float)
    orders = [rng.permutation(8) for _ in range(50)]
    assert np.isneginf(log_determinants(np.stack([kernel[p][:, p] for p in orders]))).all()
    keep = np.delete(kernel, 5, 0)[:, np.delete(np.arange(8), 5)]
    assert log_determinants(keep) == pytest.approx(np.linalg.slogdet(keep)[1])


def test_az_nas_punishes_one_bad_rank():
    """The middle of all ranks beats the best of one and the worst of another; NaN ranks last."""
    parts = {"score": np.array([2.0, 3.0, 1.0]), "expressivity": np.array([2.0, 3.0, 1.0])}
    parts |= {"trainability": np.array([2.0, 1.0, 3.0]), "macs": np.array([5, 5, 5])}
    scores, status, rule = proxies.get("az_nas").pool(parts)
    assert rule == "log_rank_sum"
    assert set(status) == {"ok"}
    assert np.argmax(scores) == 0
    assert scores[0] == pytest.approx(3 * np.log(2 / 3))
    parts["trainability"] = np.array([np.nan, 1.0, 3.0])
    assert np.argmin(proxies.get("az_nas").pool(parts)[0]) == 0


def test_te_nas_adds_ranks():
    parts = {"score": np.array([[10.0], [2.0], [5.0]]), "regions": np.array([[7.0], [5.0], [6.0]])}
    scores, _, rule = proxies.get("te_nas").pool(parts)
    assert rule == "rank_sum"
    np.testing.assert_array_equal(scores, [[4.0], [4.0], [4.0]])


def test_groups():
    groups = proxies.GROUPS
    assert set(groups["gradient_based"]) | set(groups["gradient_free"]) == set(groups["all"])
    assert not set(groups["gradient_based"]) & set(groups["gradient_free"])
    assert {p.key for p in proxies.resolve(("params", "data_free"))} == set(groups["data_free"])


@pytest.mark.parametrize(
    "samples",
    [LSwag(), LSwag(grad_abs=False), LSwagVariant(include_bias=True)],
    ids=["abs", "sign", "bias"],
)
def test_gradients_of_the_stream_are_those_without_it(data, samples):
    """Beside L-SWAG mini-batch gradients come out of its pass over the samples, else of their own.

    ZiCo's two and GSNR's three mini-batches are both made of the six that the stream keeps.
    """
    gradients = ("snip", "fisher", ZiCo(), Gsnr(n_batches=3))
    together = score(Chain(), data, (samples, *gradients))
    for proxy in proxies.resolve(gradients):
        alone = score(Chain(), data, proxy)
        np.testing.assert_allclose(together[proxy.key], alone[proxy.key], rtol=1e-9)
    np.testing.assert_allclose(together["lswag"], score(Chain(), data, samples)["lswag"], rtol=1e-9)


class Ending(nn.Module):
    """A convolution, and what stands between it and the head, or behind that."""

    kind: str

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(5, (3, 3), use_bias=False)(nn.relu(nn.Conv(4, (3, 3))(x)))
        if self.kind != "softmax":
            x = nn.BatchNorm(use_running_average=not train)(x)
        if self.kind == "active":
            x = nn.relu(x)
        x = nn.Dense(3)(x.mean(axis=(1, 2)))
        return nn.softmax(x) if self.kind == "softmax" else x


@pytest.mark.filterwarnings("ignore:the model's outputs are probabilities")
@pytest.mark.parametrize(
    ("kind", "undefined"),
    [("active", ()), ("norm", ("jacov", "epe_nas", "gradsign")), ("softmax", ("jacov", "epe_nas"))],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_that_are_rounding_are_degenerate(data, kind, undefined, dtype):
    """The mean of BatchNorm's outputs over a batch, or the sum of a softmax, is constant."""
    names = ("jacov", "epe_nas", "gradsign")
    images = np.random.default_rng(1).normal(size=(BATCH, 5, 5, 1)).astype(dtype)
    model = Ending(kind)
    variables = jax.tree.map(lambda v: v.astype(dtype), model.init(jax.random.key(0), images))
    table = lswag_jax.score_model(model, variables, images, data.labels, names)
    status = {name: table.statuses[name][0] for name in names}
    assert status == {name: "degenerate" if name in undefined else "ok" for name in names}
    is_constant = kind == "norm"  # a sample that is normalised alone has the logits of any other
    expected = pytest.warns(UserWarning, match="do not depend on the images")
    with expected if is_constant else contextlib.nullcontext():
        table = lswag_jax.score_model(
            model, variables, images, data.labels, "lswag", batch_norm="batch1_train"
        )
    assert table.status[0] == ("degenerate" if is_constant else "ok")
    # One image has the same logits as any other: Dextr is its conditions alone.
    parts = lswag_jax.score_model(model, variables, images, data.labels, "dextr").parts["dextr"]
    assert np.isnan(parts["curvature"][0]) == is_constant
    if is_constant:
        assert parts["score"][0] == pytest.approx(np.log1p(parts["conditions"][0]), rel=1e-6)
