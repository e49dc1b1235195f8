"""Measuring one network by a set of proxies, in the passes that they need together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax import tape
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
    layer_sets: np.ndarray | None = None,
    gradient_batch: int | None = None,
    loss: tape.Loss = tape.cross_entropy,
    batch_network: tape.Network | None = None,
) -> dict[str, Any]:
    """Measures one network by every proxy, in shared passes; traced under jit and vmap.

    Args:
        network: from `lswag_jax.adapters`.
        images: [B, H, W, C], the pattern batch.
        labels: [B].
        proxies: configured proxies.
        sizes: active sizes of an elastic network (`Space.encode`); None reads the shapes.
        layer_sets: sets of present layers, bool [K, L]; None for all layers.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        loss: per-sample loss.
        batch_network: for networks with batch statistics, the network that differentiates through
            them: mini-batches are run by it, each with its own; None where samples do not interact.

    Returns:
        For each proxy its parts, and `degenerate`: the logits do not depend on the input.
    """
    passes = frozenset().union(*(proxy.passes for proxy in proxies))
    readers = [proxy for proxy in proxies if "gradients" in proxy.passes]
    num_gradients = gradient_batch or len(images) if readers else len(images)

    def first_layer(num_layers: int) -> int:
        sets = np.ones((1, num_layers), bool) if layer_sets is None else layer_sets
        return min(proxy.first_layer(sets) for proxy in readers)

    gradients = (images[:num_gradients], labels[:num_gradients] if readers else None)
    options = {"loss": loss, "first_layer": first_layer} if readers else {}
    recorded = tape.record(network, *gradients, **options)
    logits, activations = recorded.logits, recorded.activations
    if "patterns" in passes and num_gradients < len(images):
        logits, activations = _more_patterns(network, images, recorded, batch_network is not None)
    if "patterns" in passes and not activations:
        raise ValueError(
            "no activation function was found; known are "
            f"{', '.join(sorted(tape.ACTIVATIONS))} of jax.nn, tanh and erf-based GELU."
        )
    sizes = sizes_of(recorded, activations) if sizes is None else sizes
    if layer_sets is None:
        layer_sets = np.ones((1, len(recorded.layers)), bool)
    units = (sizes["in_units"], sizes["out_units"], sizes["act_units"])
    batches = _batch_recorder(batch_network, *gradients, options) if batch_network else None
    probe = Probe(recorded, activations, *units, layer_sets, batches)
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
