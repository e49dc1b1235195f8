"""What L-SWAG's paper leaves open, as options beside those of `LSwag`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture.tape import Layer
from lswag_jax.options import Natural, NonNegative, ShareBelowOne
from lswag_jax.probe import Moments, Probe, patterns
from lswag_jax.probe.patterns import Binarize, TokenReduce
from lswag_jax.proxies.base import Parts
from lswag_jax.proxies.lambda_terms import Term, in_window, log_sum, total
from lswag_jax.proxies.lswag import LSwag
from lswag_jax.spaces.depth import NUM_BINS, BinRange, BinRule, can_be_in

Array = jax.Array
Combine = Literal["product", "rank_product", "shifted"]


@dataclasses.dataclass(frozen=True)
class LSwagVariant(LSwag):
    """L-SWAG with every option of the method that has an effect; `proxies.get` makes it by need.

    Args:
        ddof: delta degrees of freedom of the variance.
        sigma_floor: standard deviations in (0, floor) count as the floor.
        sigma_floor_relative: the same with a floor of this times the layer's median.
        trim: drops this quantile of the smallest standard deviations of a layer.
        layers: sums per weight layer; "split_qkv" sums queries, keys and values by themselves;
            "block" pools the layers of an attention or an MLP, at the depth of its first one.
        exclude_head, exclude_stem: leave out the last, the first weight layer.
        include_bias: a layer's weights include its bias.
        include_norm: adds a sum for each normalisation layer.
        bins: how a layer's depth is cut into bins (equation 6): "zero_based", "one_based" with the
            last bin clipped, or "literal" with eleven bins.
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
            ranks, or product with Lambda minus the pool's minimum.

    Raises:
        ValueError: an option outside its choices.

    Example:
        >>> LSwagVariant(window=(4, 9), psi_reduce="sum").name
        'lswag'
    """

    name: ClassVar[str] = "lswag"

    ddof: Natural = 0
    sigma_floor: NonNegative = 0.0
    sigma_floor_relative: NonNegative = 0.0
    trim: ShareBelowOne = 0.0
    layers: Literal["layer", "split_qkv", "block"] = "layer"
    exclude_head: bool = False
    exclude_stem: bool = False
    include_bias: bool = False
    include_norm: bool = False
    bins: BinRule = "zero_based"  # type: ignore[misc]
    psi_reduce: Literal["union", "sum", "mean", "logsum"] = "union"
    binarize: Binarize = "positive"
    threshold: NonNegative = 0.0
    token_reduce: TokenReduce = "none"
    loss_reduction: Literal["mean", "sum", "batch_mean"] = "mean"
    scale_free: bool = False
    tail_share: bool = False
    combine: Combine = "product"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.include_bias and self.layers == "split_qkv":
            raise ValueError("include_bias of lswag cannot be combined with layers='split_qkv'.")

    def layers_read(self, bin_range: BinRange) -> np.ndarray:
        """The layers that the window can reach; normalisation layers have no range."""
        window = None if self.include_norm else self.window
        return can_be_in(bin_range(self.bins), window)

    # Lambda ---------------------------------------------------------------------------------------

    def gradient_factor(self, probe: Probe) -> Parts:
        """Lambda; deviations may be divided by their median, the tail's share reported."""
        terms = self.terms(probe)
        scale = _median_sigma(terms, self.window) if self.scale_free and terms else None
        parts = total(terms, self.window, probe.tape.logits.dtype, scale)
        if self.tail_share and terms:
            parts["tail_share"] = jnp.stack([_tail_share(term.sigmas) for term in terms])
        return parts

    def terms(self, probe: Probe) -> list[Term]:
        """Terms of layers, blocks and normalisation layers that can be in the window."""
        bins_L = probe.layer_bins(self.bins)
        reachable_L = probe.can_be_in(self.window, self.bins)
        if self.layers == "block":
            bins_L, reachable_L = _block_depths(probe, bins_L, reachable_L)
        last = len(probe.layers) - 1
        terms = []
        for i, layer in enumerate(probe.layers):
            left_out = (self.exclude_stem and i == 0) or (self.exclude_head and i == last)
            if reachable_L[i] and not left_out:
                terms += self.layer_terms(probe, layer, bins_L[i])
        terms += self._norm_terms(probe) if self.include_norm else []
        return _pool_blocks(terms) if self.layers == "block" else terms

    def _norm_terms(self, probe: Probe) -> list[Term]:
        terms = []
        for norm in (norm for norm in probe.tape.norms if norm.params):
            # A normalisation layer stands where the weight layer after it does.
            depth_bin = probe.bin_after(norm.calls[0].num_layers_before, self.bins)
            for term in self.layer_terms(probe, norm, depth_bin):
                is_present = term.log_sum > -jnp.inf  # an elastic network may lack it
                terms.append(term._replace(bin=jnp.where(is_present, depth_bin, -1)))
        return terms

    def layer_terms(self, probe: Probe, layer: Layer, depth_bin: Array) -> list[Term]:
        """One term of a layer's parameters, or one each of queries, keys and values."""
        names = tuple(layer.params) if layer.kind == "norm" else ("kernel",)
        if self.include_bias and layer.kind == "weight" and "bias" in layer.params:
            names += ("bias",)
        by_name = self._moments(probe, layer, names)
        if self.layers == "split_qkv" and layer.name.rsplit("/", 1)[-1] == "qkv":
            groups = [(third,) for third in thirds(by_name["kernel"])]
        else:
            groups = [tuple(by_name[name] for name in names)]
        return [self._term(layer.name, depth_bin, group) for group in groups]

    def _moments(self, probe: Probe, layer: Layer, names: tuple[str, ...]) -> dict[str, Moments]:
        """Moments of parameters, of the losses that `loss_reduction` asks for."""
        batch = layer.calls[0].inputs.shape[0]
        is_minibatch = self.var_over == "minibatch"
        per_mean = batch // self.n_batches if is_minibatch else 1
        scales = {"mean": 1.0, "sum": per_mean, "batch_mean": per_mean / batch}
        return probe.moments(
            layer,
            names,
            batches=self.n_batches if is_minibatch else None,
            absolute=self.grad_abs,
            scale=scales[self.loss_reduction],
            ddof=self.ddof,
        )

    def _term(self, name: str, depth_bin: Array, moments: tuple[Moments, ...]) -> Term:
        sigmas = [self._condition(jnp.sqrt(m.variance)) for m in moments]
        sums = [
            log_sum(sigma, m.mean_abs if self.lambda_kind == "zico" else None)
            for sigma, m in zip(sigmas, moments, strict=True)
        ]
        return Term(name, depth_bin, jax.nn.logsumexp(jnp.stack(sums)), sigmas)

    def _condition(self, sigma: Array) -> Array:
        """Floors and trims the positive deviations of one parameter; 0 means left out."""
        positive = sigma > 0
        if self.sigma_floor:
            sigma = jnp.where(positive, jnp.maximum(sigma, self.sigma_floor), 0)
        if self.sigma_floor_relative or self.trim:
            known = jnp.where(positive, sigma, jnp.nan)
            if self.sigma_floor_relative:
                floor = self.sigma_floor_relative * jnp.nanmedian(known)
                sigma = jnp.where(positive, jnp.maximum(sigma, floor), 0)
            if self.trim:
                sigma = jnp.where(known >= jnp.nanquantile(known, self.trim), sigma, 0)
        return sigma

    # Psi ------------------------------------------------------------------------------------------

    def pattern_factor(self, probe: Probe) -> Parts:
        """Psi of patterns cut, reduced and counted as the options say."""
        bits = (self.token_reduce, self.threshold, self.binarize)
        psi_A, units = probe.distinct(*bits), probe.num_units(self.token_reduce)
        include_A = self.takes_part(probe)
        if self.psi_reduce == "union":
            psi = patterns.count_union(probe.words(*bits), units, include_A)
        else:
            chosen_A = jnp.where(include_A, psi_A, 0).astype(probe.tape.logits.dtype)
            number = jnp.maximum((include_A & (psi_A > 0)).sum(), 1)
            reduce: Mapping[str, Callable[[], Array]] = {
                "sum": chosen_A.sum,
                "mean": lambda: chosen_A.sum() / number,
                "logsum": lambda: jnp.log(jnp.maximum(chosen_A, 1)).sum(),
            }
            psi = reduce[self.psi_reduce]()
        return self.pattern_parts(probe, psi, psi_A, units, include_A)

    @property
    def symbols(self) -> float:
        """Symbols of a pattern."""
        return 3.0 if self.binarize == "sign3" else 2.0


def _block_depths(probe: Probe, bins: Array, possible: np.ndarray) -> tuple[list, np.ndarray]:
    """Depth bin of each layer's block, which is that of the block's first present layer.

    And whether the block can be in the window as far as this layer and those before it say.
    """
    groups: dict[str, list[int]] = {}
    for i, layer in enumerate(probe.layers):
        groups.setdefault(_block(layer.name), []).append(i)
    depths, reached = list(bins), possible.copy()
    for members in groups.values():
        block_bins = bins[np.array(members)]
        first = jnp.where(block_bins >= 0, block_bins, NUM_BINS + 1).min()
        for i in members:
            depths[i] = jnp.where(first > NUM_BINS, -1, first)
        reached[members] = np.logical_or.accumulate(possible[members])
    return depths, reached


def thirds(kernel: Moments) -> list[Moments]:
    """Cuts the moments of a qkv kernel into those of queries, keys and values.

    Args:
        kernel: of a layer's kernel [D, 3, H, K] or [D, 3 W].

    Raises:
        ValueError: a kernel of another shape.
    """
    shape = kernel.mean.shape
    if len(shape) == 4 and shape[1] == 3:
        return [Moments(*(m[:, part] for m in kernel)) for part in range(3)]
    if len(shape) == 2 and shape[1] % 3 == 0:
        parts = zip(*(jnp.split(m, 3, axis=1) for m in kernel), strict=True)
        return [Moments(*part) for part in parts]
    raise ValueError(
        "layers='split_qkv' of lswag needs kernels of qkv of shape [inputs, 3, heads, head_dim] or "
        f"[inputs, 3 * width], got {shape}."
    )


def _tail_share(sigmas: Sequence[Array], share: float = 1e-3) -> Array:
    """Share of sum_w 1/sigma_w that the largest `share` of its terms carry; 0 for an empty sum."""
    sigma = jnp.concatenate([s.ravel() for s in sigmas])
    sigma = jnp.sort(jnp.where(sigma > 0, sigma, jnp.inf))  # the largest 1/sigma first
    ratio = sigma[0] / sigma
    ratio = jnp.where(jnp.isfinite(sigma), ratio, 0)
    top = jnp.arange(sigma.size) < jnp.ceil(share * jnp.isfinite(sigma).sum())
    return jnp.where(top, ratio, 0).sum() / jnp.maximum(ratio.sum(), 1)


def _median_sigma(terms: list[Term], window) -> Array:
    """Median of the positive deviations of all terms that count."""
    sigmas = [
        jnp.where((sigma > 0) & in_window(term.bin, window), sigma, jnp.nan).ravel()
        for term in terms
        for sigma in term.sigmas
    ]
    return jnp.nanmedian(jnp.concatenate(sigmas))


def _block(name: str) -> str:
    """The module that holds a layer; of a layer at the top, the layer itself."""
    return name.rpartition("/")[0] or name


def _pool_blocks(terms: list[Term]) -> list[Term]:
    """One term an attention or MLP, by the module that holds its layers; the others stay."""
    groups: dict[str, list[Term]] = {}
    for term in terms:
        groups.setdefault(_block(term.name), []).append(term)
    return [
        Term(
            name,
            group[0].bin,
            jax.nn.logsumexp(jnp.stack([term.log_sum for term in group])),
            [sigma for term in group for sigma in term.sigmas],
        )
        for name, group in groups.items()
    ]
