"""Proxies of ViTs in a positive network: DSS of TF-TAS, and AutoProx-A.

Sources: Zhou et al., "Training-free Transformer Architecture Search", CVPR 2022 (code
decemberzhou/TF_TAS, repaired in cvlab-yonsei/AZ-NAS); Wei et al., "Auto-Prox: Training-Free Vision
Transformer Architecture Search via Automatic Proxy Discovery", AAAI 2024. With every parameter
replaced by its absolute value, an image of ones and R the sum of the logits,

    dss        = sum over attention's linear layers of ||dR/dW||_* ||W||_*
                 + sum over the other linear layers of sum |W dR/dW|
    autoprox_a = sum over attention's of ||dR/dW||_1
                 + sum over the MLPs' of mean sigmoid(dR/dW)

with ||.||_* the nuclear norm. The patch embedding is left out, and of autoprox_a also the head.
"""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy
from lswag_jax.proxies.synflow import saliency, summed

Array = jax.Array
ATTENTION = ("qkv", "proj", "query", "key", "value", "out")  # names of attention's linear layers


def _is_attention(name: str) -> bool:
    return name.split("/")[-1] in ATTENTION


@dataclasses.dataclass(frozen=True)
class _Attention(Proxy):
    """Base: needs linear layers called as those of attention are."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "synaptic"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True

    def _check(self, probe: Probe) -> None:
        if not any(_is_attention(layer.name) for layer in probe.layers):
            raise NotApplicable


@dataclasses.dataclass(frozen=True)
class Dss(_Attention):
    """DSS-indicator: synaptic diversity of attention and saliency of the MLPs.

    Args:
        branch: "role" tells attention by the layer's name; "shape" by `qkv` or a square kernel, as
            the code does, so that the branch of `proj` depends on the heads.
        head_twice: counts the classifier twice, as the code does with 1,000 classes.

    Raises:
        ValueError: another branch.
    """

    name: ClassVar[str] = "dss"
    paper: ClassVar[str] = "Zhou et al., CVPR 2022"
    networks: ClassVar[str] = "attention"
    weakness: ClassVar[str] = "attention only; its decompositions dominate the cost"

    branch: Literal["role", "shape"] = "role"
    head_twice: bool = False

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers but the patch embedding [L - 1]."""
        self._check(probe)
        pairs, dtype = saliency(probe, "off", lambda w, g: (w, g))
        with jax.enable_x64(True):
            terms = [
                _nuclear(w, g) if self._is_diverse(name, w) else jnp.abs(w * g).sum()
                for name, w, g in _matrices(probe, pairs)
            ][1:]
            if self.head_twice:
                terms[-1] *= 2
        return summed(terms, dtype)

    def _is_diverse(self, name: str, kernel: Array) -> bool:
        if self.branch == "role":
            return _is_attention(name)
        return name.endswith("qkv") or kernel.shape[0] == kernel.shape[1]


def _matrices(probe: Probe, pairs: list[tuple[Array, Array]]) -> Iterator[tuple[str, Array, Array]]:
    """Each layer's name, kernel and gradient [inputs, outputs].

    Kernels of queries, keys and values may have several axes of outputs, that of attention's
    output [H, K, D] has two of inputs.
    """
    for layer, pair in zip(probe.layers, pairs, strict=True):
        ends = layer.name.split("/")[-1] in ("proj", "out")
        w, g = (a.reshape((-1, a.shape[-1]) if ends else (len(a), -1)) for a in pair)
        yield layer.name, w, g


def _nuclear(w: Array, g: Array) -> Array:
    """||g||_* ||w||_*, of kernels [inputs, outputs]."""
    w_norm, g_norm = (jnp.linalg.svd(m, compute_uv=False).sum() for m in (w, g))
    return w_norm * g_norm


@dataclasses.dataclass(frozen=True)
class AutoProxA(_Attention):
    """AutoProx-A, a third-party reading of the paper's formula, whose code is not complete."""

    name: ClassVar[str] = "autoprox_a"
    paper: ClassVar[str] = "Wei et al., AAAI 2024"
    networks: ClassVar[str] = "attention"
    weakness: ClassVar[str] = "a third-party reading; attention only"

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers but the patch embedding and the head [L - 2]."""
        self._check(probe)
        pairs, dtype = saliency(probe, "off", lambda w, g: (w, g))
        with jax.enable_x64(True):
            terms = [
                jnp.abs(g).sum() if _is_attention(layer.name) else _mean_sigmoid(w, g)
                for layer, (w, g) in zip(probe.layers, pairs, strict=True)
            ][1:-1]
        return summed(terms, dtype)


def _mean_sigmoid(w: Array, g: Array) -> Array:
    """Over the weights that are there; those of an elastic network that are not are zero."""
    is_there = w != 0
    return jnp.where(is_there, jax.nn.sigmoid(g), 0).sum() / (is_there.sum() + 1e-9)
