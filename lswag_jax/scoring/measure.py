"""Measuring one network by a set of proxies, in the passes that they need together."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import are_equal, joined
from lswag_jax.capture import tape
from lswag_jax.capture.models import ForeignInputs
from lswag_jax.probe import GradientRequests, Probe, sizes_of
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.patterns import NO_ACTIVATION
from lswag_jax.proxies import NotApplicable, Proxy
from lswag_jax.proxies.base import blamed
from lswag_jax.spaces.depth import all_present

Array = jax.Array


def measure(
    candidate: Candidate,
    images: Array,
    labels: Array,
    proxies: Sequence[Proxy],
    *,
    gradient_batch: int | None = None,
    loss: tape.Loss = tape.cross_entropy,
    draws: Draws | None = None,
) -> dict[str, Any]:
    """Measures one network by every proxy, in shared passes; traced under jit and vmap.

    Args:
        candidate: the network with its weights.
        images: [B, H, W, C], the pattern batch.
        labels: [B].
        proxies: configured proxies.
        gradient_batch: number of first samples that form the gradient batch; None takes all.
        loss: per-sample loss.
        draws: random tensors of the proxies that need some.

    Returns:
        For each proxy its parts, and `degenerate`: the logits do not depend on the input. Parts
        of a proxy that this network does not admit hold `not_applicable`.
    """
    passes = frozenset().union(*(proxy.passes for proxy in proxies))
    readers = [proxy for proxy in proxies if "gradients" in proxy.passes]
    num_gradients = gradient_batch or len(images)

    def layers_read(num_layers: int) -> np.ndarray:
        bins = candidate.bin_range or all_present(num_layers)
        return np.any([proxy.layers_read(bins) for proxy in readers], axis=0)

    def first_layer(num_layers: int) -> int:
        read = layers_read(num_layers)
        return int(read.argmax()) if read.any() else num_layers

    batch = (images[:num_gradients], labels[:num_gradients])
    options = {"loss": loss, "first_layer": first_layer} if readers else {}
    network = candidate.network()
    recorded = tape.record(network, *(batch if readers else (images,)), **options)
    _check_outputs(recorded)
    logits, activations = recorded.logits, recorded.activations
    if "patterns" in passes and len(logits) < len(images):
        as_one = candidate.is_coupled or candidate.has_per_sample_arguments
        logits, activations = _more_patterns(network, images, recorded, as_one)
    if "patterns" in passes and not activations:
        raise ValueError(NO_ACTIVATION)
    names = frozenset(name for layer in recorded.layers for name in layer.stored)
    candidate = dataclasses.replace(candidate, weights=names)
    sizes = candidate.sizes or sizes_of(recorded, activations)
    probe = Probe(
        candidate,
        recorded,
        activations,
        sizes["in_units"],
        sizes["out_units"],
        sizes["act_units"],
        candidate.bin_range or all_present(len(recorded.layers)),
        images,
        batch[0],
        batch[1],
        loss,
        functools.partial(tape.record, **options),
        draws or Draws(jax.random.key(0)),
        _gradient_requests(proxies, len(batch[0])),
        layers_read(len(recorded.layers)) if readers else None,
    )
    parts = {proxy.key: _parts(proxy, probe) for proxy in proxies if proxy.passes}
    finite = jnp.isfinite(logits).all()
    for part in parts.values():
        part["score"] = jnp.where(finite, part["score"], jnp.nan)
    beside = candidate.beside_logits(recorded, candidate.batch_norm)
    return parts | {"degenerate": are_equal(logits, beside)}


def _check_outputs(recorded: tape.Tape) -> None:
    """Raises ValueError where a layer gives nothing, as convolutions of too few pixels do."""
    for layer in recorded.layers:
        if not all(call.output_units for call in layer.calls):
            raise ValueError(
                f"{layer.name or 'the model'} gives an output without values: the images are too "
                "small for so many strides."
            )


def _gradient_requests(proxies: Sequence[Proxy], num_gradients: int) -> GradientRequests:
    """Collects what the proxies read of the gradients of n samples.

    Raises:
        ValueError: a proxy cannot cut them into its mini-batches.
    """
    for proxy in proxies:
        if num_gradients % proxy.batches:
            raise ValueError(
                f"{proxy.key} cuts the gradient batch into {proxy.batches} equal mini-batches, "
                f"which {num_gradients} samples do not give: take a multiple of {proxy.batches}."
            )
    samples = [proxy.samples for proxy in proxies if proxy.samples is not None]
    batches = math.lcm(*(proxy.batches for proxy in proxies))
    return GradientRequests(samples[0] if samples else None, batches)


def _parts(proxy: Proxy, probe: Probe) -> dict[str, Any]:
    try:
        with blamed(proxy, "measure"):
            parts = proxy.measure(probe)
            parts = _arrays(parts) if isinstance(parts, Mapping) else {}
        if any(map(jnp.iscomplexobj, parts.values())):
            raise NotApplicable  # to what a complex layer gives
    except (NotApplicable, ForeignInputs):
        nothing = jnp.full((), jnp.nan, probe.tape.logits.dtype)
        return {"score": nothing, "not_applicable": jnp.ones((), bool)}
    if "score" not in parts or parts["score"].ndim:
        raise ValueError(
            f"measure of the proxy {proxy.key} must return a dict with a number 'score'."
        )
    for name in ("status", "std"):  # columns of tables, beside the score's
        if name in parts:
            raise ValueError(f"measure of the proxy {proxy.key} must not call a part {name!r}.")
    return parts


def _arrays(parts: Mapping[Any, Any]) -> dict[str, Array]:
    """A proxy's parts as arrays; TypeError where one is none, or its name no text."""
    for name, part in parts.items():
        if not isinstance(name, str) or isinstance(part, Mapping):
            raise TypeError(f"a part must be an array with a name, got {name!r}")
    return {name: jnp.asarray(part) for name, part in parts.items()}


def _more_patterns(
    network: tape.Network, images: Array, recorded: tape.Tape, as_one: bool
) -> tuple[Array, list[tape.Activation]]:
    """Logits and activations of the pattern batch, of which the first samples were recorded.

    Where the samples must be run as one batch it is run again, else only what is missing.
    """
    if as_one:
        whole = tape.record(network, images)
        return jnp.concatenate([recorded.logits, whole.logits]), whole.activations
    rest = tape.record(network, images[len(recorded.logits) :])
    pairs = zip(recorded.activations, rest.activations, strict=True)
    posts = joined([(a.post, b.post) for a, b in pairs])
    activations = [
        dataclasses.replace(a, post=post)
        for a, post in zip(recorded.activations, posts, strict=True)
    ]
    return jnp.concatenate([recorded.logits, rest.logits]), activations
