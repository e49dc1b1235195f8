"""xi-GSNR: signal to noise ratio of mini-batch gradients.

Source: Sun et al., "Unleashing the Power of Gradient Signal-to-Noise Ratio for Zero-Shot NAS", ICCV
2023; code Sunzh1996/Xi-GSNR. With g^k the gradient of mini-batch k's mean loss,

    score = sum_l sum_w mean_k(g_w)^2 / (var_k(g_w) + xi),   xi = 1e-8

The code for NAS-Bench-201 never sets gradients to zero between batches, so that its g^k are the
running sums g^1 + .. + g^k; that for NAS-Bench-101 takes batches of one image.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.options import Positive, Several
from lswag_jax.probe import Probe
from lswag_jax.probe.moments import moments_of
from lswag_jax.proxies.weight_gradients import LayerSum

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Gsnr(LayerSum):
    """Gradient signal to noise ratio over mini-batches, the gradient batch cut into equal parts.

    Args:
        n_batches: number of mini-batches; the script takes 8 of 64 images.
        xi: added to the variance.
        accumulate: running sums of the gradients, as the code has them, instead of the paper's.

    Raises:
        ValueError: fewer than two mini-batches, or xi not positive.
    """

    name: ClassVar[str] = "gsnr"
    paper: ClassVar[str] = "Sun et al., ICCV 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    weakness: ClassVar[str] = "of few batches it is noisy; xi sets the scale of small gradients"

    n_batches: Several = 8
    xi: Positive = 1e-8
    accumulate: bool = False

    @property
    def batches(self) -> int:
        """The mini-batches."""
        return self.n_batches

    def arrays(self, probe: Probe, i: int) -> tuple[Array]:
        """Gradients [K, ...] of the mini-batches."""
        return (probe.gradients(probe.layers[i], ("kernel",), self.n_batches)["kernel"],)

    def summand(self, *arrays: Array) -> Array:
        """sum mean^2 / (var + xi)."""
        (gradients_K,) = arrays
        if self.accumulate:
            sums_K = jnp.cumsum(gradients_K, axis=0)
            return (sums_K.mean(0) ** 2 / (sums_K.var(0) + self.xi)).sum()
        moments = moments_of(gradients_K, absolute=False)
        return (moments.mean**2 / (moments.variance + self.xi)).sum()
