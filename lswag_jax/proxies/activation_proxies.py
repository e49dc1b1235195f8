"""Proxies of the activation patterns alone: SWAP and NASWOT.

Sources: Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-Fast NAS", ICLR 2024
(code pym1024/SWAP, SWAP_Universal); Mellor et al., "Neural Architecture Search without Training",
ICML 2021 (code BayesWatch/nas-without-training, automl/NASLib).
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from lswag_jax import patterns
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy


@dataclasses.dataclass(frozen=True)
class Swap(Proxy):
    """SWAP: number of distinct patterns over the samples among all units of all layers.

    Args:
        binarize: "positive", or "sign3" for the three symbols of the code's `sign` (differs only
            where an activation is exactly zero while others are negative, as in saturated GELU).
    """

    name: ClassVar[str] = "swap"
    needs: ClassVar[frozenset[str]] = frozenset({"patterns"})

    binarize: str = "positive"

    def __post_init__(self) -> None:
        if self.binarize not in patterns.BINARIZE:
            raise ValueError(
                f"binarize of swap must be one of {patterns.BINARIZE}, got {self.binarize!r}."
            )

    def measure(self, probe: Probe) -> Parts:
        """The number of patterns."""
        words = probe.words(binarize=self.binarize)
        return {"score": patterns.count_union(words, probe.num_units(), [True] * len(words))}


@dataclasses.dataclass(frozen=True)
class Nwot(Proxy):
    """NASWOT: log |det K|, K_ij = number of units on which samples i and j agree.

    On ViTs the field re-draws weights from N(0, 1) and feeds noise; here the space's own
    initialisation and the real batch are used, as for every other proxy. A singular kernel gives
    -inf, status inf.
    """

    name: ClassVar[str] = "nwot"
    needs: ClassVar[frozenset[str]] = frozenset({"patterns"})

    def measure(self, probe: Probe) -> Parts:
        """The kernel [B, B] and, in the working precision, the score."""
        kernel = patterns.hamming_kernel(probe.values(), probe.num_units())
        _, score = jnp.linalg.slogdet(kernel.astype(probe.tape.logits.dtype))
        return {"score": score, "kernel": kernel}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score again in float64; the kernel is not kept."""
        _, score = np.linalg.slogdet(np.asarray(parts["kernel"], np.float64))
        return {"score": np.where(np.isnan(parts["score"]), np.nan, score)}
