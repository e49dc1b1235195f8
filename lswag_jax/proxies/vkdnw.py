"""VKDNW: how evenly the Fisher information of the class probabilities is spread, and depth.

Source: Tybl and Neumann, "Training-free Neural Architecture Search through Variance of Knowledge of
Deep Network Weights", CVPR 2025 (arXiv 2502.04975), equations 8 to 12. Of noise images n with
probabilities p_n [K] and J_n [K, W] the gradients of their logits with respect to one weight of
each layer,

    F       = mean_n J_n' (diag p_n - p_n p_n') J_n
    lambda  = the nine deciles of F's eigenvalues, over their sum
    entropy = - sum_k lambda_k log lambda_k
    score   = number of weight layers + entropy

Read: the abstract and two summaries of the paper with its equations; not its code, which is under
the GPL. Our choice, where the paper is silent: the weight is that of the first input and output
channel, of a convolution in the middle of its kernel; all layers have one (the paper takes the
first 128); samples are normalised by their batch, whose statistics are constants; deciles are
interpolated linearly.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import total
from lswag_jax.capture import tape
from lswag_jax.capture.forward import forward
from lswag_jax.options import Several
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy, eigenvalues, where_finite

Array = jax.Array
_DECILES = np.arange(1, 10) / 10


@dataclasses.dataclass(frozen=True)
class Vkdnw(Proxy):
    """VKDNW: number of weight layers, plus the entropy of the Fisher information's spectrum.

    The published "single" score; `merge` joins it with others. Draws `vkdnw/images`
    [batch, H, W, C].

    Args:
        batch: noise images.

    Raises:
        ValueError: fewer than two images.
    """

    name: ClassVar[str] = "vkdnw"
    paper: ClassVar[str] = "Tybl and Neumann, CVPR 2025"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True
    networks: ClassVar[str] = "classes"
    weakness: ClassVar[str] = "a backward pass a class; the number of layers, with ties broken"

    batch: Several = 64

    def measure(self, probe: Probe) -> Parts:
        """The Fisher information [L, L], whose eigenvalues are the host's work, and layers."""
        if probe.tape.logits.ndim != 2 or probe.tape.logits.shape[1] < 2:
            raise NotApplicable
        fisher_LxL = _fisher(probe, probe.noise("vkdnw/images", self.batch))
        depth = probe.present.sum().astype(fisher_LxL.dtype)
        return {"score": depth, "present": probe.present, "fisher": fisher_LxL}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score in float64, its entropy, and the number of layers."""
        depth = np.asarray(parts["score"], np.float64)
        entropy = np.full(depth.shape, np.nan)
        for i in np.ndindex(depth.shape):
            here = np.asarray(parts["present"])[i]
            entropy[i] = spectral_entropy(np.asarray(parts["fisher"])[i][here][:, here])
        return {"score": where_finite(parts, depth + entropy), "entropy": entropy, "depth": depth}

    def is_undefined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """The probabilities depend on none of the weights."""
        return np.isnan(parts["entropy"]) & ~np.isnan(parts["depth"])


def spectral_entropy(fisher: np.ndarray) -> float:
    """Entropy of the deciles of the eigenvalues; NaN where all deciles are 0.

    Example:
        >>> round(spectral_entropy(np.eye(5)), 4), round(float(np.log(9)), 4)
        (2.1972, 2.1972)
    """
    values = np.quantile(np.maximum(eigenvalues(fisher), 0), _DECILES)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = values / values.sum()
        return float(-np.where(share == 0, 0, share * np.log(share)).sum())


def _fisher(probe: Probe, images: Array) -> Array:
    """F [L, L]; rows and columns of absent layers are zero."""
    owner = probe.candidate
    network = owner.network("eval" if owner.batch_norm == "eval" else "frozen")
    logits_BxK, j_KxBxL = _gradients(probe, network, images)
    p_KxBx1 = jax.nn.softmax(logits_BxK).T[..., None]
    mean_BxL = (p_KxBx1 * j_KxBxL).sum(0)  # so that F is a sum of squares
    a_KxBxL = jnp.sqrt(p_KxBx1) * (j_KxBxL - mean_BxL[None])
    a_NxL = a_KxBxL.reshape(-1, a_KxBxL.shape[-1])
    return a_NxL.T @ a_NxL / len(images)


def _gradients(probe: Probe, network: tape.Network, images: Array) -> tuple[Array, Array]:
    """Logits [B, K], and their derivatives [K, B, L] with respect to the chosen weights."""
    labels = jnp.zeros(len(images), int)
    recorded = tape.record(network, images, labels, loss=_outputs)
    responses = [
        probe.if_present(i, lambda layer=layer: _responses(layer))
        for i, layer in enumerate(recorded.layers)
    ]

    def of_class(k: Array) -> Array:
        one_hots = jnp.zeros_like(recorded.logits).at[:, k].set(1)
        if recorded.pull is None:  # a chain
            layers = tape.record(network, images, one_hots, loss=_weighed).layers
        else:
            layers = recorded.pull(one_hots)
        products = [
            total(_products(r, call.output_cotangent) for r, call in zip(rs, x.calls, strict=True))
            for rs, x in zip(responses, layers, strict=True)
        ]
        return jnp.stack(products, 1)

    classes = jnp.arange(recorded.logits.shape[1])
    if recorded.pull is None:
        return recorded.logits, jnp.stack([of_class(k) for k in classes])
    return recorded.logits, jax.lax.map(of_class, classes)


def _outputs(logits: Array, labels: Array) -> Array:
    """The logits in place of losses, so that their cotangents can be chosen."""
    del labels
    return logits


def _weighed(logits: Array, weights: Array) -> Array:
    """A sum of each sample's logits, whose cotangents are the weights."""
    return (logits * weights).sum(1)


def _products(response: Array, cotangent: Array) -> Array:
    """Sum over a sample's elements [B]."""
    return (response * cotangent).reshape(len(response), -1).sum(1)


def _responses(layer: tape.Layer) -> list[Array]:
    """Derivatives of each use's output with respect to the chosen element of a layer's weight."""
    middle = layer.calls[0].middle()
    return [_response(call, middle) for call in layer.calls]


def _response(call: tape.Call, middle: int) -> Array:
    """Derivative of a use's output with respect to an element of the flat weight."""
    kernel = call.params["kernel"]

    def output(kernel: Array) -> Array:
        return call.run(call.params | {"kernel": kernel}, call.inputs)

    place = np.unravel_index(middle, kernel.shape)
    direction = jnp.zeros_like(kernel).at[place].set(1)
    return jax.jvp(forward(output), (kernel,), (direction,))[1]
