"""L-SWAG: per-layer gradient variance times activation-pattern count.

Source: Casarin, Lanz, Escalera, "L-SWAG: Layer-Sample Wise Activation with Gradients information
for Zero-Shot NAS on Vision Transformers", CVPR 2025 (arXiv 2505.07300), equations 1, 6, 7 and 8.

    Lambda = sum_{l in window} log sum_{w in theta_l} 1 / std_i |dL_i / dw|
    Psi    = number of distinct binary patterns over the samples, of all units up to its end
    L-SWAG = Lambda * Psi
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lswag_jax.options import BelowOne, Natural, NonNegative, Several
from lswag_jax.probe import Probe, patterns
from lswag_jax.probe.patterns import Binarize, TokenReduce
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.proxies.gradient_factor import gradient_factor
from lswag_jax.spaces.depth import NUM_BINS, BinRange, BinRule, Window, can_be_in

Array = jax.Array
Combine = Literal["product", "rank_product", "shifted"]


@dataclasses.dataclass(frozen=True)
class LSwag(Proxy):
    """L-SWAG, with an option for each thing that the paper leaves open.

    Args:
        window: first and last depth bin (0..9) of the gradient factor; None takes all layers.
        var_over: variance over samples, or over `n_batches` mini-batches of the gradient batch.
        n_batches: number of mini-batches.
        grad_abs: variance of |g| (equation 1) or of g (ZiCo's code).
        ddof: delta degrees of freedom of the variance.
        sigma_floor: standard deviations in (0, floor) count as the floor.
        sigma_floor_relative: the same with a floor of this times the layer's median.
        trim: drops this quantile of the smallest standard deviations of a layer.
        layers: sums per weight layer; "split_qkv" sums queries, keys and values by themselves;
            "block" pools the layers of an attention or an MLP, at the depth of its first one.
        exclude_head, exclude_stem: leave out the last, the first weight layer.
        include_bias: a layer's weights include its bias.
        include_norm: normalisation layers have sums of their own.
        bins: how a layer's depth is cut into bins (equation 6): "zero_based", "one_based" with the
            last bin clipped, or "literal" with eleven bins.
        psi_range: Psi over activations up to the window's end ("prefix", equation 7), inside the
            window, or all.
        psi_reduce: distinct patterns of the union of layers, or sum, mean or sum of logs of the
            layers' own numbers.
        binarize: "positive" or "sign3", see `patterns.pack`.
        threshold: an activation above it sets the bit.
        token_reduce: "none", "mean" or "cls", see `patterns.units`.
        loss_reduction: loss of an observation is the mean or sum over its samples (the same for
            var_over="sample"), or the per-sample loss over the batch size.
        scale_free: divides standard deviations by their median over the layers of the window.
        tail_share: also report the share of each layer's sum that the largest 0.1 % of its 1/std
            carry; it sorts every layer's weights.
        combine: how a pool's scores are made of the factors: product as published, product of pool
            ranks, or product with Lambda minus the pool's minimum. "product" gives way to
            "rank_product" in a pool with a Lambda <= 0, where it would reward few patterns.
        lambda_kind: "inv_std" as published; "zico" weighs by mean |g|; "none" leaves Psi alone.

    Raises:
        ValueError: an option outside its choices.

    Example:
        >>> LSwag(window=(4, 9), psi_reduce="sum").passes == {"gradients", "patterns"}
        True
    """

    name: ClassVar[str] = "lswag"
    paper: ClassVar[str] = "Casarin et al., CVPR 2025"
    weakness: ClassVar[str] = "dominated by the smallest gradients"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "patterns"})

    window: Window | None = None
    var_over: Literal["sample", "minibatch"] = "sample"
    n_batches: Several = 2
    grad_abs: bool = True
    ddof: Natural = 0
    sigma_floor: NonNegative = 0.0
    sigma_floor_relative: NonNegative = 0.0
    trim: BelowOne = 0.0
    layers: Literal["layer", "split_qkv", "block"] = "layer"
    exclude_head: bool = False
    exclude_stem: bool = False
    include_bias: bool = False
    include_norm: bool = False
    bins: BinRule = "zero_based"
    psi_range: Literal["prefix", "window", "all"] = "prefix"
    psi_reduce: Literal["union", "sum", "mean", "logsum"] = "union"
    binarize: Binarize = "positive"
    threshold: NonNegative = 0.0
    token_reduce: TokenReduce = "none"
    loss_reduction: Literal["mean", "sum", "batch_mean"] = "mean"
    scale_free: bool = False
    tail_share: bool = False
    combine: Combine = "product"
    lambda_kind: Literal["inv_std", "zico", "none"] = "inv_std"

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_window(self.window, self.bins))
        super().__post_init__()
        if self.include_bias and self.layers == "split_qkv":
            raise ValueError("include_bias of lswag cannot be combined with layers='split_qkv'.")

    @property
    def passes(self) -> frozenset[str]:
        """Psi alone needs no gradients."""
        return frozenset({"patterns"}) if self.lambda_kind == "none" else self.needs

    @property
    def samples(self) -> bool | None:
        """Its moments over samples are of |g| or of g."""
        is_read = "gradients" in self.passes and self.var_over == "sample"
        return self.grad_abs if is_read else None

    @property
    def batches(self) -> int:
        """Its mini-batches, where the variance is over those."""
        return self.n_batches if self.var_over == "minibatch" else 1

    def first_layer(self, bin_range: BinRange) -> int:
        """The first layer that the window can reach; normalisation layers have no range."""
        if self.include_norm:
            return 0
        reached = can_be_in(bin_range(self.bins), self.window)
        return int(np.argmax(reached)) if reached.any() else len(reached)

    def measure(self, probe: Probe) -> Parts:
        """Both factors and their parts of one architecture."""
        parts = self._psi(probe)
        if self.lambda_kind == "none":
            return parts | {"score": parts["psi"]}
        parts |= gradient_factor(self, probe)
        return parts | {"score": parts["lambda"] * parts["psi"]}

    def _psi(self, probe: Probe) -> Parts:
        """Psi (equations 7 and 8) and the distinct patterns of each layer."""
        bits = (self.token_reduce, self.threshold, self.binarize)
        words, psi_A = probe.words(*bits), probe.distinct(*bits)
        num_units = probe.num_units(self.token_reduce)
        include = self._psi_layers(probe)
        if self.psi_reduce == "union":
            psi = patterns.count_union(words, num_units, list(include))
        else:
            chosen = jnp.where(include, psi_A, 0).astype(probe.tape.logits.dtype)
            psi = {
                "sum": chosen.sum(),
                "mean": chosen.sum() / jnp.maximum((include & (psi_A > 0)).sum(), 1),
                "logsum": jnp.log(jnp.maximum(chosen, 1)).sum(),
            }[self.psi_reduce]
        units = jnp.stack([jnp.asarray(n, jnp.int32) for n in num_units])
        return {
            "psi": psi,
            "psi_l": psi_A,
            "n_units": jnp.where(include, units, 0).sum(),
            "samples": jnp.asarray(probe.activations[0].post.shape[0], jnp.int32),
        }

    def _psi_layers(self, probe: Probe) -> Array:
        """Whether each activation layer takes part in Psi, bool [A]."""
        bins = probe.activation_bins(self.bins)
        if self.window is None or self.psi_range == "all":
            return jnp.ones_like(bins, bool)
        inside = bins <= self.window[1]
        return inside & (bins >= self.window[0]) if self.psi_range == "window" else inside

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The parts, and how near Psi is to its bounds: the number of units, and 2^S or 3^S."""
        units = np.maximum(parts["n_units"], 1).astype(np.float64)
        symbols = 3.0 if self.binarize == "sign3" else 2.0
        bound = np.minimum(units, symbols ** np.asarray(parts["samples"], np.float64))
        kept = {key: value for key, value in parts.items() if key != "samples"}
        return kept | {"psi_per_unit": parts["psi"] / units, "psi_saturation": parts["psi"] / bound}

    def is_degenerate(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """No pattern, or no layer of the window with a moving gradient."""
        nothing = np.asarray(parts["psi"]) <= 0
        return nothing | (np.asarray(parts["n_layers"]) <= 0) if "lambda" in parts else nothing

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores of a pool by one rule; see `Proxy.pool`."""
        if "lambda" not in parts:
            return super().pool(parts, degenerate)
        lam, psi = (np.asarray(parts[key], np.float64) for key in ("lambda", "psi"))
        scores = lam * psi
        # A measurement that was not finite marks its `score` as NaN.
        measured = np.where(np.isnan(parts.get("score", scores)), np.nan, scores)
        status = self._status(measured, parts, degenerate)
        ok = status == "ok"
        negative = ok & (lam <= 0)
        rule = self.combine
        if rule == "product" and negative.any():
            rule = "rank_product"
        if rule == "rank_product":
            scores = _rank(np.where(ok, lam, np.nan)) * _rank(np.where(ok, psi, np.nan))
        elif rule == "shifted" and ok.any():
            scores = (lam - np.where(ok, lam, np.inf).min(axis=0)) * psi
        status[negative] = "negative_lambda"
        return scores, status, rule


def _rank(values: np.ndarray) -> np.ndarray:
    """Ascending average ranks along the pool; NaN stays NaN."""
    return scipy.stats.rankdata(values, axis=0, nan_policy="omit")


def check_window(window, rule: str = "zero_based") -> Window | None:
    """A window as a pair of bins, or None.

    Raises:
        ValueError: not a pair of bins in order.
    """
    if window is None:
        return None
    last = NUM_BINS if rule == "literal" else NUM_BINS - 1
    try:
        lo, hi = (int(b) for b in window)
    except (TypeError, ValueError):
        raise ValueError(
            f"window must be None or two bins (first, last), got {window!r}."
        ) from None
    if not 0 <= lo <= hi <= last:
        raise ValueError(f"window must hold bins 0 <= first <= last <= {last}, got {(lo, hi)}.")
    return lo, hi
