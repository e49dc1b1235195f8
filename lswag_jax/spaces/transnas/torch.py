"""Names and layouts of the TransNAS-Bench-101 weights (MacroNet, as NASLib bundles it)."""

from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.torch_layers import batch_norm, conv, conv_norm, dense
from lswag_jax.spaces.transnas.network import TransNASNetwork
from lswag_jax.spaces.transnas.plan import BLOCKS


def convert(module: TransNASNetwork, weights: Mapping[str, np.ndarray]):
    """All weights of a MacroNet with its linear head ("full") in our layout.

    Returns:
        Flat variables, an image's shape, and False: they are not a super-network's.
    """
    if module.task.dense:
        raise ValueError(
            f"weights of networks with a linear head can be read, not those of {module.task.name}, "
            "whose head is a decoder."
        )
    flat = conv(weights, "stem.0", ("stem", "conv"))
    flat |= batch_norm(weights, "stem.1", ("stem", "norm"))
    flat |= _relu_conv_bn(weights, "stem.2", ("stem", "block"))
    for i in range(len(module.modules)):
        for j in range(BLOCKS):
            ours, theirs = f"module_{i}_block_{j}", f"layer{i}.{j}"
            if module.ops is None:
                flat |= _residual_block(weights, theirs, ours)
            else:
                for k in range(len(module.ops)):
                    flat |= _edge(weights, f"{theirs}.edges.{k}", (ours, f"edge_{k}"))
    flat |= dense(weights, "head", ("head", "linear"))
    tiles = (module.task.tiles,) if module.task.tiles > 1 else ()
    return flat, (*tiles, 64, 64, weights["stem.0.weight"].shape[1]), False


def _relu_conv_bn(weights: Mapping, name: str, path: tuple[str, ...]) -> dict:
    return conv_norm(weights, f"{name}.ops.1", f"{name}.ops.2", path)


def _edge(weights: Mapping, name: str, path: tuple[str, ...]) -> dict:
    if f"{name}.ops.1.weight" in weights:
        return _relu_conv_bn(weights, name, path)
    if f"{name}.bn.weight" not in weights:
        return {}
    flat = batch_norm(weights, f"{name}.bn", (*path, "norm"))
    for i in range(2):
        flat |= conv(weights, f"{name}.convs.{i}", (*path, f"reduce_{i}"))
    return flat


def _residual_block(weights: Mapping, name: str, block: str) -> dict:
    flat = {}
    for part in ("conv_a", "conv_b"):
        flat |= _relu_conv_bn(weights, f"{name}.{part}", (block, part))
    if f"{name}.downsample.0.weight" in weights:
        flat |= conv(weights, f"{name}.downsample.0", (block, "downsample"))
        flat |= batch_norm(weights, f"{name}.downsample.1", (block, "downsample_norm"))
    return flat
