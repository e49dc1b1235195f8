"""Names and layouts of zero-cost-nas's NAS-Bench-101 weights (foresight's Network)."""

from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.nasbench101.genotype import KERNEL_SIZES
from lswag_jax.spaces.nasbench101.network import NasBench101Network
from lswag_jax.spaces.torch_layers import conv_norm, dense


def convert(module: NasBench101Network, weights: Mapping[str, np.ndarray]):
    """All weights of a Network's state dict in our layout.

    Returns:
        Flat variables, an image's shape, and False: they are not a super-network's.
    """
    flat = _conv_bn(weights, "layers.0", ("stem",))
    last = len(module.ops) - 1
    for i in range(module.stacks * module.cells):
        ours, theirs = f"cells_{i}", f"layers.{1 + i + i // module.cells}"  # pools count too
        for v in range(1, last + 1):
            if module.matrix[0][v]:
                name = "input_output" if v == last else f"input_{v}"
                flat |= _conv_bn(weights, f"{theirs}.input_op.{v}", (ours, name))
            if module.ops[v] in KERNEL_SIZES:
                name = f"{theirs}.vertex_op.{v}.{module.ops[v]}"
                flat |= _conv_bn(weights, name, (ours, f"vertex_{v}"))
    flat |= dense(weights, "classifier", ("head",))
    channels = weights["layers.0.conv_bn_relu.0.weight"].shape[1]
    side = 2 ** (module.stacks - 1)
    return flat, (side, side, channels), False


def _conv_bn(weights: Mapping, name: str, path: tuple[str, ...]) -> dict:
    return conv_norm(weights, f"{name}.conv_bn_relu.0", f"{name}.conv_bn_relu.1", path)
