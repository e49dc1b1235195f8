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
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import in_groups
from lswag_jax.probe import Probe
from lswag_jax.proxies import wide
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy, is_attention, role, where_finite
from lswag_jax.proxies.synflow import flow, saliency
from lswag_jax.proxies.wide import Wide

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class _Attention(Proxy):
    """Base: needs linear layers called as those of attention are."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "synaptic"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True

    def _check(self, probe: Probe) -> None:
        if not any(is_attention(layer.name) for layer in probe.layers):
            raise NotApplicable

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score and its layers in float64, whose range is larger."""
        mantissa = np.asarray(parts["mantissa"], np.float64)
        with np.errstate(over="ignore"):
            layers = np.ldexp(mantissa, np.asarray(parts["exponent"]))
        return {"score": where_finite(parts, layers.sum(-1)), "layers": layers}


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
        matrices = list(_matrices(probe, saliency(probe, "off")))[1:]
        diverse = [self._is_diverse(name, w) for name, w, _ in matrices]
        norms = iter(
            _nuclear([(w, g) for (_, w, g), d in zip(matrices, diverse, strict=True) if d])
        )
        terms = [
            next(norms) if d else flow(w, g) for (_, w, g), d in zip(matrices, diverse, strict=True)
        ]
        if self.head_twice:
            terms[-1] = Wide(2 * terms[-1].mantissa, terms[-1].exponent)
        return _parts(terms)

    def _is_diverse(self, name: str, kernel: Array) -> bool:
        if self.branch == "role":
            return is_attention(name)
        return role(name).endswith("qkv") or kernel.shape[0] == kernel.shape[1]


def _matrices(probe: Probe, pairs: list[tuple[Array, Wide]]) -> Iterator[tuple[str, Array, Wide]]:
    """Each layer's name, kernel and gradient [inputs, outputs].

    Kernels of queries, keys and values may have several axes of outputs, that of attention's
    output [H, K, D] has two of inputs.
    """
    for layer, (w, g) in zip(probe.layers, pairs, strict=True):
        ends = role(layer.name) in ("proj", "out")
        shape = (-1, w.shape[-1]) if ends else (len(w), -1)
        g = wide.flat(g)
        yield layer.name, w.reshape(shape), Wide(g.mantissa.reshape(shape), g.exponent)


def _nuclear(pairs: Sequence[tuple[Array, Wide]]) -> list[Wide]:
    """||g||_* ||w||_* of kernels and gradients [inputs, outputs], those of one shape together."""

    def together(group: list[int]) -> list[Wide]:
        w_norms = nuclear_norms(jnp.stack([pairs[i][0] for i in group]))
        g_norms = nuclear_norms(jnp.stack([pairs[i][1].mantissa for i in group]))
        norms = zip(w_norms, g_norms, group, strict=True)
        return [wide.total(Wide(w * g, pairs[i][1].exponent)) for w, g, i in norms]

    return in_groups(together, [w.shape for w, _ in pairs])


def nuclear_norms(matrices: Array) -> Array:
    """Sums [n] of the singular values of matrices [n, a, b].

    With X = Q R they are the singular values s of R, and [[0, R], [R', 0]] has the eigenvalues +s
    and -s: accurate to rounding of the largest, where square roots of the eigenvalues of X' X keep
    half as many digits.

    Example:
        >>> (norm,) = nuclear_norms(jnp.array([[[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]]))
        >>> round(float(norm), 4)
        7.0
    """
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.swapaxes(1, 2)

    def of_one(x: Array) -> Array:
        r = jnp.linalg.qr(x, mode="r")
        zeros = jnp.zeros_like(r)
        return jnp.abs(jnp.linalg.eigvalsh(jnp.block([[zeros, r], [r.T, zeros]]))).sum() / 2

    # One by one: jaxlib's batched LAPACK calls (0.10) wait for their parts in XLA's own pool of
    # threads, and two of them at a time, on two cores, wait for ever.
    return jax.lax.map(of_one, matrices)


def _parts(terms: Sequence[Wide]) -> Parts:
    """The summed score and each layer's term.

    Terms come as values, and as the mantissas and exponents that `_Attention.finish` reads.
    """
    layers = wide.stacked(terms)
    values = wide.ordinary(layers)
    parts = {"score": values.sum(), "layers": values}
    return parts | {"mantissa": layers.mantissa, "exponent": layers.exponent}


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
        terms = [
            wide.total(g) if is_attention(layer.name) else _mean_sigmoid(w, g)
            for layer, (w, g) in zip(probe.layers, saliency(probe, "off"), strict=True)
        ]
        return _parts(terms[1:-1])


def _mean_sigmoid(w: Array, g: Wide) -> Wide:
    """Over the active weights; the inactive ones of an elastic network are zero."""
    is_there = w != 0
    sigmoids = jnp.where(is_there, jax.nn.sigmoid(wide.ordinary(wide.flat(g))), 0)
    return wide.total(Wide(sigmoids.sum() / (is_there.sum() + 1e-9)))
