"""The kernel variant: NOT L-SWAG as published, kept as a second, selectable statistic.

Source: a public machine-written summary that appeared before the paper's text and contradicts its
equation 1; no paper has it. With A the layer's inputs and G the gradients of the summed loss with
respect to its outputs,

    K_A = A A^T,  K_G = G G^T  [B, B],   M = K_A o K_G,   score = sum_l w_l f(M_l)

so that for a Dense layer without token sharing M_ij = <dW loss_i, dW loss_j>.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture.tape import Layer, Tape
from lswag_jax.options import Share
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy, is_attention

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LSwagKernel(Proxy):
    """Kernel variant (not L-SWAG as published): input and gradient kernels, layer by layer.

    The first and the last weight layer are left out. Layers called qkv, proj, query, key, value or
    out form the attention group, all others the second one; a network without attention has one
    group.

    Args:
        statistic: f of M: "logmean" = log(1e-12 + mean |M|), "sum", "logdet" of M + 1e-6 tr(M)/B I,
            "offdiag_ratio" = sum off the diagonal over trace, "eff_rank" = exp of the entropy of
            the eigenvalues over their sum.
        norm: "dim" divides K_A and K_G by the active sizes, "trace" by their traces, "cosine" makes
            their diagonals one.
        center: subtracts the batch mean from A.
        token_mode: "flatten" takes a sample's A and G as one vector, "mean" averages them over
            tokens or pixels, "exact" takes M_ij = <dW loss_i, dW loss_j> itself (with
            batch_norm="through" by B backward passes that hold every layer's gradients).
        depth_weights: w_l over the layers of a group: 1, l, or D + 1 - l.
        weight_norm: weights of a group have mean 1 (keeps the depth count) or sum 1.
        attention_share: weight a of the attention group, score = a S_att + (1 - a) S_rest.

    Example:
        >>> LSwagKernel(depth_weights="increasing").name
        'lswag_kernel'
    """

    name: ClassVar[str] = "lswag_kernel"
    paper: ClassVar[str] = "none; not in Casarin et al."
    weakness: ClassVar[str] = "holds token pairs; not what the paper tests"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    statistic: Literal["logmean", "sum", "logdet", "offdiag_ratio", "eff_rank"] = "logmean"
    norm: Literal["none", "dim", "trace", "cosine"] = "dim"
    center: bool = False
    token_mode: Literal["flatten", "exact", "mean"] = "flatten"
    depth_weights: Literal["uniform", "increasing", "decreasing"] = "uniform"
    weight_norm: Literal["mean", "one"] = "mean"
    attention_share: Share = 0.5

    def measure(self, probe: Probe) -> Parts:
        """The score, its groups and its layers."""
        inner = range(len(probe.layers))[1:-1] or range(len(probe.layers))
        values = jnp.stack([self._layer(probe, i) for i in inner])
        present = probe.present[jnp.array(inner)]
        attention = np.array([is_attention(probe.layers[i].name) for i in inner])
        s_att, s_rest = (self._group(values, present & mask) for mask in (attention, ~attention))
        a = self.attention_share
        one_group = attention.all() or not attention.any()
        return {
            "score": s_att + s_rest if one_group else a * s_att + (1 - a) * s_rest,
            "attention": s_att,
            "rest": s_rest,
            "layers": jnp.where(present, values, 0),
        }

    def _group(self, values_L: Array, members_L: Array) -> Array:
        """sum_l w_l f(M_l) over the members of one group, in order of depth."""
        place_L, count = jnp.cumsum(members_L), members_L.sum()
        weights_L = {
            "uniform": jnp.ones_like(place_L),
            "increasing": place_L,
            "decreasing": count + 1 - place_L,
        }[self.depth_weights]
        weights_L = jnp.where(members_L, weights_L, 0).astype(values_L.dtype)
        weights_L = weights_L / jnp.maximum(weights_L.sum(), 1)
        if self.weight_norm == "mean":
            weights_L = weights_L * count
        return jnp.where(members_L, weights_L * values_L, 0).sum()

    def _layer(self, probe: Probe, i: int) -> Array:
        layer = probe.layers[i]
        if self.token_mode == "mean":
            probe.check_positions("token_mode='mean'")
        if self.token_mode == "exact":
            return self._f(_sample_gram(probe, layer))
        kernels = []
        for side, size in (("inputs", probe.in_units[i]), ("cotangent", probe.out_units[i])):
            whole = [getattr(call, side) for call in layer.calls]
            flat = [_flatten(x, self.token_mode) for x in whole]
            size = size // (whole[0][0].size // flat[0].shape[1])
            x = jnp.concatenate(flat, axis=1)
            if jnp.iscomplexobj(x):
                raise NotApplicable
            if self.center and side == "inputs":
                x = x - x.mean(0, keepdims=True)
            kernels.append(self._normalise(x @ x.T, size))
        return self._f(kernels[0] * kernels[1])

    def _normalise(self, kernel: Array, size: Array) -> Array:
        if self.norm == "dim":
            return kernel / jnp.maximum(size, 1)
        if self.norm == "trace":
            return kernel / jnp.maximum(jnp.trace(kernel), _tiny(kernel))
        if self.norm == "cosine":
            scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(kernel), _tiny(kernel)))
            return kernel * scale[:, None] * scale[None, :]
        return kernel

    def _f(self, m_BxB: Array) -> Array:
        trace = jnp.maximum(jnp.trace(m_BxB), _tiny(m_BxB))
        if self.statistic == "logmean":
            return jnp.log(1e-12 + jnp.abs(m_BxB).mean())
        if self.statistic == "sum":
            return m_BxB.sum()
        if self.statistic == "logdet":
            eye_BxB = jnp.eye(len(m_BxB), dtype=m_BxB.dtype)
            return jnp.linalg.slogdet(m_BxB + 1e-6 * trace / len(m_BxB) * eye_BxB)[1]
        if self.statistic == "offdiag_ratio":
            return (m_BxB.sum() - jnp.trace(m_BxB)) / trace
        p = jnp.maximum(jnp.linalg.eigvalsh(m_BxB), 0) / trace
        return jnp.exp(-jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0).sum())


def _tiny(x: Array) -> float:
    return float(jnp.finfo(x.dtype).tiny)


def _flatten(x: Array, token_mode: str) -> Array:
    if token_mode == "mean" and x.ndim > 2:
        x = x.mean(axis=tuple(range(1, x.ndim - 1)))
    return x.reshape(x.shape[0], -1)


def _sample_gram(probe: Probe, layer: Layer) -> Array:
    """M_ij = <dW loss_i, dW loss_j> of a layer's kernel, [B, B], in every mode of BatchNorm."""
    owner = probe.candidate
    if owner.has_batch_norm and owner.batch_norm == "through":
        return probe.once("coupled grams", lambda: coupled_grams(probe.tape))[layer.name]
    return gradient_gram(layer)


def gradient_gram(layer: Layer, name: str = "kernel") -> Array:
    """M_ij = <dW loss_i, dW loss_j> of a layer's parameter W, [B, B]; holds its B gradients."""

    def gradient(pairs):
        singles = [tuple(a[None] for a in pair) for pair in pairs]
        return layer.gradient((name,), singles)[name].ravel()

    grads_BxW = jax.lax.map(gradient, layer.pairs)
    return grads_BxW @ grads_BxW.T


def coupled_grams(tape: Tape) -> dict[str, Array]:
    """Kernels of each layer where samples interact: a backward pass a loss; holds all gradients.

    Args:
        tape: with gradients, of a network that is differentiated through its statistics.
    """

    losses, pull = tape.losses, tape.pull
    assert losses is not None
    assert pull is not None

    def gradients(weights_B: Array) -> dict[str, Array]:
        return {
            layer.name: layer.gradient(("kernel",), layer.pairs)["kernel"].ravel()
            for layer in pull(weights_B)
        }

    weights_BxB = jnp.eye(len(losses), dtype=losses.dtype)
    grads = jax.lax.map(gradients, weights_BxB)
    return {name: grads_BxW @ grads_BxW.T for name, grads_BxW in grads.items()}
