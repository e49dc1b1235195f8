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
        mu, sigma: of regularised SWAP, which multiplies by exp(-(P - mu)^2 / sigma), with P, mu and
            sigma in thousands of parameters; None for none.

    Raises:
        ValueError: another binarisation, or one of mu and sigma without the other.
    """

    name: ClassVar[str] = "swap"
    paper: ClassVar[str] = "Peng et al., ICLR 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"patterns"})

    data: ClassVar[str] = "images"
    weakness: ClassVar[str] = "saturates at 2^B patterns; grows with size"

    binarize: str = "positive"
    mu: float | None = None
    sigma: float | None = None

    def __post_init__(self) -> None:
        if (self.mu is None) != (self.sigma is None) or (self.sigma or 1) <= 0:
            raise ValueError(
                "regularised swap needs mu and a positive sigma, in thousands of parameters, got "
                f"{self.mu} and {self.sigma}."
            )
        self._check_choice("binarize", patterns.BINARIZE)

    def measure(self, probe: Probe) -> Parts:
        """The number of patterns."""
        words = probe.words(binarize=self.binarize)
        return {"score": patterns.count_union(words, probe.num_units(), [True] * len(words))}

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores, regularised where that is asked for, status and the rule."""
        scores, status, rule = super().pool(parts, degenerate)
        if self.mu is None:
            return scores, status, rule
        distance = np.asarray(parts["params"], np.float64) / 1000 - self.mu
        return scores * np.exp(-(distance**2) / self.sigma), status, "regularised"


@dataclasses.dataclass(frozen=True)
class Nwot(Proxy):
    """NASWOT: log |det K|, K_ij = number of units on which samples i and j agree.

    On ViTs the field re-draws weights from N(0, 1) and feeds noise; here the space's own
    initialisation and the real batch are used, as for every other proxy. A singular kernel gives
    -inf, status inf.
    """

    name: ClassVar[str] = "nwot"
    paper: ClassVar[str] = "Mellor et al., ICML 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"patterns"})
    data: ClassVar[str] = "images"
    weakness: ClassVar[str] = "singular where two samples have equal patterns"

    def measure(self, probe: Probe) -> Parts:
        """The kernel [B, B] and, in the working precision, the score."""
        kernel = patterns.hamming_kernel(probe.values(), probe.num_units())
        _, score = jnp.linalg.slogdet(kernel.astype(probe.tape.logits.dtype))
        return {"score": score, "kernel": kernel}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score again in float64; the kernel is not kept."""
        _, score = np.linalg.slogdet(np.asarray(parts["kernel"], np.float64))
        return {"score": np.where(np.isnan(parts["score"]), np.nan, score)}
