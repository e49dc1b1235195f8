"""Names and layouts of quark0/darts's weights (NetworkCIFAR, NetworkImageNet)."""

from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.darts.network import DartsNetwork
from lswag_jax.spaces.darts.plan import HALVES, cells, edge_stride, slots
from lswag_jax.spaces.torch_layers import Flat, batch_norm, conv, conv_norm, dense

# Position of each layer in the Sequential of a separable or dilated convolution.
_POSITIONS = {
    "depthwise_1": 1,
    "pointwise_1": 2,
    "norm_1": 3,
    "depthwise_2": 5,
    "pointwise_2": 6,
    "norm_2": 7,
}
# Convolutions and norms of the ImageNet stem.
_STEM = (("stem0.0", "stem0.1"), ("stem0.3", "stem0.4"), ("stem1.1", "stem1.2"))


def convert(module: DartsNetwork, weights: Mapping[str, np.ndarray]):
    """All weights of an evaluation network's state dict in our layout, less the auxiliary head.

    Returns:
        Flat variables, an image's shape, and False: they are not a super-network's.
    """
    imagenet = module.stem == "imagenet"
    if imagenet:
        flat: Flat = {}
        for i, (kernel, norm) in enumerate(_STEM):
            flat |= conv(weights, kernel, (f"stem_conv_{i}",))
            flat |= batch_norm(weights, norm, (f"stem_norm_{i}",))
    else:
        flat = conv(weights, "stem.0", ("stem_conv",))
        flat |= batch_norm(weights, "stem.1", ("stem_norm",))
    for i, place in enumerate(cells(module.layers, module.width, module.stem)):
        ours, theirs = f"cells_{i}", f"cells.{i}"
        for side, halves in ((0, place.halves_first), (1, False)):
            name, path = f"{theirs}.preprocess{side}", (ours, f"preprocess_{side}")
            flat |= (_factorized_reduce if halves else _relu_conv_norm)(weights, name, path)
        for j, (op, source) in enumerate(module.reduce if place.reduces else module.normal):
            stride = edge_stride(place.reduces, source)
            path = (ours, f"edge_{j}")
            flat |= _edge(weights, f"{theirs}._ops.{j}", path, slots(op, stride, module.pool_norm))
    flat |= dense(weights, "classifier", ("head",))
    size = 224 if imagenet else 32
    channels = weights["stem0.0.weight" if imagenet else "stem.0.weight"].shape[1]
    return flat, (size, size, channels), False


def _relu_conv_norm(weights: Mapping, name: str, path: tuple[str, ...]) -> Flat:
    return conv_norm(weights, f"{name}.op.1", f"{name}.op.2", path)


def _factorized_reduce(weights: Mapping, name: str, path: tuple[str, ...], norm="norm") -> Flat:
    flat = batch_norm(weights, f"{name}.bn", (*path, norm))
    for i, half in enumerate(HALVES, start=1):
        flat |= conv(weights, f"{name}.conv_{i}", (*path, half))
    return flat


def _edge(weights: Mapping, name: str, path: tuple[str, ...], names: tuple[str, ...]) -> Flat:
    """The layers of one edge."""
    if "half_1" in names:
        return _factorized_reduce(weights, name, path, "norm_1")
    flat: Flat = {}
    for slot in names:
        layer = batch_norm if slot.startswith("norm") else conv
        flat |= layer(weights, f"{name}.op.{_POSITIONS[slot]}", (*path, slot))
    return flat
