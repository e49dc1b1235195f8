"""Fisher: what the loss would lose without each channel.

Source: Turner et al., "BlockSwap", ICLR 2020; as code SamsungLabs/zero-cost-nas.
With a the output of a weight layer, before any normalisation, and L the batch's mean loss,

    q_nc  = sum over positions of a dL/da         for sample n and channel c
    F_c   = 1/2 mean_n q_nc^2
    score = sum_l fan_in_l sum_c F_c

The code spreads a channel's value over its weights before it sums, hence the fan-in.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from lswag_jax.arrays import alike, total
from lswag_jax.capture.tape import Call, Layer
from lswag_jax.probe import Probe
from lswag_jax.proxies.weight_gradients import LayerSum

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Fisher(LayerSum):
    """Fisher information of the channels.

    On ViTs the published code sums over the wrong axis; here positions are tokens and channels are
    channels.

    Args:
        aggregate: "weights" weighs each channel by its number of weights, as the code does;
            "channels" counts each once.

    Raises:
        ValueError: another aggregation.
    """

    name: ClassVar[str] = "fisher"
    paper: ClassVar[str] = "Turner et al., ICLR 2020; Abdelfattah et al., ICLR 2021"
    weakness: ClassVar[str] = "grows with the fan-in"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    aggregate: Literal["weights", "channels"] = "weights"

    def arrays(self, probe: Probe, i: int) -> tuple[Array, Array | int]:
        """Products [B, C] of a and dl/da, and the weights of each channel."""
        layers = probe.batch_layers()
        groups = probe.of_like_layers("channel_products", layers[i], layers, _layer_products)
        fan_ins = [jnp.broadcast_to(probe.fan_in(i, q.shape[1]), q.shape[1]) for q in groups]
        return jnp.concatenate(groups, axis=1), jnp.concatenate(fan_ins)

    def summand(self, *arrays: Array) -> Array:
        """fan_in sum_c F_c."""
        products_BxC, fan_in = arrays
        q_BxC = products_BxC / len(products_BxC)  # dL/da is of the mean loss
        f_C = 0.5 * (q_BxC**2).mean(0)
        return (f_C * fan_in).sum() if self.aggregate == "weights" else f_C.sum()


def _layer_products(layer: Layer) -> list[Array]:
    """Sums over the calls with as many channels; a tied weight has others where it is turned."""
    products = [_channel_products(call) for call in layer.calls if not call.is_path]
    return [total(products[i] for i in group) for group in alike(q.shape[1] for q in products)]


def _channel_products(call: Call) -> Array:
    """sum over positions of a dl/da, [B, C], with l the summed loss."""
    output = call.run(call.params, call.inputs)
    return call.by_channel(output * call.output_cotangent).sum(1)
