"""The tape: one forward and one backward pass of a network, with everything proxies read.

A network is traced once, with its parameters and the images as arguments, and what it computes is
read off the program (`capture.record`): where a weight meets a sample's values, and where an
activation is. The program is then evaluated equation by equation: at a layer its inputs are
recorded and a zero perturbation is added to its output, at an activation its output is recorded.
One `jax.vjp` with respect to the perturbations gives each sample's own output cotangents, because
the loss is the sum of the per-sample losses.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lswag_jax.capture.calls import Activation, Call, Layer, layers_of
from lswag_jax.capture.network import Network
from lswag_jax.capture.record import Program
from lswag_jax.tasks import cross_entropy

Array = jax.Array
Loss = Callable[[Array, Array], Array]


@dataclasses.dataclass
class Tape:
    """What one pass recorded, in order of execution.

    Attributes:
        logits: [B, C].
        losses: loss of each sample [B].
        layers: weight layers; `cotangent` is None for those below `first_layer`.
        norms: normalisation layers.
        activations: outputs of the activation functions.
        pull: weight layers with the cotangents of sum_i weights_i loss_i, of weights [B].
    """

    logits: Array
    losses: Array | None
    layers: list[Layer]
    norms: list[Layer]
    activations: list[Activation]
    pull: Callable[[Array], list[Layer]] | None = None


def record(
    network: Network,
    images: Array,
    labels: Array | None = None,
    *,
    loss: Loss = cross_entropy,
    first_layer: int | Callable[[int], int] = 0,
) -> Tape:
    """Runs `network` forward and, where labels are given, back.

    Everything recorded has the samples as its leading axis, as proxies read it; no gradient passes
    through it, but through the logits and losses. Where the network folds windows, tokens or pixels
    into that axis, [B * k, ...] is recorded as [B, k, ...]: a sample's k rows must lie together.
    Rows in another order, as of [k, B, ...] flattened, have the same shape, cannot be told apart,
    and give wrong numbers.

    Args:
        network: `network(images, hook) -> logits`, see `lswag_jax.capture.adapters`.
        images: [B, ...].
        labels: [B], or None for a forward pass alone.
        loss: per-sample loss of (logits, labels).
        first_layer: index of the first weight layer whose cotangent is wanted, or a function of
            the number of layers that gives it; no backward pass is computed below.

    Raises:
        ValueError: no weight layer was captured; one runs inside a loop or branch that depends on
            data, or in a vmap over another axis than the batch's; or the leading axis of its
            inputs, its output or an activation is no multiple of the batch, as that of a learned
            token [1, N, D].
    """
    by_blocks = getattr(network, "record", None)  # of a chain, which records each block by itself
    if by_blocks is not None:
        return by_blocks(images, labels, loss=loss, first_layer=first_layer)
    program = Program.trace(network, images)
    if not program.layers:
        raise ValueError(
            "no weight layer was captured: nowhere does a parameter of two or more dimensions meet "
            "the images in a product or a convolution on the way to the logits."
        )
    if labels is None:
        logits, calls, activations = program.run({}, images)
        return Tape(logits, None, layers_of(calls), layers_of(calls, "norm"), activations)
    if callable(first_layer):
        first_layer = first_layer(len(program.layers))

    def run(perturbations):
        logits, calls, activations = program.run(perturbations, images)
        return loss(logits, labels), (logits, calls, activations)

    zeros = program.zeros(first_layer)
    losses, back, (logits, calls, activations) = jax.vjp(run, zeros, has_aux=True)

    def pull(weights_B: Array) -> list[Call]:
        return program.with_cotangents(calls, back(weights_B)[0], first_layer)

    recorded = pull(jnp.ones_like(losses))
    layers, norms = layers_of(recorded), layers_of(recorded, "norm")
    return Tape(logits, losses, layers, norms, activations, lambda w: layers_of(pull(w)))
