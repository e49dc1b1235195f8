"""The goldens of the convolutional spaces as networks of ours."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax.arrays import enable_x64
from lswag_jax.capture import adapters
from lswag_jax.proxies import Gsnr, LSwag, Nwot, Swap, SynFlow, Zen, ZiCo
from tests.helpers import goldens

EVAL = (
    LSwag(label="sum_inv_std_abs"),
    LSwag(label="sum_inv_std_signed", grad_abs=False),
    LSwag(label="sum_mean_over_std_abs", lambda_kind="zico"),
    LSwag(label="sum_mean_over_std_signed", lambda_kind="zico", grad_abs=False),
)
REGULARISED = {"mu1000_sigma1e+06": (1000, 1e6), "mu20_sigma400": (20, 400)}
TRAIN = (
    LSwag(label="psi", lambda_kind="none"),
    *(Swap(), Nwot()),
    *(Swap(label=key, mu=mu, sigma=sigma) for key, (mu, sigma) in REGULARISED.items()),
)
GSNR = {"zeroed": Gsnr(n_batches=2, label="zeroed")}
GSNR["accumulating"] = Gsnr(n_batches=2, accumulate=True, label="accumulating")
BATCHES = (ZiCo(), LSwag(label="minibatch", var_over="minibatch"), *GSNR.values())


@dataclasses.dataclass(frozen=True)
class CnnGolden:
    """One file with one weight set.

    Attributes:
        file, inputs: names of the files of the network and of its images.
        weights: name of the weight set.
        batch: samples of each of the two batches.
        make: makes our module of the file's arrays.
        order: index into the file's layers of each of our layers, given their names.
    """

    file: str
    inputs: str
    weights: str
    batch: int
    make: Callable[[dict], Any]
    order: Callable[[Sequence[str]], Sequence[int]]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return goldens.read(self.file)

    def extra(self) -> dict[str, np.ndarray]:
        """Values of NAS-Bench-201 that another file holds."""
        small = (goldens.SMALL / f"{self.file}.npz").exists()
        return goldens.read("nb201_extra", whole=not small)

    @functools.cached_property
    def module(self):
        return self.make(self.arrays)

    def variables(self, dtype=np.float64):
        prefix = f"{self.weights}/w/"
        weights = {
            key.removeprefix(prefix): value.astype(dtype)
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }
        with enable_x64(True):
            return lswag_jax.from_torch(self.module, weights)

    def data(self, start: int, stop: int, dtype=np.float64):
        """Images and labels of these samples."""
        arrays = goldens.read(self.inputs)
        images, labels = arrays["images"][start:stop], arrays["labels"][start:stop]
        return self.channels_last(images, dtype), labels.astype(np.int32)

    @staticmethod
    def channels_last(images: np.ndarray, dtype=np.float64) -> np.ndarray:
        """PyTorch's images as ours."""
        return images.transpose(0, 2, 3, 1).astype(dtype)

    def value(self, key: str) -> np.ndarray:
        return self.arrays[f"{self.weights}/{key}"]

    @property
    def layers(self) -> np.ndarray:
        """Index into the file's layers of each of ours."""
        return np.array(self.order([str(name) for name in self.arrays["layer_names"]]))

    def score(self, proxies, batches: int = 1, **settings):
        images, labels = self.data(0, batches * self.batch)
        with enable_x64(True):
            return lswag_jax.score_model(
                self.module, self.variables(), images, labels, proxies, **settings
            )


def check_logits(golden: CnnGolden) -> None:
    """Logits with the batch's statistics and with the running ones."""
    images, _ = golden.data(0, golden.batch)
    with enable_x64(True):
        for mode, name in (("frozen", "logits_train"), ("eval", "logits_eval")):
            logits = _forward(golden.module, mode)(golden.variables(), images)
            np.testing.assert_allclose(logits, golden.value(f"ext64/{name}"), rtol=1e-9, atol=1e-9)


@functools.cache
def _forward(module, mode):
    """A jitted function of variables and images, one for all weight sets of a file."""

    def logits(variables, images):
        network = adapters.linen_network(module, variables, batch_norm=mode)
        return network(images)

    return jax.jit(logits)


def check_samples(golden: CnnGolden) -> None:
    """Per-sample statistics of every layer in evaluation mode."""
    table = golden.score(EVAL, batch_norm="eval")
    for proxy in EVAL:
        sums = table.parts[proxy.key]["lambda_l"][0]
        expected = golden.value(f"ext64/persample_eval_{proxy.key}")[golden.layers]
        with np.errstate(divide="ignore"):
            logs = np.where(expected > 0, np.log(expected), 0)
        np.testing.assert_allclose(sums, logs, rtol=1e-6, atol=1e-9)
    expected = golden.value("val64/persample_eval_sum_log_sum_inv_std_abs")
    assert table.parts["sum_inv_std_abs"]["lambda"][0] == pytest.approx(expected, rel=1e-6)


def check_patterns(golden: CnnGolden) -> None:
    """Distinct patterns of each activation layer and of all, NASWOT, SWAP, parameters."""
    table = golden.score((*TRAIN, "params"))
    cards = golden.value("ext64/pattern_card_per_layer")
    np.testing.assert_array_equal(table.parts["psi"]["psi_l"][0], cards)
    assert table["psi"][0] == golden.value("val64/pattern_card_union")
    assert table["swap"][0] == golden.value("val64/swap")
    assert table["nwot"][0] == pytest.approx(golden.value("val64/nwot_activations_only"), rel=1e-6)
    assert table["params"][0] == golden.value("val64/params")
    for key in REGULARISED:
        expected = golden.value(f"val64/swap_reg_{key}")
        assert table[key][0] == pytest.approx(expected, rel=1e-6)


def check_batches(golden: CnnGolden) -> None:
    """Two mini-batches, each with its own statistics: ZiCo and the sums of 1/std."""
    table = golden.score(BATCHES, batches=2)
    for key, part, name in (
        ("minibatch", "lambda_l", "batchwise_sum_inv_std_abs"),
        ("zico", "layers", "batchwise_sum_mean_over_std_signed"),
    ):
        expected = golden.value(f"ext64/{name}")[golden.layers]
        with np.errstate(divide="ignore"):
            logs = np.where(expected > 0, np.log(expected), 0)
        np.testing.assert_allclose(table.parts[key][part][0], logs, rtol=1e-6, atol=1e-9)
    assert table["zico"][0] == pytest.approx(golden.value("val64/zico"), rel=1e-6)
    if golden.file.startswith("nb201"):
        extra = golden.extra()
        for key in GSNR:
            name = f"{golden.file}/{golden.weights}/val64/xi_gsnr_2batches_{key}"
            assert table[key][0] == pytest.approx(float(extra[name]), rel=1e-6)


GRADIENTS = ("snip", "grad_norm", "plain", "fisher", "l2_norm", "grasp")


def check_gradients(golden: CnnGolden) -> None:
    """Proxies of one mini-batch's gradient, and their layers."""
    table = golden.score(GRADIENTS)
    for name in GRADIENTS:
        assert table[name][0] == pytest.approx(golden.value(f"val64/{name}"), rel=1e-6)
        expected = golden.value(f"layer64/{name}")[golden.layers]
        layers = table.parts[name]["layers"][0]
        np.testing.assert_allclose(layers, expected, rtol=1e-6, atol=1e-12)


def check_jacobians(golden: CnnGolden) -> None:
    """Condition number of the tangent kernel, and correlations of the images' gradients."""
    table = golden.score(("jacov", "epe_nas", "ntk"))
    condition = golden.value("val64/te_nas_ntk_cond")
    assert table.raw["ntk"][0] == pytest.approx(condition, rel=1e-6)
    assert table["ntk"][0] == -table.raw["ntk"][0]
    if "tnb101" in golden.file:  # analytically zero there (goldens' README)
        return
    assert table["jacov"][0] == pytest.approx(golden.value("val64/jacov"), rel=1e-6)
    assert table["jacov"][0] == pytest.approx(golden.value("val64/jacob_cov"), rel=1e-6)
    assert table["epe_nas"][0] == pytest.approx(golden.value("val64/epe_nas"), rel=1e-6)


DATA_FREE = (SynFlow(), SynFlow(label="synflow_bn", batch_norm="kept"), Zen(init="space"))


def check_data_free(golden: CnnGolden) -> None:
    """SynFlow and its layers, with and without BatchNorm, and Zen-Score with the file's noise."""
    arrays = goldens.read(golden.inputs)
    noise = {key: golden.channels_last(arrays[key]) for key in ("gauss1", "gauss2")}
    draws = {"zen/images": noise["gauss1"], "zen/direction": noise["gauss2"]}
    table = golden.score(DATA_FREE, draws=draws)
    for name in ("synflow", "synflow_bn"):
        assert np.exp(table[name][0]) == pytest.approx(golden.value(f"val64/{name}"), rel=1e-6)
        expected = golden.value(f"layer64/{name}")[golden.layers]
        found = np.exp(table.parts[name]["layers"][0])
        # Behind BatchNorm a layer may have no more than rounding.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * expected.max())
    assert table["zen"][0] == pytest.approx(golden.value("val64/zen"), rel=1e-6)


CHECKS = {
    "logits": check_logits,
    "samples": check_samples,
    "patterns": check_patterns,
    "batches": check_batches,
    "gradients": check_gradients,
    "jacobians": check_jacobians,
    "data_free": check_data_free,
}
LONG = ("batches", "gradients", "jacobians", "data_free")  # backward passes compile longest


def checks(names, slow=()):
    """A test for each of these checks; CI runs those that are marked slow too."""
    cases = [
        pytest.param(CHECKS[name], id=name, marks=pytest.mark.slow if name in slow else ())
        for name in names
    ]
    return pytest.mark.parametrize("check", cases)


# Every run makes the long ones of NAS-Bench-201.
every_check = checks(CHECKS, slow=LONG)
