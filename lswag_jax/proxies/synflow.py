"""SynFlow and logSynFlow: how much of a positive signal passes each weight. No data.

Sources: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020; as a proxy SamsungLabs/zero-cost-nas, automl/NASLib. logSynFlow: Cavagnero et
al., "FreeREA", WACV 2023. With every parameter replaced by its absolute value, BatchNorm left out,
an image of ones as the input and R the sum of the outputs,

    synflow    = log sum_l sum |w dR/dw|
    logsynflow =     sum_l sum |w log(dR/dw + 1)|

The sums reach 1e67 on NAS-Bench-201, so they are computed in float64, whatever the mode of JAX.
LayerNorm stays, as in the published ports to ViTs: signals there are not positive, and the argument
behind SynFlow does not hold.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from lswag_jax.capture import adapters
from lswag_jax.probe import Probe, candidate
from lswag_jax.proxies.base import Parts, Proxy

Array = jax.Array


def saliency(
    probe: Probe, mode: str, of_layer: Callable[[Array, Array], Array]
) -> tuple[list[Array], type]:
    """`of_layer(kernel, dR/dkernel)` of each weight layer in float64, for the positive network.

    Args:
        probe: of the network.
        mode: of BatchNorm.
        of_layer: zero for kernels of zeros, as those of layers that are not there.
    """
    dtype, owner = probe.tape.logits.dtype, probe.candidate
    with jax.enable_x64(True):
        positive = dataclasses.replace(
            owner, variables=candidate.map_variables(_positive, owner.variables)
        )
        ones = jnp.ones((1, *probe.images.shape[1:]), jnp.float64)

        def total(kernels: dict[str, Array]) -> Array:
            network = positive.network(mode, positive.with_kernels(kernels))
            return network(ones, adapters.no_hook).sum()

        def compute() -> tuple[Any, Any]:
            kernels = positive.kernels()
            return kernels, jax.grad(total)(kernels)

        kernels, grads = probe.once(("positive", mode), compute)
        return [of_layer(x.of(kernels), x.of(grads)) for x in probe.layers], dtype


def summed(layers: list[Array], dtype: type) -> Parts:
    """The score of float64 layers and the layers, in the working precision."""
    with jax.enable_x64(True):
        layers_L = jnp.stack(layers)
        return {"score": layers_L.sum().astype(dtype), "layers": layers_L.astype(dtype)}


def _positive(_: str, leaf: Array) -> Array:
    return jnp.abs(leaf).astype(jnp.float64)


@dataclasses.dataclass(frozen=True)
class SynFlow(Proxy):
    """Synaptic flow; the score and its layers are logarithms.

    Args:
        batch_norm: "off" leaves BatchNorm out; "kept" normalises the image of ones by itself
            (synflow_bn of zero-cost-nas).

    Raises:
        ValueError: another value.
    """

    name: ClassVar[str] = "synflow"
    paper: ClassVar[str] = "Tanaka et al., NeurIPS 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "synaptic"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "grows with depth and width alone; adds nothing to size on ViTs"

    batch_norm: Literal["off", "kept"] = "off"

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers [L]."""
        mode = "off" if self.batch_norm == "off" else "through"
        sums, dtype = saliency(probe, mode, lambda w, g: jnp.abs(w * g).sum())
        with jax.enable_x64(True):
            layers = jnp.stack(sums)
            score, logs = jnp.log(layers.sum()), jnp.log(layers)
            return {"score": score.astype(dtype), "layers": logs.astype(dtype)}


@dataclasses.dataclass(frozen=True)
class LogSynFlow(Proxy):
    """SynFlow with the gradient's logarithm, which keeps it from exploding with depth.

    Args:
        variant: "log1p" is log(g + 1); "abs_log" Auto-Prox's |log g|, 0 where g is 0.

    Raises:
        ValueError: another variant.
    """

    name: ClassVar[str] = "logsynflow"
    paper: ClassVar[str] = "Cavagnero et al., WACV 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "synaptic"
    data: ClassVar[str] = "none"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "as synflow, less so"

    variant: Literal["log1p", "abs_log"] = "log1p"

    def measure(self, probe: Probe) -> Parts:
        """The score and its layers [L]."""
        return summed(*saliency(probe, "off", self._of_layer))

    def _of_layer(self, w: Array, g: Array) -> Array:
        # A gradient is negative only behind LayerNorm; its size is what is meant there.
        g = jnp.abs(g)
        logs = jnp.log1p(g) if self.variant == "log1p" else jnp.log(jnp.where(g > 0, g, 1))
        return jnp.abs(w * logs).sum()
