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

from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy

Array = jax.Array


class LayerSum(Proxy):
    """Base of proxies that are a sum over weight layers."""

    @abc.abstractmethod
    def layer(self, probe: Probe, i: int) -> Array:
        """The summand of layer i; 0 for an absent layer."""

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers [L]."""
        layers = jnp.stack([self.layer(probe, i) for i in range(len(probe.layers))])
        return {"score": layers.sum(), "layers": layers}


@dataclasses.dataclass(frozen=True)
class Snip(LayerSum):
    """SNIP: sensitivity of the loss to removing each weight.

    Example:
        >>> Snip().passes == {"gradients"}
        True
    """

    name: ClassVar[str] = "snip"
    paper: ClassVar[str] = "Lee et al., ICLR 2019; Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "grows with size"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def layer(self, probe: Probe, i: int) -> Array:
        """sum |g w|."""
        return jnp.abs(probe.batch_gradient(i) * probe.kernel(i)).sum()


@dataclasses.dataclass(frozen=True)
class Plain(LayerSum):
    """Gradient times weight, signed: its sign is that of the data's noise."""

    name: ClassVar[str] = "plain"
    paper: ClassVar[str] = "Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "its sign is noise of the data"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def layer(self, probe: Probe, i: int) -> Array:
        """sum g w."""
        return (probe.batch_gradient(i) * probe.kernel(i)).sum()


@dataclasses.dataclass(frozen=True)
class GradNorm(LayerSum):
    """Sum of the layers' gradient norms, not the norm of all."""

    name: ClassVar[str] = "grad_norm"
    paper: ClassVar[str] = "Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "grows with the scale of the loss"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def layer(self, probe: Probe, i: int) -> Array:
        """||g||."""
        return jnp.linalg.norm(probe.batch_gradient(i).ravel())


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

    def layer(self, probe: Probe, i: int) -> Array:
        """||w||."""
        return jnp.linalg.norm(probe.kernel(i).ravel())
