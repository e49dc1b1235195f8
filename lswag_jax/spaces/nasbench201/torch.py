"""Names and layouts of xautodl's NAS-Bench-201 weights (TinyNetwork)."""

from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.nasbench201.network import NasBench201Network
from lswag_jax.spaces.nasbench201.plan import CONV_SIZES, STAGES, is_residual
from lswag_jax.spaces.torch_layers import batch_norm, conv, conv_norm, dense


def convert(module: NasBench201Network, weights: Mapping[str, np.ndarray]):
    """All weights of a TinyNetwork's state dict in our layout.

    Returns:
        Flat variables, an image's shape, and False: they are not a super-network's.
    """
    flat = conv(weights, "stem.0", ("stem_conv",)) | batch_norm(weights, "stem.1", ("stem_norm",))
    for i in range(STAGES * module.cells + STAGES - 1):
        ours, theirs = f"cells_{i}", f"cells.{i}"
        if is_residual(i, module.cells):
            for name in ("conv_a", "conv_b"):
                block = f"{theirs}.{name}"
                flat |= conv_norm(weights, f"{block}.op.1", f"{block}.op.2", (ours, name))
            flat |= conv(weights, f"{theirs}.downsample.1", (ours, "downsample"))
            continue
        for edge, op in enumerate(module.edges):
            if op in CONV_SIZES:
                block = f"{theirs}.layers.{edge}"
                path = (ours, f"edge_{edge}")
                flat |= conv_norm(weights, f"{block}.op.1", f"{block}.op.2", path)
    flat |= batch_norm(weights, "lastact.0", ("norm",)) | dense(weights, "classifier", ("head",))
    channels = weights["stem.0.weight"].shape[1]
    return flat, (32, 32, channels), False
