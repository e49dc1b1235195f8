"""Proxies of the weights and their gradient on one mini-batch: SNIP, grad_norm, plain, l2_norm.

Source: Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021 (code
SamsungLabs/zero-cost-nas); SNIP is Lee et al., ICLR 2019. With g_l the gradient of the batch's mean
loss with respect to kernel w_l, in training mode:

    snip      = sum_l sum |g_l w_l|
    plain     = sum_l sum  g_l w_l
    grad_norm = sum_l ||g_l||_2
    l2_norm   = sum_l ||w_l||_2
"""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.arrays import each
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy

Array = jax.Array


class LayerSum(Proxy):
    """Base of proxies that are a sum over weight layers."""

    @abc.abstractmethod
    def arrays(self, probe: Probe, i: int) -> tuple:
        """What is read of layer i."""

    @abc.abstractmethod
    def summand(self, *arrays: Array) -> Array:
        """A layer's term of the sum, from its `arrays`; 0 for an absent layer."""

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers [L]."""
        layers = each(self.summand, [self.arrays(probe, i) for i in range(len(probe.layers))])
        return {"score": layers.sum(), "layers": layers}


class GradientSum(LayerSum):
    """Base of proxies that read a layer's kernel and the batch's gradient, [1, ...]."""

    def arrays(self, probe: Probe, i: int) -> tuple[Array, Array]:
        """The kernel, and its gradient [1, ...]."""
        return probe.kernel(i), probe.gradients(probe.layers[i], ("kernel",), 1)["kernel"]


@dataclasses.dataclass(frozen=True)
class Snip(GradientSum):
    """SNIP: sensitivity of the loss to removing each weight.

    Example:
        >>> Snip().passes == {"gradients"}
        True
    """

    name: ClassVar[str] = "snip"
    paper: ClassVar[str] = "Lee et al., ICLR 2019; Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "grows with size"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def summand(self, *arrays: Array) -> Array:
        """sum |g w|."""
        weight, gradient = arrays
        return jnp.abs(gradient[0] * weight).sum()


@dataclasses.dataclass(frozen=True)
class Plain(GradientSum):
    """Gradient times weight, signed: its sign is that of the data's noise."""

    name: ClassVar[str] = "plain"
    paper: ClassVar[str] = "Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "its sign is noise of the data"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def summand(self, *arrays: Array) -> Array:
        """sum g w."""
        weight, gradient = arrays
        return (gradient[0] * weight).sum()


@dataclasses.dataclass(frozen=True)
class GradNorm(GradientSum):
    """Sum of the layers' gradient norms, not the norm of all."""

    name: ClassVar[str] = "grad_norm"
    paper: ClassVar[str] = "Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "grows with the scale of the loss"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def summand(self, *arrays: Array) -> Array:
        """||g||."""
        _, gradient = arrays
        return jnp.linalg.norm(gradient.ravel())


@dataclasses.dataclass(frozen=True)
class L2Norm(LayerSum):
    """Sum of the layers' weight norms; for one initialisation a measure of size.

    It needs no data, but the traced network, and so a forward pass.
    """

    name: ClassVar[str] = "l2_norm"
    paper: ClassVar[str] = "Abdelfattah et al., ICLR 2021"
    data: ClassVar[str] = "none"
    weakness: ClassVar[str] = "a count of sizes"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    def arrays(self, probe: Probe, i: int) -> tuple[Array]:
        """The kernel."""
        return (probe.kernel(i),)

    def summand(self, *arrays: Array) -> Array:
        """||w||."""
        (weight,) = arrays
        return jnp.linalg.norm(weight.ravel())
