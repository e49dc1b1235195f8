"""GradSign: how far the signs of single samples' gradients agree.

Source: Zhang and Jia, "GradSign: Model Performance Inference with Theoretical Insights", ICLR 2022;
code cmu-catalyst/GradSign.

    score = sum_l sum_w |sum_i sign(g_w(i))|
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import are_equal
from lswag_jax.capture.tape import Layer
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class GradSign(Proxy):
    """Agreement of the gradients' signs, not divided by the number of weights.

    Args:
        batch_norm: mode of BatchNorm; the code runs samples one by one in training mode.

    Raises:
        ValueError: another mode.
    """

    name: ClassVar[str] = "gradsign"
    paper: ClassVar[str] = "Zhang and Jia, ICLR 2022"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    family: ClassVar[str] = "training"
    weakness: ClassVar[str] = "grows with the number of weights; normalises each sample alone"

    batch_norm: Literal["batch1_train", "frozen", "eval"] = "batch1_train"

    def measure(self, probe: Probe) -> Parts:
        """The score, its layers [L], and whether the samples' logits are equal in its mode."""
        tape, key = probe.sample_tape(self.batch_norm), ("sign_sums", self.batch_norm)
        layers = tape.layers
        sums = jnp.stack([probe.of_like_layers(key, x, layers, _sign_sums) for x in layers])
        beside = probe.candidate.beside_logits(tape, self.batch_norm)
        is_constant = are_equal(tape.logits, beside)
        return {"score": sums.sum(), "layers": sums, "no_gradient": is_constant}

    def is_undefined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """No sample, normalised alone, moves the logits: its gradients are zeros or rounding.

        So it is where only sums of BatchNorm outputs are averaged for the head.
        """
        no_gradient = np.asarray(parts.get("no_gradient", False), bool)
        return no_gradient | (np.asarray(parts["score"]) == 0)


def _sign_sums(layer: Layer) -> Array:
    """sum_w |sum_i sign(g_w(i))| of a layer, one sample at a time."""
    pairs = [(x[:, None], x_bar[:, None]) for x, x_bar in layer.pairs]

    def step(total: Array, pairs: list) -> tuple[Array, None]:
        return total + jnp.sign(layer.gradient(("kernel",), pairs)["kernel"]), None

    sums, _ = jax.lax.scan(step, jnp.zeros_like(layer.params["kernel"]), pairs)
    return jnp.abs(sums).sum()
