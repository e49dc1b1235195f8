"""InTrain: dimensions that activations use, times how evenly gradients are spread.

Source: Zhou et al., "InTrain: Intrinsic Trainability for Zero-Cost Neural Architecture Search",
CVPR 2026 (arXiv 2606.18676); no code. Of noise images and random labels, with C_l the covariance
between the channels of layer l's output, samples and positions as rows, 1e-10 on its diagonal, and
g_i the gradient of parameter tensor i in training mode,

    PR_l  = (tr C_l)^2 / tr C_l^2
    gamma = sum_l log PR_l
    o     = sum_i min(1, std(g_i) / (max |g_i| + 1e-10))
    score = gamma (1 + o) / log(L + 1)                       of L layers

Read: the abstract and two summaries of the paper with these equations. Our choice, where the paper
is silent: layers are the weight layers, their outputs taken before any normalisation; parameter
tensors are the weights and biases of these and the scales and biases of normalisations, not tables
that are added; covariances and deviations have the divisor n; images have the network's own size
(the paper's 64 x 64).
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.arrays import each
from lswag_jax.capture import tape
from lswag_jax.capture.batch_norm import BatchStatistics
from lswag_jax.options import Several
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.tasks import cross_entropy

Array = jax.Array
_EPSILON = 1e-10


@dataclasses.dataclass(frozen=True)
class InTrain(Proxy):
    """InTrain: geometric capacity of the activations, times the health of the gradients.

    Cross entropy with random classes, or squared error to random maps where the output is one.
    Draws `intrain/images` [batch, H, W, C], and `intrain/labels` [batch] or `intrain/targets`.

    Args:
        batch: noise images.

    Raises:
        ValueError: fewer than two images.
    """

    name: ClassVar[str] = "intrain"
    paper: ClassVar[str] = "Zhou et al., CVPR 2026"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "features"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "grows with depth; a layer of zeros counts as a full one"

    batch: Several = 64

    def measure(self, probe: Probe) -> Parts:
        """The score, gamma, o, and log PR of the weight layers [L]."""
        recorded, present = self._record(probe), probe.present
        covariances = [_covariance(probe, i, layer) for i, layer in enumerate(recorded.layers)]
        layers = jnp.where(present, each(_log_participation, covariances), 0)
        gradients = _of_layers(probe, recorded.layers)
        gradients += [
            own for norm in recorded.norms if norm.params for own in _of_norm(probe, norm)
        ]
        counted = [(g, jnp.asarray(n, g.dtype)) for g, n in gradients]
        o, depth = each(_health, counted).sum(), present.sum().astype(layers.dtype)
        score = layers.sum() * (1 + o) / jnp.log(depth + 1)
        return {"score": score, "capacity": layers.sum(), "resilience": o, "layers": layers}

    def _record(self, probe: Probe) -> tape.Tape:
        """The pass over noise, with the cotangents of the mean loss."""
        dtype, draws = probe.images.dtype, probe.draws
        images = probe.noise("intrain/images", self.batch)
        _, *shape = probe.tape.logits.shape
        if len(shape) == 1:
            labels, loss = draws.integers("intrain/labels", (self.batch,), shape[0]), _class_loss
        else:
            labels, loss = draws.normal("intrain/targets", (self.batch, *shape), dtype), _map_loss
        network = probe.candidate.network(probe.candidate.batch_mode)
        return tape.record(network, images, labels, loss=loss)


def _class_loss(logits: Array, labels: Array) -> Array:
    """A sample's share of the mean cross entropy."""
    return cross_entropy(logits, labels) / len(logits)


def _map_loss(maps: Array, targets: Array) -> Array:
    """A sample's share of the mean squared error."""
    return ((maps - targets) ** 2).reshape(len(maps), -1).mean(1) / len(maps)


def _covariance(probe: Probe, i: int, layer: tape.Layer) -> tuple[Array, Array]:
    """C [C, C] of a weight layer's output, and its number of active channels."""
    call = layer.calls[0]
    output = call.run(call.params, call.inputs)
    x_BxPxC = call.by_channel(output)
    x_NxC = x_BxPxC.reshape(-1, x_BxPxC.shape[2])
    rows, channels = _active(probe, i, len(output), *x_NxC.shape)
    n, rows = len(x_NxC), jnp.maximum(jnp.asarray(rows, x_NxC.dtype), 1)
    mean_C = x_NxC.sum(0) / rows
    centred_NxC = x_NxC - mean_C[None]
    # An inactive row, of zeros, has put (0 - mean) into the sum.
    c_CxC = (centred_NxC.T @ centred_NxC - (n - rows) * jnp.outer(mean_C, mean_C)) / rows
    return c_CxC, jnp.asarray(channels, x_NxC.dtype)


def _of_layers(probe: Probe, layers: list[tape.Layer]) -> list[tuple[Array, Any]]:
    """Gradients of the stored weights and biases, and how many of their elements are active.

    A gradient is the sum over all uses: a weight's are the calls of its layer, but a bias may be
    added to several layers, and a layer that is called again may have another bias there.
    """
    found: dict[int | str, tuple[Array, Any]] = {}
    for i, layer in enumerate(layers):
        for call in layer.calls:
            use = tape.Layer(layer.name, layer.kind, [call])
            for name, g in use.gradient(tuple(call.params), use.pairs).items():
                key = i if name == "kernel" else call.bias
                of_others, active = found.get(key, (0, 0))
                found[key] = of_others + g, jnp.maximum(active, _num_active(probe, i, call, name))
    return list(found.values())


def _num_active(probe: Probe, i: int, call: tape.Call, name: str) -> Any:
    """Elements of a parameter of weight layer i that the architecture has."""
    size, is_exact = call.params[name].size, probe.candidate.is_exact
    if name == "kernel":  # an elastic one is zero where the architecture has no weight
        weights = size if is_exact else (call.params[name] != 0).sum()
        return jnp.where(probe.present[i], weights, 0)
    return size if is_exact else probe.out_units[i] // (call.output_units // size)


def _active(probe: Probe, i: int, batch: int, n: int, c: int) -> tuple[Any, Any]:
    """Rows and channels of weight layer i's output [N, C] that the architecture has.

    Elsewhere it is zero: in channels, or in positions where the elastic network spreads its maps.
    """
    if probe.candidate.is_exact:
        return n, c
    units = probe.out_units[i]
    if probe.candidate.padded_maps:
        return batch * units // c, jnp.minimum(units, c)
    return n, units * batch // n


def _log_participation(c_CxC: Array, channels: Array) -> Array:
    """log of (tr C)^2 / tr C^2, with epsilon on the diagonal of the active channels."""
    trace, square = jnp.trace(c_CxC), (c_CxC**2).sum()
    with_epsilon = square + 2 * _EPSILON * trace + _EPSILON**2 * channels
    return 2 * jnp.log(trace + _EPSILON * channels) - jnp.log(with_epsilon)


def _of_norm(probe: Probe, norm: tape.Layer) -> list[tuple[Array, Any]]:
    """The term of a normalisation layer."""
    gradients = norm.gradient(tuple(norm.params), norm.pairs)
    return [(g, _active_features(probe, norm.calls[0], g)) for g in gradients.values()]


def _active_features(probe: Probe, call: tape.Call, gradient: Array) -> Any:
    """Elements of a normalisation's parameter that the architecture has."""
    if probe.candidate.is_exact:
        return gradient.size
    if isinstance(call.extra, BatchStatistics):
        return gradient.size if call.extra.active is None else call.extra.active
    output = call.run(call.params, call.inputs)  # zero where an elastic LayerNorm masks
    return (output != 0).any(tuple(range(output.ndim - 1))).sum()


def _health(gradient: Array, count: Array) -> Array:
    """min(1, std / (max + 1e-10)) of the `count` active elements; the others are zero."""
    g, n = gradient.ravel(), jnp.maximum(count, 1)
    mean = g.sum() / n
    squares = ((g - mean) ** 2).sum() - (g.size - n) * mean**2
    std = jnp.sqrt(jnp.maximum(squares / n, 0))
    return jnp.where(count > 0, jnp.minimum(1, std / (jnp.abs(g).max() + _EPSILON)), 0)
