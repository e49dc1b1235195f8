"""Proxies of the activation patterns alone: SWAP and NASWOT.

Sources: Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-Fast NAS", ICLR 2024
(code pym1024/SWAP, SWAP_Universal); Mellor et al., "Neural Architecture Search without Training",
ICML 2021 (code BayesWatch/nas-without-training, automl/NASLib).
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture import tape
from lswag_jax.probe import Probe, patterns
from lswag_jax.proxies.base import Parts, Proxy, log_determinants


@dataclasses.dataclass(frozen=True)
class _Patterns(Proxy):
    """Base of proxies that read the activations, or those with other weights or images.

    Args:
        init: "space" keeps the weights; "normal01" draws kernels from N(0, 1), as
            `NAME/LAYER/kernel`, with zero biases and fresh normalisation.
        images: "real" ones, or "noise" from N(0, 1), drawn as `NAME/images` [B, H, W, C].

    Raises:
        ValueError: another option.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"patterns"})
    data: ClassVar[str] = "images"

    init: Literal["space", "normal01"] = dataclasses.field(default="space", kw_only=True)
    images: Literal["real", "noise"] = dataclasses.field(default="real", kw_only=True)

    @property
    def _is_shared(self) -> bool:
        """Whether the pass is the one that all proxies share."""
        return self.init == "space" and self.images == "real"

    def _values(self, probe: Probe) -> list[jax.Array]:
        """Unit values [B, U_a] of each activation layer; zero for an absent layer."""
        if self._is_shared:
            return probe.values()
        images, weights = probe.all_images, None
        if self.images == "noise":
            images = probe.noise(f"{self.name}/images", len(images))
        if self.init == "normal01":
            weights = probe.draws.weights(self.name, probe.candidate)
        recorded = tape.record(probe.candidate.network(variables=weights), images)
        return [
            jnp.where(units > 0, patterns.units(a.post), 0)
            for units, a in zip(probe.num_units(), recorded.activations, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Swap(_Patterns):
    """SWAP: number of distinct patterns over the samples among all units of all layers.

    The published code draws weights from N(0, 1) 32 times: `init` and the scorer's `repeats`.

    Args:
        binarize: "positive", or "sign3" for the three symbols of the code's `sign` (differs only
            where an activation is exactly zero while others are negative, as in saturated GELU).
        mu, sigma: of regularised SWAP, which multiplies by exp(-(P - mu)^2 / sigma), with P, mu and
            sigma in thousands of parameters; None for none.
        init: "space" keeps the weights, "normal01" draws the kernels from N(0, 1).
        images: "real", or "noise" from N(0, 1).

    Raises:
        ValueError: another option, or one of mu and sigma without the other.
    """

    name: ClassVar[str] = "swap"
    paper: ClassVar[str] = "Peng et al., ICLR 2024"
    weakness: ClassVar[str] = "saturates at 2^B patterns; grows with size"

    binarize: patterns.Binarize = "positive"
    mu: float | None = None
    sigma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mu is None) != (self.sigma is None) or (self.sigma or 1) <= 0:
            raise ValueError(
                "regularised swap needs mu and a positive sigma, in thousands of parameters, got "
                f"{self.mu} and {self.sigma}."
            )

    def measure(self, probe: Probe) -> Parts:
        """The number of patterns."""
        if self._is_shared:
            words = probe.words(binarize=self.binarize)
        else:
            words = [patterns.pack(v, binarize=self.binarize) for v in self._values(probe)]
        return {"score": patterns.count_union(words, probe.num_units(), [True] * len(words))}

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores, regularised where that is asked for, status and the rule."""
        scores, status, rule = super().pool(parts, degenerate)
        if self.mu is None:
            return scores, status, rule
        assert self.sigma is not None  # as `mu`
        distance = np.asarray(parts["params"], np.float64) / 1000 - self.mu
        return scores * np.exp(-(distance**2) / self.sigma), status, "regularised"


@dataclasses.dataclass(frozen=True)
class Nwot(_Patterns):
    """NASWOT: log |det K|, K_ij = number of units on which samples i and j agree.

    By default the space's own initialisation and the real batch are used, as for every other proxy;
    on ViTs the field re-draws weights from N(0, 1) and feeds noise. A singular kernel gives -inf,
    status inf.

    Args:
        init: "space" keeps the weights, "normal01" draws the kernels from N(0, 1).
        images: "real", or "noise" from N(0, 1).

    Raises:
        ValueError: another option.
    """

    name: ClassVar[str] = "nwot"
    paper: ClassVar[str] = "Mellor et al., ICML 2021"
    weakness: ClassVar[str] = "singular where two samples have equal patterns"

    def measure(self, probe: Probe) -> Parts:
        """The kernel [B, B] and, in the working precision, the score."""
        kernel = patterns.hamming_kernel(self._values(probe), probe.num_units())
        _, score = jnp.linalg.slogdet(
            kernel.astype(jnp.promote_types(probe.tape.logits.dtype, jnp.float32))
        )
        return {"score": score, "kernel": kernel}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score again in float64; the kernel is not kept."""
        score = log_determinants(parts["kernel"])
        return {"score": np.where(np.isnan(parts["score"]), np.nan, score)}
