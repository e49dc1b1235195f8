"""Measuring one network by a set of proxies, in the passes that they need together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lswag_jax import tape
from lswag_jax.depth import BinRange, all_present
from lswag_jax.probe import Probe, sizes_of
from lswag_jax.proxies import Proxy

Array = jax.Array


def measure(
    network: tape.Network,
    images: Array,
    labels: Array,
    proxies: Sequence[Proxy],
    *,
    sizes: Mapping[str, Array] | None = None,
    bin_range: BinRange | None = None,
    gradient_batch: int | None = None,
    loss: tape.Loss = tape.cross_entropy,
    batch_network: tape.Network | None = None,
    batch_norm: str = "frozen",
    padded_maps: bool = False,
) -> dict[str, Any]:
    """Measures one network by every proxy, in shared passes; traced under jit and vmap.

    Args:
        network: from `lswag_jax.adapters`.
        images: [B, H, W, C], the pattern batch.
        labels: [B].
        proxies: configured proxies.
        sizes: active sizes of an elastic network (`Space.encode`); None reads the shapes.
        bin_range: bins that each layer can have (`Space.bin_range`); None for those it has.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        loss: per-sample loss.
        batch_network: for networks with BatchNorm, the network that differentiates through the
            statistics: mini-batches are run by it, each with its own.
        batch_norm: mode of `network`, if it has BatchNorm.
        padded_maps: see `Space.padded_maps`.

    Returns:
        For each proxy its parts, and `degenerate`: the logits do not depend on the input.
    """
    passes = frozenset().union(*(proxy.passes for proxy in proxies))
    readers = [proxy for proxy in proxies if "gradients" in proxy.passes]
    coupled = batch_network is not None and batch_norm in ("frozen", "through")
    num_gradients = gradient_batch or len(images) if readers else len(images)

    def first_layer(num_layers: int) -> int:
        bins = bin_range or all_present(num_layers)
        return min(proxy.first_layer(bins) for proxy in readers)

    gradients = (images[:num_gradients], labels[:num_gradients] if readers else None)
    options = {"loss": loss, "first_layer": first_layer} if readers else {}
    recorded = tape.record(network, *gradients, **options)
    logits, activations = recorded.logits, recorded.activations
    if "patterns" in passes and num_gradients < len(images):
        logits, activations = _more_patterns(network, images, recorded, coupled)
    if "patterns" in passes and not activations:
        raise ValueError(
            "no activation function was found; known are "
            f"{', '.join(sorted(tape.ACTIVATIONS))} of jax.nn, tanh and erf-based GELU."
        )
    sizes = sizes_of(recorded, activations) if sizes is None else sizes
    bin_range = bin_range or all_present(len(recorded.layers))
    units = (sizes["in_units"], sizes["out_units"], sizes["act_units"])
    batches = _batch_recorder(batch_network, *gradients, options) if batch_network else None
    through = coupled and batch_norm == "through"
    probe = Probe(recorded, activations, *units, bin_range, batches, through, padded_maps)
    parts = {proxy.key: proxy.measure(probe) for proxy in proxies if proxy.passes}
    finite = jnp.isfinite(logits).all()
    for part in parts.values():
        part["score"] = jnp.where(finite, part["score"], jnp.nan)
    return parts | {"degenerate": _constant(logits)}


def _more_patterns(
    network: tape.Network, images: Array, recorded: tape.Tape, coupled: bool
) -> tuple[Array, list[tape.Activation]]:
    """Logits and activations of the pattern batch, of which the first samples were recorded.

    Where samples interact the whole batch is run again, else only what is missing.
    """
    if coupled:
        whole = tape.record(network, images)
        return jnp.concatenate([recorded.logits, whole.logits]), whole.activations
    rest = tape.record(network, images[len(recorded.logits) :])
    activations = [
        dataclasses.replace(a, post=jnp.concatenate([a.post, b.post]))
        for a, b in zip(recorded.activations, rest.activations, strict=True)
    ]
    return jnp.concatenate([recorded.logits, rest.logits]), activations


def _batch_recorder(
    network: tape.Network, images: Array, labels: Array, options: Mapping[str, Any]
) -> Callable[[int], list[tape.Layer]]:
    """A function that records n mini-batches by themselves, as layers of the whole batch."""

    def record(n: int) -> list[tape.Layer]:
        if len(images) % n:
            raise ValueError(f"{len(images)} samples cannot be cut into {n} equal mini-batches.")
        pairs = zip(jnp.split(images, n), jnp.split(labels, n), strict=True)
        return tape.concatenate([tape.record(network, *pair, **options) for pair in pairs])

    return record


def _constant(logits: Array) -> Array:
    """Whether all samples have the same logits, up to rounding; False for a single sample."""
    if len(logits) < 2:
        return jnp.zeros((), bool)
    scale = jnp.abs(logits).max()
    return jnp.abs(logits - logits[:1]).max() <= 16 * jnp.finfo(logits.dtype).eps * scale
