"""Against the original PyTorch implementations, in float64 (goldens' README)."""

import functools

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax.arrays import enable_x64
from lswag_jax.capture import adapters, tape
from lswag_jax.probe import moments
from lswag_jax.proxies import Dss, LSwag, Nwot, Params, Swap, ZiCo
from tests.helpers.autoformer_goldens import SETS, load

CASES = pytest.mark.parametrize(
    ("file", "weights"),
    [
        pytest.param(*names, marks=pytest.mark.slow if "tiny216" in names[0] else ())
        for names in SETS
    ],
    ids=["-".join(names) for names in SETS],
)
# What compiles longest, of the files of this repository alone; CI runs all, marked slow.
SMALL_CASES = pytest.mark.parametrize(
    ("file", "weights"),
    [
        pytest.param(*names, marks=() if "micro64" in names[0] else pytest.mark.slow)
        for names in SETS
    ],
    ids=["-".join(names) for names in SETS],
)

# One pass over the 8 gradient samples, with patterns of 8 and of 32; one over two batches of 8.
SAMPLES = (
    LSwag(),
    LSwag(label="signed", grad_abs=False),
    LSwag(label="weighted", lambda_kind="zico"),
    LSwag(label="weighted_signed", lambda_kind="zico", grad_abs=False),
)
PATTERNS = (LSwag(lambda_kind="none"), Swap(binarize="sign3"), Nwot(), Params())
BATCHES = (ZiCo(), LSwag(var_over="minibatch"))


@functools.cache
def scores(file, weights, proxies, size, gradient_batch=None):
    """Table of one golden network."""
    with enable_x64(True):
        golden = load(file, weights)
        return lswag_jax.score_model(
            golden.module,
            golden.variables,
            golden.images(size),
            golden.labels(size),
            proxies,
            gradient_batch=gradient_batch,
        )


@CASES
def test_logits(x64, file, weights):
    golden = load(file, weights)
    logits = jax.jit(golden.module.apply)(golden.variables, golden.images())
    np.testing.assert_allclose(logits, golden.value("ext64/logits_train"), rtol=0, atol=1e-10)


def test_super_network(x64):
    """Cream's super-network: elastic with an encoding, and cut to the exact network."""
    golden = load("cream_micro", "init")
    space, g = golden.space, golden.genotype
    variables = lswag_jax.from_torch(space.network(), golden.state_dict("super/w/"))
    encoded = {key: value[0] for key, value in space.encode([g]).items()}
    logits = jax.jit(space.network().apply)(variables, golden.images(), encoded)
    np.testing.assert_allclose(logits, golden.arrays["cream_logits64"], rtol=0, atol=1e-10)
    cut = space.extract(variables, g)
    jax.tree.map(np.testing.assert_array_equal, cut, golden.variables)


@SMALL_CASES
def test_lswag_of_8_and_32_samples(file, weights):
    """Per-layer sums, per-layer and union cardinalities, and the score."""
    golden = load(file, weights)
    table = scores(file, weights, SAMPLES, 32, gradient_batch=8)
    found = {key: value[0] for key, value in table.parts["lswag"].items()}
    log_sums = golden.value("ext64/grad_log_sum_inv_std_abs")
    np.testing.assert_allclose(found["lambda_l"], log_sums, rtol=1e-6)
    for key, name in (
        ("lswag", "grad_sum_inv_std_abs"),
        ("signed", "grad_sum_inv_std_signed"),
        ("weighted", "grad_sum_mean_over_std_abs"),
        ("weighted_signed", "grad_sum_mean_over_std_signed"),
    ):
        sums = np.exp(table.parts[key]["lambda_l"][0])
        np.testing.assert_allclose(sums, golden.value(f"ext64/{name}"), rtol=1e-6)
    assert found["lambda"] == pytest.approx(
        golden.value("val64/lambda_sum_log_sum_inv_std_abs_all"), rel=1e-6
    )
    np.testing.assert_array_equal(found["psi_l"], golden.value("ext64/gelu_card_per_layer_B32"))
    assert found["psi"] == golden.value("val64/gelu_card_union_B32")
    assert table["lswag"][0] == pytest.approx(golden.value("val64/lswag_all_B32"), rel=1e-6)
    assert list(table.status) == ["ok"]


@CASES
def test_patterns_of_8_samples(file, weights):
    golden = load(file, weights)
    table = scores(file, weights, PATTERNS, 8)
    psi, psi_l = (table.parts["lswag"][key][0] for key in ("psi", "psi_l"))
    np.testing.assert_array_equal(psi_l, golden.value("ext64/gelu_card_per_layer_B8"))
    assert psi == golden.value("val64/gelu_card_union_B8")
    lam = scores(file, weights, SAMPLES, 32, gradient_batch=8).parts["lswag"]["lambda"][0]
    assert lam * psi == pytest.approx(golden.value("val64/lswag_all_B8"), rel=1e-6)
    assert table["nwot"][0] == pytest.approx(golden.value("val64/nwot_activations_only"), rel=1e-9)
    assert table["swap"][0] == golden.value("val64/swap")
    assert table["params"][0] == golden.value("val64/params")


@SMALL_CASES
def test_two_batches(file, weights):
    """Two mini-batches of 8: the statistics of `ext64/batchwise_*` and the ZiCo score."""
    golden = load(file, weights)
    table = scores(file, weights, BATCHES, 16)
    for key, part, name in (
        ("lswag", "lambda_l", "batchwise_sum_inv_std_abs"),
        ("zico", "layers", "batchwise_sum_mean_over_std_signed"),
    ):
        sums = np.exp(table.parts[key][part][0])
        np.testing.assert_allclose(sums, golden.value(f"ext64/{name}"), rtol=1e-6)
    assert table["zico"][0] == pytest.approx(golden.value("val64/zico"), rel=1e-6)


@pytest.mark.parametrize("file", ["autoprox_micro64", "cream_micro"])
def test_moments_element_by_element(x64, file):
    golden = load(file, "init", whole=True)
    names = [str(name) for name in golden.arrays["layer_names"]]
    keys = [k for k in golden.arrays if k.startswith("gradfull64/") and k.endswith("mean_abs")]
    assert len(keys) >= 3

    @jax.jit
    def found(variables, images, labels):
        network = adapters.linen_network(golden.module, variables)
        layers = tape.record(network, images, labels).layers
        chosen = [layers[names.index(key.split("/")[1])] for key in keys]
        return [moments.stream(layer)["kernel"].samples for layer in chosen]

    results = found(golden.variables, golden.images(), golden.labels())
    for key, result in zip(keys, results, strict=True):
        for ours, name in ((result.mean_abs, key), (result.variance, key.replace("mean_", "var_"))):
            theirs = golden.arrays[name]
            # The patch embedding is (out, channels, rows, columns), other layers (out, in).
            theirs = theirs.transpose(2, 3, 1, 0) if theirs.ndim == 4 else theirs.T
            np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-6, atol=1e-15)


@SMALL_CASES
def test_float32(file, weights):
    """Lambda to 1e-4 and the cardinalities exactly."""
    golden = load(file, weights, np.float32)
    table = lswag_jax.score_model(
        golden.module, golden.variables, golden.images(32), golden.labels(32), gradient_batch=8
    )
    expected = golden.value("val64/lambda_sum_log_sum_inv_std_abs_all")
    assert table.parts["lswag"]["lambda"][0] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(
        table.parts["lswag"]["psi_l"][0], golden.value("ext64/gelu_card_per_layer_B32")
    )


# Not fisher: the published code sums over channels instead of tokens.
GRADIENTS = ("snip", "grad_norm", "plain", "l2_norm", "grasp", "synflow")
JACOBIANS = {"jacov": "jacov", "epe_nas": "epe_nas", "ntk": "te_nas_ntk_cond"}
ROLE, SHAPE = Dss(label="role"), Dss(label="shape", branch="shape")


@SMALL_CASES
def test_gradients(file, weights):
    """Proxies of one mini-batch's gradient and SynFlow, and their layers."""
    golden = load(file, weights)
    table = scores(file, weights, (*GRADIENTS, *JACOBIANS), 8)
    for name in GRADIENTS:
        value, layers = table[name][0], table.parts[name]["layers"][0]
        if name == "synflow":
            value, layers = np.exp(value), np.exp(layers)
        assert value == pytest.approx(golden.value(f"val64/{name}"), rel=1e-6)
        expected = golden.value(f"layer64/{name}")
        np.testing.assert_allclose(layers, expected, rtol=1e-6, atol=1e-12)
    for name, key in JACOBIANS.items():
        assert table.raw[name][0] == pytest.approx(golden.value(f"val64/{key}"), rel=1e-6)


@SMALL_CASES
def test_dss(file, weights):
    """AZ-NAS's repaired DSS and Auto-Prox's port, layer by layer."""
    golden = load(file, weights)
    table = scores(file, weights, (ROLE if golden.is_cream else SHAPE,), 8)
    if golden.is_cream:
        assert table["role"][0] == pytest.approx(golden.value("val64/az_dss"), rel=1e-6)
        layers = table.parts["role"]["layers"][0]
        np.testing.assert_allclose(layers, golden.value("layer64/az_dss"), rtol=1e-6)
        return
    assert table["shape"][0] == pytest.approx(golden.value("val64/autoprox_dss"), rel=1e-6)
    layers = table.parts["shape"]["layers"][0]
    np.testing.assert_allclose(layers, golden.value("layer64/autoprox_dss"), rtol=1e-6)


@pytest.mark.parametrize("images", ["images", "gauss1"])
def test_az_nas(images):
    """Expressivity and trainability with the file's signs."""
    golden = load("cream_micro", "init")
    draws = {"az/images": golden.arrays[images].transpose(0, 2, 3, 1)}
    signs = {k: v for k, v in golden.arrays.items() if k.startswith("az_sign/")}
    draws |= {f"az/signs_{k.removeprefix('az_sign/')}": v for k, v in signs.items()}
    names = ("az_expressivity", "az_trainability")
    with enable_x64(True):
        batch = golden.images(), golden.labels()
        table = lswag_jax.score_model(golden.module, golden.variables, *batch, names, draws=draws)
    for name in names:
        expected = golden.value(f"val64/{name}_{images}")
        assert table[name][0] == pytest.approx(expected, rel=1e-6)
