"""L-SWAG's options and invariants."""

import dataclasses
import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.arrays import enable_x64
from lswag_jax.capture import models, tape
from lswag_jax.probe.candidate import Candidate
from lswag_jax.proxies import LSwag, LSwagKernel, LSwagVariant, ZiCo
from lswag_jax.scoring.measure import measure
from tests.helpers.spaces import MLP, PLAIN, batch

NAMES = ["patch_embed", *(f"blocks_{b}/{layer}" for b in range(2) for layer in
         ("attn/qkv", "attn/proj", "mlp/fc1", "mlp/fc2")), "head"]  # fmt: skip
VARIANTS = {
    "default": LSwag(),
    "ddof": LSwagVariant(ddof=1),
    "sum": LSwagVariant(psi_reduce="sum"),
    "mean": LSwagVariant(psi_reduce="mean"),
    "logsum": LSwagVariant(psi_reduce="logsum"),
    "scaled": LSwagVariant(loss_reduction="batch_mean"),
    "signed": LSwag(grad_abs=False),
    "window": LSwag(window=(4, 7)),
    "one_based": LSwagVariant(window=(4, 7), bins="one_based"),
    "literal": LSwagVariant(window=(10, 10), bins="literal"),
    "psi_window": LSwag(window=(6, 9), psi_range="window"),
    "psi_prefix": LSwag(window=(0, 4)),
    "psi_all": LSwag(window=(0, 4), psi_range="all"),
    "no_head": LSwagVariant(exclude_head=True),
    "no_stem": LSwagVariant(exclude_stem=True),
    "split": LSwagVariant(layers="split_qkv"),
    "block": LSwagVariant(layers="block"),
    "bias": LSwagVariant(include_bias=True),
    "norm": LSwagVariant(include_norm=True),
    "scale_free": LSwagVariant(scale_free=True),
    "scale_free_scaled": LSwagVariant(scale_free=True, loss_reduction="batch_mean"),
    "floor": LSwagVariant(sigma_floor=1e-3),
    "floor_relative": LSwagVariant(sigma_floor_relative=2.0),
    "trim": LSwagVariant(trim=0.25),
    "minibatch": LSwag(var_over="minibatch", n_batches=4),
    "minibatch_sum": LSwagVariant(var_over="minibatch", n_batches=4, loss_reduction="sum"),
    "zico": LSwag(lambda_kind="zico", var_over="minibatch", grad_abs=False),
    "psi": LSwag(lambda_kind="none"),
    "mean_token": LSwagVariant(token_reduce="mean", psi_reduce="sum"),
    "cls_token": LSwagVariant(token_reduce="cls", psi_reduce="sum"),
    "threshold": LSwagVariant(threshold=0.05),
    "sign3": LSwagVariant(binarize="sign3"),
    "tail": LSwagVariant(tail_share=True),
}


class Case(NamedTuple):
    """What every option makes of one network, and the Jacobians of its losses."""

    parts: dict
    grads: dict
    table: lswag_jax.ScoreTable


@pytest.fixture(scope="module")
def case() -> Case:
    """One exact two-block network in float64, its parts under every option, and its gradients.

    Its blocks have the same sizes, so that they are one loop and half as much is compiled.
    """
    with enable_x64(True):
        images, labels = batch(PLAIN, 12)
        g = PLAIN.parse("24/2,2/2,2")
        module = PLAIN.build(g)
        variables = jax.jit(module.init)(jax.random.key(0), images)
        variables = jax.tree.map(
            lambda v: v + 0.1 * jax.random.normal(jax.random.key(v.size), v.shape, float), variables
        )
        chosen = [dataclasses.replace(p, label=name) for name, p in VARIANTS.items()]
        chosen.append(ZiCo(label="zico_proxy"))
        table = lswag_jax.score_model(module, variables, images.astype(float), labels, chosen)

        def losses(params):
            logits = module.apply({"params": params}, images.astype(float))
            return tape.cross_entropy(logits, jnp.asarray(labels))

        grads = jax.jit(jax.jacrev(losses))(variables["params"])
        parts = {name: {k: v[0] for k, v in p.items()} for name, p in table.parts.items()}
        return Case(parts, grads, table)


def kernel(grads, name, key="kernel"):
    for part in name.split("/"):
        grads = grads[part]
    return np.asarray(grads[key])


def sigma(grads, absolute=True, ddof=0):
    return (np.abs(grads) if absolute else grads).std(0, ddof=ddof)


def log_sum(values):
    return np.log((1 / values[values > 0]).sum())


def lambdas(grads, **options):
    return np.array([log_sum(sigma(kernel(grads, name), **options)) for name in NAMES])


TERMS = {
    "default": lambdas,
    "ddof": lambda grads: lambdas(grads, ddof=1),
    "signed": lambda grads: lambdas(grads, absolute=False),
    "scaled": lambda grads: lambdas(grads) + np.log(12),
    "no_head": lambda grads: lambdas(grads)[:-1],
    "no_stem": lambda grads: lambdas(grads)[1:],
}


@pytest.mark.parametrize("name", TERMS)
def test_terms_against_jacobians(name, case):
    found, expected = case.parts[name], TERMS[name](case.grads)
    np.testing.assert_allclose(found["lambda_l"], expected, rtol=1e-9)
    assert found["lambda"] == pytest.approx(expected.sum())


def test_mini_batches_against_jacobians(case):
    parts, grads = case.parts, case.grads
    batches = jax.tree.map(lambda g: np.asarray(g).reshape(4, 3, *g.shape[1:]).mean(1), grads)
    np.testing.assert_allclose(parts["minibatch"]["lambda_l"], lambdas(batches), rtol=1e-9)
    np.testing.assert_allclose(
        parts["minibatch_sum"]["lambda_l"], lambdas(batches) - np.log(3), rtol=1e-9
    )


def test_what_a_layer_is(case):
    parts, grads = case.parts, case.grads
    sigmas = {name: sigma(kernel(grads, name)) for name in NAMES}
    split = [log_sum(sigmas["blocks_1/attn/qkv"][:, part]) for part in range(3)]
    np.testing.assert_allclose(parts["split"]["lambda_l"][7:10], split, rtol=1e-9)
    pooled = np.concatenate([sigmas[f"blocks_0/mlp/{n}"].ravel() for n in ("fc1", "fc2")])
    assert parts["block"]["lambda_l"][2] == pytest.approx(log_sum(pooled))
    assert len(parts["block"]["lambda_l"]) == 6
    fc1 = [sigma(kernel(grads, "blocks_0/mlp/fc1", key)).ravel() for key in ("kernel", "bias")]
    assert parts["bias"]["lambda_l"][3] == pytest.approx(log_sum(np.concatenate(fc1)))
    norms = parts["norm"]["lambda_l"][len(NAMES) :]
    scale_bias = [kernel(grads, "blocks_0/attn_norm/norm", k) for k in ("scale", "bias")]
    assert norms[0] == pytest.approx(log_sum(np.concatenate([sigma(g) for g in scale_bias])))
    assert len(norms) == 5


def test_small_deviations(case):
    parts, grads = case.parts, case.grads
    values = [sigma(kernel(grads, name)).ravel() for name in NAMES]
    floor = [log_sum(np.maximum(v, 1e-3)) for v in values]
    np.testing.assert_allclose(parts["floor"]["lambda_l"], floor, rtol=1e-9)
    relative = [log_sum(np.maximum(v, 2 * np.median(v))) for v in values]
    np.testing.assert_allclose(parts["floor_relative"]["lambda_l"], relative, rtol=1e-9)
    trimmed = [log_sum(v[v >= np.quantile(v, 0.25)]) for v in values]
    np.testing.assert_allclose(parts["trim"]["lambda_l"], trimmed, rtol=1e-9)
    median = np.median(np.concatenate(values))
    free = lambdas(grads) + np.log(median)
    np.testing.assert_allclose(parts["scale_free"]["lambda_l"], free, rtol=1e-9)
    np.testing.assert_allclose(parts["scale_free_scaled"]["lambda_l"], free, rtol=1e-9)


def test_tail_share(case):
    """Share of the largest 0.1 %, rounded up, of each layer's 1/sigma."""
    parts, grads = case.parts, case.grads
    for name, found in zip(NAMES, parts["tail"]["tail_share"], strict=True):
        values = np.sort(1 / sigma(kernel(grads, name)).ravel())[::-1]
        top = int(np.ceil(len(values) / 1000))
        assert found == pytest.approx(values[:top].sum() / values.sum())


@pytest.mark.parametrize(
    ("name", "layers"),
    [("default", range(10)), ("window", range(4, 8)), ("one_based", range(3, 7)), ("literal", [9])],
)
def test_window(name, layers, case):
    """D = 10 layers, so that bin b holds layer b."""
    found, expected = case.parts[name], lambdas(case.grads)
    assert found["lambda"] == pytest.approx(expected[list(layers)].sum())
    assert found["n_layers"] == found["in_window"].sum() == len(layers)


def test_activations_of_a_window(case):
    """They stand after layers 4 and 8."""
    parts = case.parts
    first, second = parts["default"]["psi_l"]
    assert parts["psi_prefix"]["psi"] == first
    assert parts["psi_window"]["psi"] == second
    assert parts["psi_all"]["psi"] == parts["default"]["psi"]


def test_psi(case):
    parts, table = case.parts, case.table
    each = parts["default"]["psi_l"]
    assert parts["default"]["n_units"] == 5 * (48 + 48)
    assert max(each) < parts["default"]["psi"] <= parts["sum"]["psi"] == sum(each)
    assert parts["mean"]["psi"] == np.mean(each)
    assert parts["logsum"]["psi"] == pytest.approx(np.log(each).sum())
    assert table["psi"][0] == parts["default"]["psi"]
    assert parts["sign3"]["psi"] == parts["default"]["psi"]  # no activation is exactly zero
    assert parts["mean_token"]["psi"] <= 48 + 48
    assert parts["mean_token"]["n_units"] == parts["cls_token"]["n_units"] == 48 + 48
    assert table["default"][0] == parts["default"]["lambda"] * parts["default"]["psi"]


def test_zico_is_the_same_sum(case):
    parts, grads, table = case
    assert table["zico_proxy"][0] == parts["zico"]["lambda"]
    batches = jax.tree.map(lambda g: np.asarray(g).reshape(2, 6, *g.shape[1:]).mean(1), grads)
    expected = 0
    for name in NAMES:
        g = kernel(batches, name)
        deviation = g.std(0)
        kept = deviation > 0
        expected += np.log((np.abs(g).mean(0)[kept] / deviation[kept]).sum())
    assert table["zico_proxy"][0] == pytest.approx(expected)


class Scored(NamedTuple):
    """The arguments of `score_model`."""

    module: MLP
    variables: dict
    images: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def mlp() -> Scored:
    images, labels = batch(PLAIN, 8)
    return Scored(MLP(), MLP().init(jax.random.key(0), images), images, labels)


@pytest.mark.filterwarnings("ignore")  # of NaN among the images
def test_failures_have_a_status(mlp):
    module, variables, images, labels = mlp
    names = ("lswag", "zico", "swap", "nwot", "lswag_kernel")

    def status(module=module, images=images, labels=labels, variables=variables):
        table = lswag_jax.score_model(module, variables, images, labels, names)
        return {name: table.statuses[name][0] for name in names}

    broken = images.copy()
    broken[0] = np.nan
    assert set(status(images=broken).values()) == {"nan"}
    same = np.tile(images[:1], (8, 1, 1, 1))
    assert status(images=same)["lswag"] == "degenerate"
    assert status(images=same)["nwot"] in ("inf", "degenerate")
    later = np.concatenate([images, broken])
    table = lswag_jax.score_model(
        module, variables, later, np.tile(labels, 2), names, gradient_batch=8
    )
    assert set(table.status) == {"nan"}
    dead = jax.tree.map(jnp.zeros_like, variables)
    assert set(status(variables=dead).values()) <= {"degenerate", "inf"}
    huge = jax.tree.map(lambda v: v * 1e30, variables)
    assert set(status(variables=huge).values()) <= {"nan", "inf"}
    assert set(status(labels=np.zeros(8, int)).values()) <= {"ok"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSwag(var_over="batch"), r"var_over of lswag must be one of \('sample'"),
        (lambda: LSwag(window=(3, 12)), "window must hold bins 0 <= first <= last <= 9"),
        (lambda: LSwag(window="3"), "window must be None or two bins"),
        (
            lambda: LSwagVariant(trim=1.0),
            "trim of lswag must be a number",
        ),
        (
            lambda: LSwagVariant(sigma_floor=-1),
            "sigma_floor of lswag must be a number",
        ),
        (lambda: LSwag(n_batches=1), "n_batches of lswag must be an integer of at least 2"),
        (
            lambda: LSwagVariant(include_bias=True, layers="split_qkv"),
            "include_bias of lswag cannot",
        ),
        (lambda: ZiCo(n_batches=1), "n_batches of zico must be an integer of at least 2"),
        (lambda: LSwagKernel(norm="l2"), "norm of lswag_kernel must be one of"),
        (
            lambda: LSwagKernel(attention_share=2),
            "attention_share of lswag_kernel must be a number",
        ),
        (lambda: proxies.get("swap", binarize="x"), "binarize of swap must be one of"),
        (lambda: proxies.get("lswagg"), "unknown proxy 'lswagg', known are lswag, "),
        (lambda: proxies.get("lswag", windows=1), "proxy lswag has no option 'windows'"),
        (lambda: proxies.resolve([]), "proxies must be at least one"),
        (lambda: proxies.resolve(["swap", "swap"]), "each with its own name or label"),
        (
            lambda: proxies.resolve(proxies.get("swap", label="params")),
            "label of a proxy must not be .*got 'params' for swap",
        ),
        (lambda: proxies.resolve(proxies.get("macs", label="params")), "got 'params' for macs"),
        (lambda: proxies.resolve([3]), "a proxy is a name or a Proxy, got 3"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_measure_needs_an_activation(mlp):
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x.reshape(x.shape[0], -1))

    _, _, images, labels = mlp
    variables = Linear().init(jax.random.key(0), images)
    model, weights = models.split(Linear(), variables)
    candidate = Candidate(model.network, weights)
    with pytest.raises(ValueError, match="no activation function was found"):
        measure(candidate, jnp.asarray(images), jnp.asarray(labels), proxies.resolve("swap"))


@pytest.mark.slow  # compiles for long
def test_windows_of_elastic_networks(x64):
    """Elastic equals exact for a window of several bins and of one, whatever a layer is."""
    space = dataclasses.replace(PLAIN, name="shallow", depths=(1, 2))
    images, labels = batch(space)
    kinds = (
        *({"layers": "block"}, {"layers": "split_qkv"}),
        *({"include_norm": True, "tail_share": True}, {"bins": "one_based", "psi_range": "window"}),
    )
    chosen = [
        LSwagVariant(label=f"{options} {window}", window=window, **options)
        for options, window in itertools.product(kinds, [(3, 7), (9, 9)])
    ]
    genotypes = [space.parse(text) for text in ("12/2,2/2,2", "12/2/2")]
    table = lswag_jax.score(space, genotypes, images.astype(float), labels, chosen)
    variables = jax.tree.map(lambda v: v.astype(float), jax.jit(space.init)(jax.random.key(0)))
    for i, g in enumerate(genotypes):
        exact = lswag_jax.score_model(
            space.build(g), space.extract(variables, g), images.astype(float), labels, chosen
        )
        for key, part in itertools.product(table, ("lambda", "n_layers", "psi", "n_units")):
            found, expected = table.parts[key][part][i], exact.parts[key][part][0]
            np.testing.assert_allclose(found, expected, 1e-8, err_msg=f"{key} {g}")


@pytest.mark.parametrize(
    ("proxy", "most"),
    [(LSwag(), 2**3), (LSwagVariant(binarize="sign3"), 3**3)],
    ids=["bit", "sign"],
)
def test_saturation_by_the_number_of_symbols(proxy, most):
    """S samples draw at most 2^S patterns of a bit and 3^S of a sign."""
    parts = {"n_units": np.array([1000]), "samples": np.array([3]), "psi": np.array([6])}
    assert proxy.finish(parts)["psi_saturation"] == pytest.approx(6 / most)


class Shared(nn.Module):
    """One layer called four times between two others."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(6)(x.reshape(x.shape[0], -1)))
        shared = nn.Dense(6, name="shared")
        for _ in range(4):
            x = nn.relu(shared(inputs=x))
        return nn.Dense(4)(x)


def test_shared_layers_and_empty_windows():
    """Three layers in bins 0, 3 and 6, one of them with four calls; no layer in bins 4 and 5."""
    images, labels = batch(PLAIN)
    variables = Shared().init(jax.random.key(0), images)
    windows = [(0, 9), (3, 5), (6, 9), (4, 5)]
    chosen = [LSwag(label=str(w), window=w) for w in windows]
    whole = lswag_jax.score_model(Shared(), variables, images, labels, chosen)
    layers = whole.parts["(0, 9)"]["lambda_l"][0]
    np.testing.assert_allclose(whole.parts["(3, 5)"]["lambda"], layers[1], rtol=1e-5)
    np.testing.assert_allclose(whole.parts["(6, 9)"]["lambda"], layers[2], rtol=1e-5)
    assert whole.statuses["(4, 5)"][0] == "degenerate"
    for w, proxy in zip(windows[1:], chosen[1:], strict=True):  # with the backward pass cut
        alone = lswag_jax.score_model(Shared(), variables, images, labels, proxy)
        np.testing.assert_allclose(
            alone.parts[str(w)]["lambda"], whole.parts[str(w)]["lambda"], rtol=1e-5
        )
    kernel = lswag_jax.score_model(Shared(), variables, images, labels, "lswag_kernel")
    assert kernel.status[0] == "ok"
