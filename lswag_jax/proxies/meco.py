"""MeCo: smallest eigenvalues of the correlation between channels.

Source: Jiang et al., "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
Eigenvalue of Correlation", NeurIPS 2023; code HamsterMimi/MeCo. With o_l [C, positions] the output
for the first of the noise images,

    score = sum_l lambda_min( corrcoef(o_l) ),   NaN entries as 0

The code also counts the output of every container again. Here each output of a weight layer,
normalisation or activation function counts once; outputs without positions have no correlation.
The code counts each call of a module: of a jigsaw each tile by itself. Here the nine tiles are
positions of one output, also of a normalisation that is called once a tile.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import each
from lswag_jax.capture import tape
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy

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
        outputs = outputs_of_first(tape.record(network, probe.noise("meco/image", 1)))
        if not outputs:
            raise NotApplicable
        layers = each(_smallest, [(o.reshape(-1, o.shape[-1]),) for o in outputs])
        return {"score": layers.sum(), "layers": layers}

    def is_undefined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """No output has more positions than channels: all smallest eigenvalues are 0."""
        return np.asarray(parts["score"]) == 0


def outputs_of_first(recorded: tape.Tape) -> list[Array]:
    """Outputs [..., C] for the first image that have positions.

    They are those of the first call of each weight layer, of the normalisations and activation
    functions, each in order of execution.
    """
    products = [layer.calls[0] for layer in recorded.layers]
    whole = [call.run(call.params, call.inputs) for call in products]
    maps = [call.by_channel(y)[0] for call, y in zip(products, whole, strict=True)]
    # A dense layer's single position is none; a convolution's is a map of one.
    outputs = [
        x if len(x) > 1 or call.spatial != () else x[0]
        for call, x in zip(products, maps, strict=True)
    ]
    axes = [_channel_axis(call, y.shape[1:]) for call, y in zip(products, whole, strict=True)]
    others = [(layer.calls[0].num_layers_before, _norm(layer)) for layer in recorded.norms]
    others += [(a.num_layers_before, a.post) for a in recorded.activations]
    for num_before, y in others:
        size, axis = axes[num_before - 1] if num_before else (0, -1)
        # Channels lie where those of the product before do, unless the array was turned since.
        there = -axis < y.ndim and y.shape[axis] == size
        outputs.append(jnp.moveaxis(y[0], axis, -1) if there else y[0])
    return [o for o in outputs if o.ndim > 1]


def _norm(layer: tape.Layer) -> Array:
    """Output [B, ..., C] of a normalisation, [B, calls, ..., C] where tiles have a call each."""
    # A call further down the network, after another layer, is no tile.
    tiles = [c for c in layer.calls if c.num_layers_before == layer.calls[0].num_layers_before]
    outputs = [call.run(call.params, call.inputs) for call in tiles]
    return outputs[0] if len(outputs) == 1 else jnp.stack(outputs, axis=1)


def _channel_axis(call: tape.Call, shape: tuple[int, ...]) -> tuple[int, int]:
    """Size and axis (from the end) of an output's channels; the last where they fill several."""
    number = call.channels(shape).reshape(shape)
    for axis, size in enumerate(shape):
        along = np.arange(size).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        if size > 1 and np.array_equal(number, np.broadcast_to(along, shape)):
            return size, axis - len(shape)
    return shape[-1], -1


def _smallest(o_NxC: Array) -> Array:
    """Smallest eigenvalue of the channels' correlations; those of a constant channel are 0.

    Channels that an elastic network does not have are constant too and would make it 0: they are
    left out unless all are constant, as are dead channels of an exact network.
    """
    centred_NxC = o_NxC - o_NxC.mean(0, keepdims=True)
    norm_C = jnp.linalg.norm(centred_NxC, axis=0)
    is_alive = norm_C > 0
    unit_NxC = centred_NxC / jnp.where(is_alive, norm_C, 1)[None]
    n, c = unit_NxC.shape
    size = is_alive.sum()
    if n < c:  # the alive channels' eigenvalues that are not 0 are those of the smaller product
        v_N = jnp.linalg.eigvalsh(unit_NxC @ unit_NxC.T)
        smallest, largest = jnp.where(size > n, 0, v_N[n - size]), v_N[-1]
    else:
        # Eigenvalues are at most C: with C on its diagonal a dead channel is never the smallest.
        dead_CxC = jnp.diag(jnp.where(is_alive, 0, c).astype(o_NxC.dtype))
        v_C = jnp.linalg.eigvalsh(unit_NxC.T @ unit_NxC + dead_CxC)
        smallest, largest = v_C[0], v_C[jnp.maximum(size - 1, 0)]
    rounding = c * jnp.finfo(o_NxC.dtype).eps * largest
    return jnp.where((size > 0) & (smallest > rounding), smallest, 0)
