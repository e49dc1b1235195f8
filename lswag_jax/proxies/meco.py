"""MeCo: smallest eigenvalues of the correlation between channels.

Source: Jiang et al., "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
Eigenvalue of Correlation", NeurIPS 2023; code HamsterMimi/MeCo. With o_l [C, positions] the output
for the first of the noise images,

    score = sum_l lambda_min( corrcoef(o_l) ),   NaN entries as 0

The code also counts the output of every container again. Here each output of a weight layer,
normalisation or activation function counts once; outputs without positions have no correlation.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.arrays import each
from lswag_jax.capture import tape
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy
from lswag_jax.proxies.fisher import channel_axes

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class MeCo(Proxy):
    """MeCo on one noise image of the network's own size. Draws `meco/image` [1, H, W, C]."""

    name: ClassVar[str] = "meco"
    paper: ClassVar[str] = "Jiang et al., NeurIPS 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "features"
    data: ClassVar[str] = "none"
    networks: ClassVar[str] = "outputs with positions"
    weakness: ClassVar[str] = "one image; counts layers"

    def measure(self, probe: Probe) -> Parts:
        """The score and its outputs: layers, norms, activations, each in order of execution."""
        network = probe.candidate.network(probe.candidate.batch_mode)
        outputs = outputs_of_first(network, probe.noise("meco/image", 1))
        if not outputs:
            raise NotApplicable
        layers = each(_smallest, [(o.reshape(-1, o.shape[-1]),) for o in outputs])
        return {"score": layers.sum(), "layers": layers}


def outputs_of_first(network: tape.Network, images: Array) -> list[Array]:
    """Outputs [..., C] for the first image that have positions.

    They are those of the first call of each weight layer, of the normalisations and activation
    functions, each in order of execution.
    """
    recorded = tape.record(network, images)
    outputs = [_of_call(layer.calls[0]) for layer in (*recorded.layers, *recorded.norms)]
    outputs += [a.post[0] for a in recorded.activations]
    return [o for o in outputs if o.ndim > 1]


def _of_call(call: tape.Call) -> Array:
    """The output for the first image, with one axis of channels."""
    output = call.run(call.params, call.inputs)
    if call.kind == "weight":
        axes = channel_axes(call.params["kernel"].shape, output.shape)
        output = output.reshape(*output.shape[: output.ndim - axes], -1)
    return output[0]


def _smallest(o_NxC: Array) -> Array:
    """Smallest eigenvalue of the channels' correlations; those of a constant channel are 0.

    Channels that an elastic network does not have are constant too and would make it 0: they are
    left out unless all are constant, as are dead channels of an exact network.
    """
    centred_NxC = o_NxC - o_NxC.mean(0, keepdims=True)
    norm_C = jnp.linalg.norm(centred_NxC, axis=0)
    is_alive = norm_C > 0
    unit_NxC = centred_NxC / jnp.where(is_alive, norm_C, 1)[None]
    # Eigenvalues are at most C: with C on its diagonal a dead channel is never the smallest.
    c_CxC = unit_NxC.T @ unit_NxC
    c_CxC += jnp.diag(jnp.where(is_alive, 0, len(norm_C)).astype(o_NxC.dtype))
    return jnp.where(is_alive.any(), jnp.linalg.eigvalsh(c_CxC)[0], 0)
