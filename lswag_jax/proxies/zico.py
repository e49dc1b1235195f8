"""ZiCo: mean over standard deviation of mini-batch gradients.

Source: Li et al., "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR
2023; code SLDGroup/ZiCo.

    score = sum_l log sum_{w: sigma_w > 0} mean_k |g_w^k| / sigma_w,   sigma_w = std_k g_w^k
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from lswag_jax.options import Several
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.proxies.lswag import LSwag


@dataclasses.dataclass(frozen=True)
class ZiCo(Proxy):
    """ZiCo over `n_batches` mini-batches, the gradient batch cut into equal parts.

    Example:
        >>> ZiCo(n_batches=4).n_batches
        4
    """

    name: ClassVar[str] = "zico"
    paper: ClassVar[str] = "Li et al., ICLR 2023"
    weakness: ClassVar[str] = "two batches only: half the ratios are 1"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    n_batches: Several = 2

    @property
    def batches(self) -> int:
        """The mini-batches."""
        return self.n_batches

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers; the same sums as L-SWAG's, weighted by mean |g|."""
        weighted = LSwag(
            lambda_kind="zico", var_over="minibatch", n_batches=self.n_batches, grad_abs=False
        )
        parts = weighted.gradient_factor(probe)
        return {
            "score": parts["lambda"],
            "layers": parts["lambda_l"],
            "n_layers": parts["n_layers"],
        }

    def is_degenerate(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """No layer has a moving gradient."""
        return np.asarray(parts["n_layers"]) <= 0
