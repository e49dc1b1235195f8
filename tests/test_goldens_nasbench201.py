"""NAS-Bench-201 against xautodl's TinyNetwork and the originals of the proxies, in float64."""

import functools

import numpy as np
import pytest
from flax import traverse_util

from lswag_jax import spaces
from lswag_jax.proxies import GradSign, Gsnr, LinearRegions, MeCo, Nwot, Swap
from tests.helpers import cnn_goldens, goldens

FILES = ("best", "mixed", "sparse", "deadbranch")


def quick(name):
    """Every file with each weight set; all but one of this file run in CI, marked slow."""
    cases = [
        pytest.param(
            (file, weights),
            id=f"{file}-{weights}",
            marks=() if (file, weights) == (name, "default") else pytest.mark.slow,
        )
        for file in FILES
        for weights in ("default", "gauss", "kaiming")
    ]
    return pytest.mark.parametrize("golden", cases, indirect=True)


def make(arrays):
    genotype = spaces.NasBench201Genotype.from_string(str(arrays["arch"]))
    width, cells = int(arrays["C"]), int(arrays["N"])
    return spaces.get("nasbench201", width=width, cells=cells).build(genotype)


@pytest.fixture
def golden(request):
    return _golden(*request.param)


@functools.cache
def _golden(file, weights):
    names = f"nb201_{file}_C8_N1", "nb201_inputs"
    return cnn_goldens.CnnGolden(*names, weights, 16, make, lambda names: range(len(names)))


@quick("mixed")  # has every kind of operation
@cnn_goldens.checks([name for name in cnn_goldens.CHECKS if name not in cnn_goldens.LONG])
def test_golden(golden, check):
    check(golden)


@quick("sparse")  # without convolutions in its cells, which compiles in half the time
@cnn_goldens.checks(cnn_goldens.LONG)
def test_golden_by_backward_passes(golden, check):
    check(golden)


FEATURES = ("az_expressivity", "az_progressivity", "az_trainability")


@quick("sparse")
@pytest.mark.parametrize("images", ["images", "gauss1"])
def test_az_nas(golden, images):
    """On both batches of images, with the file's signs."""
    inputs = goldens.read(golden.inputs)
    draws = {"az/images": golden.channels_last(inputs[images][:16])}
    for key, signs in golden.arrays.items():
        if key.startswith("az_sign/"):
            draws[f"az/signs_{key.removeprefix('az_sign/')}"] = golden.channels_last(signs)
    table = golden.score(FEATURES, draws=draws)
    for name in FEATURES:
        expected = golden.value(f"val64/{name}_{images}")
        assert table.raw[name][0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@quick("sparse")
def test_gradsign(golden):
    """The file has the mean over the weights."""
    num_weights = sum(value.size for key, value in golden.arrays.items() if _is_kernel(golden, key))
    table = golden.score((GradSign(),))
    expected = golden.value("val64/gradsign_aznas")
    assert table["gradsign"][0] / num_weights == pytest.approx(expected, rel=1e-6)


def _is_kernel(golden, key):
    return key.startswith(f"{golden.weights}/w/") and golden.arrays[key].ndim in (2, 4)


@quick("sparse")
def test_regions_and_meco(golden):
    """Regions of the file's small images; MeCo's eigenvalues of layers, norms and activations."""
    extra = golden.extra()
    draws = {
        "te_nas/crops": golden.channels_last(goldens.read(golden.inputs)["lr_images"]),
        "meco/image": golden.channels_last(extra["meco_input"]),
    }
    eigenvalues = extra[f"{golden.file}/{golden.weights}/meco_min_eigs64"]
    table = golden.score((LinearRegions(), MeCo()), draws=draws)
    regions = golden.value("val64/te_nas_linear_regions_lr_images")
    assert table["linear_regions"][0] == regions
    ours = table.parts["meco"]["layers"][0]
    assert len(ours) > 15
    for value in ours:  # the file has those of pools, containers and the head besides
        assert np.abs(eigenvalues - value).min() < 1e-9


@quick("sparse")
def test_gsnr_of_single_images(golden):
    """The published code for NAS-Bench-101: batches of one image, in training mode."""
    name = f"{golden.file}/{golden.weights}/val64/xi_gsnr_persample_trainBN"
    expected = float(golden.extra()[name])
    assert golden.score(Gsnr(n_batches=16))["gsnr"][0] == pytest.approx(expected, rel=1e-6)


def test_patterns_of_other_weights():
    """NASWOT and SWAP of one weight set, drawn, equal those of a network that has it."""
    default, gauss = (_golden("sparse", name) for name in ("default", "gauss"))
    flat = traverse_util.flatten_dict(gauss.variables()["params"], sep="/")
    kernels = {name: leaf for name, leaf in flat.items() if name.endswith("kernel")}
    draws = {f"{p}/{name}": k for p in ("nwot", "swap") for name, k in kernels.items()}
    chosen = (Nwot(init="normal01"), Swap(init="normal01"))
    table = default.score(chosen, draws=draws)
    expected = gauss.value("val64/nwot_activations_only")
    assert table["nwot"][0] == pytest.approx(expected, rel=1e-6)
    assert table["swap"][0] == gauss.value("val64/swap")
    noise = {f"{name}/images": default.data(0, 16)[0] for name in ("nwot", "swap")}
    chosen = (Nwot(init="normal01", images="noise"), Swap(init="normal01", images="noise"))
    again = default.score(chosen, draws=draws | noise)
    assert (again["nwot"][0], again["swap"][0]) == (table["nwot"][0], table["swap"][0])
