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

from lswag_jax.arrays import total
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

        gradient = jax.grad(loss)
        g0 = jax.tree.map(jax.lax.stop_gradient, gradient(scored))

        def product(scored: dict[str, Array]) -> Array:
            return total(jnp.vdot(g0[name], g) for name, g in gradient(scored).items())

        # Reverse over reverse: our convolutions have their own rules.
        hg = jax.grad(product)(scored)
        layers = jnp.stack([-(x.of(scored) * x.of(hg)).sum() for x in probe.layers])
        return {"score": layers.sum(), "layers": layers}
