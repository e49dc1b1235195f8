"""L-SWAG: per-layer gradient variance times activation-pattern count.

Source: Casarin, Lanz, Escalera, "L-SWAG: Layer-Sample Wise Activation with Gradients information
for Zero-Shot NAS on Vision Transformers", CVPR 2025 (arXiv 2505.07300), equations 1, 6, 7 and 8.

    L-SWAG   = Lambda * Psi                                                             (1)
    Lambda   = sum_{l in window} lambda_l
    lambda_l = log sum_{w in theta_l} 1 / std_i |dL_i / dw|
    bin(l)   = floor(10 l / D) of layer l of D, l = 0 .. D - 1                          (6)
    Psi      = |A|                                                                      (7)
    A        = {patterns p in {0, 1}^S of all units of layers up to the window's end}   (8)

What the paper leaves open beyond the options here is in `lswag_variant`.
"""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lswag_jax.arrays import each
from lswag_jax.capture.tape import Layer
from lswag_jax.options import Several
from lswag_jax.probe import Probe, patterns
from lswag_jax.probe.moments import moments_of
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.proxies.lambda_terms import Term, log_sum, total
from lswag_jax.spaces.depth import NUM_BINS, BinRange, BinRule, Window, can_be_in

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LSwag(Proxy):
    """L-SWAG, with the options that the paper's tables and our benchmarks vary.

    Args:
        window: first and last depth bin (0..9) of the gradient factor; None takes all layers.
        var_over: variance over samples, or over `n_batches` mini-batches of the gradient batch.
        n_batches: number of mini-batches.
        grad_abs: variance of |g| (equation 1) or of g (ZiCo's code).
        psi_range: Psi over activations up to the window's end ("prefix", equation 7), inside the
            window, or all.
        lambda_kind: "inv_std" as published; "zico" weighs by mean |g|; "none" leaves Psi alone.

    Raises:
        ValueError: an option outside its choices.

    Example:
        >>> LSwag(window=(4, 9)).passes == {"gradients", "patterns"}
        True
    """

    name: ClassVar[str] = "lswag"
    paper: ClassVar[str] = "Casarin et al., CVPR 2025"
    weakness: ClassVar[str] = "dominated by the smallest gradients"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "patterns"})
    # Fixed here, options of `LSwagVariant`.
    bins: ClassVar[BinRule] = "zero_based"
    combine: ClassVar[str] = "product"

    window: Window | None = None
    var_over: Literal["sample", "minibatch"] = "sample"
    n_batches: Several = 2
    grad_abs: bool = True
    psi_range: Literal["prefix", "window", "all"] = "prefix"
    lambda_kind: Literal["inv_std", "zico", "none"] = "inv_std"

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_window(self.window, self.bins))
        super().__post_init__()

    @property
    def passes(self) -> frozenset[str]:
        """Psi alone needs no gradients."""
        return frozenset({"patterns"}) if self.lambda_kind == "none" else self.needs

    @property
    def samples(self) -> bool | None:
        """Whether moments over samples are of |g| or of g."""
        is_read = "gradients" in self.passes and self.var_over == "sample"
        return self.grad_abs if is_read else None

    @property
    def batches(self) -> int:
        """The mini-batches, where the variance is over those."""
        return self.n_batches if self.var_over == "minibatch" else 1

    def layers_read(self, bin_range: BinRange) -> np.ndarray:
        """The layers that the window can reach."""
        return can_be_in(bin_range(self.bins), self.window)

    def measure(self, probe: Probe) -> Parts:
        """L-SWAG = Lambda * Psi (equation 1), with the parts of both factors."""
        parts = self.pattern_factor(probe)
        if self.lambda_kind == "none":
            return parts | {"score": parts["psi"]}
        parts |= self.gradient_factor(probe)
        return parts | {"score": parts["lambda"] * parts["psi"]}

    def gradient_factor(self, probe: Probe) -> Parts:
        """Lambda = sum_{l in window} lambda_l (equation 1).

        Returns:
            `lambda`; of each layer `lambda_l` [n], its depth bin `bins` [n] (-1 for a layer that is
            absent) and whether it counts, `in_window` [n]; `n_layers` that count; `empty_layers` of
            the window without a weight of non-zero deviation, which contribute 0.
        """
        return total(self.terms(probe), self.window, probe.tape.logits.dtype)

    def terms(self, probe: Probe) -> list[Term]:
        """lambda_l of each weight layer that can be in the window, in order of execution."""
        bins_L = probe.layer_bins(self.bins)  # equation 6
        reachable = np.flatnonzero(probe.can_be_in(self.window, self.bins))
        arrays = [self.layer_arrays(probe, probe.layers[i]) for i in reachable]
        if not arrays:
            return []
        lambda_n = each(self.layer_term, arrays)
        names = [probe.layers[i].name for i in reachable]
        return list(map(Term, names, bins_L[reachable], lambda_n))

    def layer_arrays(self, probe: Probe, layer: Layer) -> tuple[Array, ...]:
        """What is read of a layer: gradients [n, ...] of mini-batches, or moments over samples."""
        if self.var_over == "minibatch":
            return (probe.gradients(layer, ("kernel",), self.n_batches)["kernel"],)
        moments = probe.moments(layer, absolute=self.grad_abs)["kernel"]
        return moments.variance, moments.mean_abs

    def layer_term(self, *arrays: Array) -> Array:
        """lambda_l = log sum_{w in theta_l} 1 / sigma_w, with sigma_w = std_i |dL_i / dw|."""
        variance, mean_abs = arrays if len(arrays) > 1 else self._over_batches(*arrays)
        return log_sum(jnp.sqrt(variance), mean_abs if self.lambda_kind == "zico" else None)

    def _over_batches(self, gradients_n: Array) -> tuple[Array, Array]:
        moments = moments_of(gradients_n, self.grad_abs)
        return moments.variance, moments.mean_abs

    def pattern_factor(self, probe: Probe) -> Parts:
        """Psi, the number of distinct patterns of all units that take part (equations 7 and 8)."""
        words, units = probe.words(), probe.num_units()
        include_A = self.takes_part(probe)
        psi = patterns.count_union(words, units, include_A)
        return self.pattern_parts(probe, psi, probe.distinct(), units, include_A)

    def takes_part(self, probe: Probe) -> Array:
        """Whether each activation layer takes part in Psi, bool [A]."""
        bins_A = probe.activation_bins(self.bins)
        if self.window is None or self.psi_range == "all":
            return jnp.ones_like(bins_A, bool)
        first, last = self.window
        reached = bins_A <= last
        return reached & (bins_A >= first) if self.psi_range == "window" else reached

    def pattern_parts(
        self, probe: Probe, psi: Array, psi_A: Array, units_A: Array, include_A: Array
    ) -> Parts:
        """Psi, each layer's own patterns, and what bounds them: units and samples."""
        return {
            "psi": psi,
            "psi_l": psi_A,
            "n_units": jnp.where(include_A, units_A, 0).sum(),
            "samples": jnp.asarray(probe.activations[0].post.shape[0], jnp.int32),
        }

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parts, and how near Psi is to its bounds: the number of units, and 2^S."""
        units = np.maximum(parts["n_units"], 1).astype(np.float64)
        most = self.symbols ** np.asarray(parts["samples"], np.float64)
        kept = {key: value for key, value in parts.items() if key != "samples"}
        saturation = parts["psi"] / np.minimum(units, most)
        return kept | {"psi_per_unit": parts["psi"] / units, "psi_saturation": saturation}

    @property
    def symbols(self) -> float:
        """Symbols of a pattern: an active unit and one that is not."""
        return 2.0

    def is_degenerate(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """No pattern, or no layer of the window with a moving gradient."""
        nothing = np.asarray(parts["psi"]) <= 0
        return nothing | (np.asarray(parts["n_layers"]) <= 0) if "lambda" in parts else nothing

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores of a pool by one rule; see `Proxy.pool`.

        The published product would reward few patterns where Lambda <= 0. A pool with such a
        network has the product of the pool's ranks of both factors instead.
        """
        if "lambda" not in parts:
            return super().pool(parts, degenerate)
        lam, psi = (np.asarray(parts[key], np.float64) for key in ("lambda", "psi"))
        scores = lam * psi
        # A measurement that was not finite marks its `score` as NaN.
        measured = np.where(np.isnan(parts.get("score", scores)), np.nan, scores)
        status = self._status(measured, {"score": measured, **parts}, degenerate)
        ok = status == "ok"
        negative = ok & (lam <= 0)
        rule = "rank_product" if self.combine == "product" and negative.any() else self.combine
        if rule == "rank_product":
            scores = _ranks(np.where(ok, lam, np.nan)) * _ranks(np.where(ok, psi, np.nan))
        elif rule == "shifted" and ok.any():
            scores = (lam - np.where(ok, lam, np.inf).min(axis=0)) * psi
        status[negative] = "negative_lambda"
        return scores, status, rule


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ascending average ranks along the pool; NaN stays NaN."""
    return scipy.stats.rankdata(values, axis=0, nan_policy="omit")


def check_window(window: Sequence[Any] | None, rule: str = "zero_based") -> Window | None:
    """A window as a pair of bins, or None.

    Raises:
        ValueError: not a pair of bins in order.
    """
    if window is None:
        return None
    last = NUM_BINS if rule == "literal" else NUM_BINS - 1
    try:
        if any(isinstance(b, bool) for b in window):
            raise TypeError
        lo, hi = (int(b) if isinstance(b, str) else operator.index(b) for b in window)
    except (TypeError, ValueError):
        raise ValueError(
            f"window must be None or two bins (first, last), got {window!r}."
        ) from None
    if not 0 <= lo <= hi <= last:
        raise ValueError(f"window must hold bins 0 <= first <= last <= {last}, got {(lo, hi)}.")
    return lo, hi
