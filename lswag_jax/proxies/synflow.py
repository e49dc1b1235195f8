"""SynFlow and logSynFlow: how much of a positive signal passes each weight. No data.

Sources: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic
flow", NeurIPS 2020; as a proxy SamsungLabs/zero-cost-nas, automl/NASLib. logSynFlow: Cavagnero et
al., "FreeREA", WACV 2023. With every parameter replaced by its absolute value, BatchNorm left out,
an image of ones as the input and R the sum of the outputs,

    synflow    = log sum_l sum |w dR/dw|
    logsynflow =     sum_l sum |w log(dR/dw + 1)|

The sums reach 1e67 on NAS-Bench-201 and more in deeper networks, so the pass forward and back
carries powers of two besides its arrays (`proxies.wide`): in float32 it has no largest number.
LayerNorm stays, as in the published ports to ViTs: signals there are not positive, and the argument
behind SynFlow does not hold.
"""

import dataclasses
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp

from lswag_jax.probe import Probe, candidate
from lswag_jax.proxies import wide
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.proxies.wide import Wide

Array = jax.Array
_LARGE = 40  # log(g + 1) is log g to the last bit of float64


def saliency(probe: Probe, mode: str) -> list[tuple[Array, Wide]]:
    """Kernel and dR/dkernel of each weight layer of the positive network.

    A kernel is zero where an elastic network's layer is absent.

    Args:
        probe: of the network.
        mode: of BatchNorm.
    """
    owner = probe.candidate
    variables = candidate.map_variables(lambda _, leaf: jnp.abs(leaf), owner.variables)
    positive = dataclasses.replace(owner, variables=variables)
    ones = jnp.ones((1, *probe.images.shape[1:]), probe.images.dtype)

    def outputs(kernels: dict[str, Array]) -> Array:
        network = positive.network(mode, positive.with_kernels(kernels))
        return network(ones).sum()

    def compute() -> tuple[Any, Any]:
        kernels = positive.kernels()
        return kernels, wide.gradient(outputs, kernels)

    kernels, grads = probe.once(("positive", mode), compute)
    return [(x.of(kernels), cast(Wide, x.of(grads))) for x in probe.layers]


def flow(kernel: Array, gradient: Wide) -> Wide:
    """sum |w g| of a layer."""
    gradient = wide.flat(gradient)
    return wide.total(Wide(kernel * gradient.mantissa, gradient.exponent))


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
        logs = wide.log(wide.stacked([flow(w, g) for w, g in saliency(probe, mode)]))
        return {"score": jax.nn.logsumexp(logs), "layers": logs}


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
        layers = jnp.stack([self._of_layer(w, g) for w, g in saliency(probe, "off")])
        return {"score": layers.sum(), "layers": layers}

    def _of_layer(self, w: Array, g: Wide) -> Array:
        # A gradient is negative only behind LayerNorm; its size is what is meant there.
        g = wide.flat(g)
        g = Wide(jnp.abs(g.mantissa), g.exponent)
        logs, value = wide.log(g), wide.ordinary(g)
        if self.variant == "log1p":
            logs = jnp.where(logs > _LARGE, logs, jnp.log1p(value))
        else:
            logs = jnp.where(g.mantissa > 0, logs, 0)
        return jnp.abs(w * logs).sum()
