"""GraSP: whether removing a weight would hurt the gradient's flow.

Source: Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
2020; as a proxy SamsungLabs/zero-cost-nas. With g0 the gradient of the batch's mean loss, taken as
a constant, and H the Hessian with respect to the kernels,

    score = - sum_l sum w (H g0)_w

Temperature 1 and the same batch for g0 and H, as in zero-cost-nas, whose sign this is.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Grasp(Proxy):
    """GraSP in the sign of zero-cost-nas; BatchNorm is differentiated through its statistics."""

    name: ClassVar[str] = "grasp"
    paper: ClassVar[str] = "Wang et al., ICLR 2020; Abdelfattah et al., ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    family: ClassVar[str] = "training"
    weakness: ClassVar[str] = "its sign depends on the data's noise; expensive"

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers [L]."""
        kernels = probe.candidate.kernels()
        leaves = {layer.calls[0].leaf for layer in probe.layers}
        scored = {name: kernel for name, kernel in kernels.items() if name in leaves}

        def loss(scored: dict[str, Array]) -> Array:
            variables = probe.candidate.with_kernels(kernels | scored)
            network = probe.candidate.network(probe.candidate.batch_mode, variables)
            return probe.loss(network(probe.images), probe.labels).mean()

        # Reverse over reverse, as our convolutions have their own rules: H is symmetric, so that
        # the gradient's own pullback gives H g0.
        g0, pull_back = jax.vjp(jax.grad(loss), scored)
        (hg,) = pull_back(g0)
        layers = jnp.stack([-(x.of(scored) * x.of(hg)).sum() for x in probe.layers])
        return {"score": layers.sum(), "layers": layers}
