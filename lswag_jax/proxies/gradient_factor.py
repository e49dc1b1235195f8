"""The gradient factor of L-SWAG and ZiCo: log-sums over weights of 1/std, layer by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture.tape import Layer
from lswag_jax.probe import Probe
from lswag_jax.probe.moments import Moments
from lswag_jax.proxies.base import Parts
from lswag_jax.spaces.depth import NUM_BINS

Array = jax.Array


class Term(NamedTuple):
    """One log-sum: the layer it is of, its depth bin, and the deviations that enter."""

    name: str
    bin: Array
    sigmas: list[Array]
    log_sum: Array


def gradient_factor(options: Any, probe: Probe) -> Parts:
    """Lambda = sum_l lambda_l over the window, lambda_l = log sum_w weight_w / sigma_w.

    Args:
        options: the options of `LSwag` that concern gradients.
        probe: with gradients.

    Returns:
        `lambda`; of each term `lambda_l` [n], its depth bin `bins` [n] (-1 for a layer that is not
        there) and whether it counts, `in_window` [n]; `n_layers` terms that count; `empty_layers`
        terms of the window without a weight of non-zero deviation, which contribute 0; and with
        the option `tail_share` [n].
    """
    terms = _terms(options, probe)
    if options.layers == "block":
        terms = _pool_blocks(terms)
    if not terms:  # no architecture of the space has a layer in the window
        none = jnp.zeros(0, probe.tape.logits.dtype)
        zero = jnp.zeros((), jnp.int32)
        counts = {"n_layers": zero, "empty_layers": zero}
        layers = {"lambda_l": none, "in_window": none > 0, "bins": none.astype(jnp.int32)}
        return {"lambda": none.sum()} | layers | counts
    bins = jnp.stack([term.bin for term in terms])
    lambda_n = jnp.stack([term.log_sum for term in terms])
    lo, hi = options.window or (0, NUM_BINS)
    selected = (bins >= lo) & (bins <= hi)
    empty = lambda_n == -jnp.inf  # the log of an empty sum
    used = selected & ~empty
    if options.scale_free:
        lambda_n = lambda_n + jnp.log(_median_sigma(terms, used))
    parts = {
        "lambda": jnp.where(used, lambda_n, 0).sum(),
        "lambda_l": jnp.where(empty, 0, lambda_n),
        "bins": bins,
        "in_window": used,
        "n_layers": used.sum(),
        "empty_layers": (selected & empty).sum(),
    }
    if options.tail_share:
        parts["tail_share"] = jnp.stack([_tail_share(term.sigmas) for term in terms])
    return parts


def _terms(options: Any, probe: Probe) -> list[Term]:
    """Terms of Lambda whose layer can be in the window, in order of execution."""
    bins, possible = probe.layer_bins(options.bins), probe.can_be_in(options.window, options.bins)
    if options.layers == "block":
        bins, possible = _block_depths(probe, bins, possible)
    last = len(probe.layers) - 1
    terms = []
    for i, layer in enumerate(probe.layers):
        left_out = (options.exclude_stem and i == 0) or (options.exclude_head and i == last)
        if possible[i] and not left_out:
            terms += _layer_terms(options, probe, layer, bins[i])
    norms = [norm for norm in probe.tape.norms if norm.params]
    for norm in norms if options.include_norm else ():
        # A normalisation layer stands where the weight layer after it does.
        depth_bin = probe.bin_after(norm.calls[0].after, options.bins)
        for term in _layer_terms(options, probe, norm, depth_bin):
            is_there = term.log_sum > -jnp.inf  # an elastic network may not have it
            terms.append(term._replace(bin=jnp.where(is_there, depth_bin, -1)))
    return terms


def _block_depths(probe: Probe, bins: Array, possible: np.ndarray) -> tuple[list, np.ndarray]:
    """For each layer its block's depth bin, that of the first layer that is there.

    And whether the block can be in the window as far as this layer and those before it say.
    """
    groups: dict[str, list[int]] = {}
    for i, layer in enumerate(probe.layers):
        groups.setdefault(_block(layer.name), []).append(i)
    depths, reached = list(bins), possible.copy()
    for members in groups.values():
        own = bins[np.array(members)]
        first = jnp.where(own >= 0, own, NUM_BINS + 1).min()
        for i in members:
            depths[i] = jnp.where(first > NUM_BINS, -1, first)
        reached[members] = np.logical_or.accumulate(possible[members])
    return depths, reached


def _layer_terms(options: Any, probe: Probe, layer: Layer, depth_bin: Array) -> list[Term]:
    names = tuple(layer.params) if layer.kind == "norm" else ("kernel",)
    if options.include_bias and layer.kind == "weight" and "bias" in layer.params:
        names += ("bias",)
    batch = layer.calls[0].inputs.shape[0]
    minibatch = options.var_over == "minibatch"
    per_mean = batch // options.n_batches if minibatch else 1
    moments = probe.moments(
        layer,
        names,
        batches=options.n_batches if minibatch else None,
        absolute=options.grad_abs,
        scale={"mean": 1.0, "sum": per_mean, "batch_mean": per_mean / batch}[
            options.loss_reduction
        ],
        ddof=options.ddof,
    )
    parts = [(moments[name],) for name in names]
    if options.layers == "split_qkv" and layer.name.rsplit("/", 1)[-1] == "qkv":
        parts = [(third,) for third in _thirds(moments["kernel"])]
    else:
        parts = [tuple(moment for (moment,) in parts)]
    return [_term(options, layer.name, depth_bin, part) for part in parts]


def _thirds(kernel: Moments) -> list[Moments]:
    """Those of queries, keys and values.

    Args:
        kernel: of a layer's kernel [D, 3, H, K] or [D, 3 W].

    Raises:
        ValueError: a kernel of another shape.
    """
    shape = kernel.mean.shape
    if len(shape) == 4 and shape[1] == 3:
        return [Moments(*(m[:, part] for m in kernel)) for part in range(3)]
    if len(shape) == 2 and shape[1] % 3 == 0:
        thirds = zip(*(jnp.split(m, 3, axis=1) for m in kernel), strict=True)
        return [Moments(*third) for third in thirds]
    raise ValueError(
        "layers='split_qkv' of lswag needs kernels of qkv of shape [inputs, 3, heads, head_dim] or "
        f"[inputs, 3 * width], got {shape}."
    )


def _term(options: Any, name: str, depth_bin: Array, moments: tuple[Moments, ...]) -> Term:
    sigmas = [_condition(options, jnp.sqrt(m.variance)) for m in moments]
    weighted = options.lambda_kind == "zico"
    sums = [
        log_sum(s, m.mean_abs if weighted else None) for s, m in zip(sigmas, moments, strict=True)
    ]
    return Term(name, depth_bin, sigmas, jax.nn.logsumexp(jnp.stack(sums)))


def log_sum(sigma: Array, weight: Array | None = None) -> Array:
    """log sum_w weight_w / sigma_w over the weights with sigma_w > 0; -inf where there is none.

    The smallest sigma is taken out of the sum first, so that values of 1e12 do no harm. A sigma
    that is NaN or infinite makes the result so.
    """
    positive = sigma > 0
    smallest = jnp.where(positive, sigma, jnp.inf).min()
    smallest = jnp.where(jnp.isfinite(smallest), smallest, 1.0)
    ratio = jnp.where(positive, smallest / jnp.where(positive, sigma, 1.0), 0.0)
    total = (ratio if weight is None else weight * ratio).sum()
    value = jnp.log(total) - jnp.log(smallest)
    largest = sigma.max()
    return jnp.where(jnp.isfinite(largest), value, largest)


def _condition(options: Any, sigma: Array) -> Array:
    """Floors and trims the positive deviations of one parameter; 0 means left out."""
    positive = sigma > 0
    if options.sigma_floor:
        sigma = jnp.where(positive, jnp.maximum(sigma, options.sigma_floor), 0)
    if options.sigma_floor_relative or options.trim:
        known = jnp.where(positive, sigma, jnp.nan)
        if options.sigma_floor_relative:
            floor = options.sigma_floor_relative * jnp.nanmedian(known)
            sigma = jnp.where(positive, jnp.maximum(sigma, floor), 0)
        if options.trim:
            sigma = jnp.where(known >= jnp.nanquantile(known, options.trim), sigma, 0)
    return sigma


def _tail_share(sigmas: list[Array], share: float = 1e-3) -> Array:
    """Share of sum_w 1/sigma_w that the largest `share` of its terms carry; 0 for an empty sum."""
    sigma = jnp.concatenate([s.ravel() for s in sigmas])
    sigma = jnp.sort(jnp.where(sigma > 0, sigma, jnp.inf))  # the largest 1/sigma first
    ratio = sigma[0] / sigma
    ratio = jnp.where(jnp.isfinite(sigma), ratio, 0)
    top = jnp.arange(sigma.size) < jnp.ceil(share * jnp.isfinite(sigma).sum())
    return jnp.where(top, ratio, 0).sum() / jnp.maximum(ratio.sum(), 1)


def _median_sigma(terms: list[Term], used: Array) -> Array:
    """Median of the positive deviations of all terms that count."""
    sigmas = [
        jnp.where((sigma > 0) & used[i], sigma, jnp.nan).ravel()
        for i, term in enumerate(terms)
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
            [sigma for term in group for sigma in term.sigmas],
            jax.nn.logsumexp(jnp.stack([term.log_sum for term in group])),
        )
        for name, group in groups.items()
    ]
