"""The goldens of the convolutional spaces as networks of ours."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import adapters
from lswag_jax.proxies import LSwag, Nwot, Swap, ZiCo

EVAL = (
    LSwag(label="sum_inv_std_abs"),
    LSwag(label="sum_inv_std_signed", grad_abs=False),
    LSwag(label="sum_mean_over_std_abs", lambda_kind="zico"),
    LSwag(label="sum_mean_over_std_signed", lambda_kind="zico", grad_abs=False),
)
TRAIN = (LSwag(label="psi", lambda_kind="none"), Swap(), Nwot())
BATCHES = (ZiCo(), LSwag(label="minibatch", var_over="minibatch"))


@dataclasses.dataclass(frozen=True)
class CnnGolden:
    """One file with one weight set.

    Attributes:
        path, inputs: files of the network and of its images.
        weights: name of the weight set.
        batch: samples of each of the two batches.
        make: makes our module of the file's arrays.
        order: index into the file's layers of each of our layers, given their names.
    """

    path: Any
    inputs: Any
    weights: str
    batch: int
    make: Callable[[dict], Any]
    order: Callable[[Sequence[str]], Sequence[int]]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path) as arrays:
            return dict(arrays)

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
        with jax.enable_x64(True):
            return lswag_jax.from_torch(self.module, weights)

    def data(self, start: int, stop: int, dtype=np.float64):
        """Images and labels of these samples."""
        with np.load(self.inputs) as arrays:
            images, labels = arrays["images"][start:stop], arrays["labels"][start:stop]
        return images.transpose(0, 2, 3, 1).astype(dtype), labels.astype(np.int32)

    def value(self, key: str) -> np.ndarray:
        return self.arrays[f"{self.weights}/{key}"]

    @property
    def layers(self) -> np.ndarray:
        """Index into the file's layers of each of ours."""
        return np.array(self.order([str(name) for name in self.arrays["layer_names"]]))

    def score(self, proxies, batches: int = 1, **settings):
        images, labels = self.data(0, batches * self.batch)
        with jax.enable_x64(True):
            return lswag_jax.score_model(
                self.module, self.variables(), images, labels, proxies, **settings
            )


def check_logits(golden: CnnGolden) -> None:
    """Logits with the batch's statistics and with the running ones."""
    images, _ = golden.data(0, golden.batch)
    with jax.enable_x64(True):
        for mode, name in (("frozen", "logits_train"), ("eval", "logits_eval")):
            logits = _forward(golden.module, mode)(golden.variables(), images)
            np.testing.assert_allclose(logits, golden.value(f"ext64/{name}"), rtol=1e-9, atol=1e-9)


@functools.cache
def _forward(module, mode):
    """A jitted function of variables and images, one for all weight sets of a file."""

    def logits(variables, images):
        network = adapters.linen_network(module, variables, batch_norm=mode)
        return network(images, adapters.no_hook)

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


GRADIENTS = ("snip", "grad_norm", "plain", "fisher", "l2_norm")


def check_gradients(golden: CnnGolden) -> None:
    """Proxies of one mini-batch's gradient, and their layers."""
    table = golden.score(GRADIENTS)
    for name in GRADIENTS:
        assert table[name][0] == pytest.approx(golden.value(f"val64/{name}"), rel=1e-6)
        expected = golden.value(f"layer64/{name}")[golden.layers]
        layers = table.parts[name]["layers"][0]
        np.testing.assert_allclose(layers, expected, rtol=1e-6, atol=1e-12)


CHECKS = {
    "logits": check_logits,
    "samples": check_samples,
    "patterns": check_patterns,
    "batches": check_batches,
    "gradients": check_gradients,
}
every_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
