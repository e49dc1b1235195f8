"""PyTorch's layers in Flax's layout: what the converters of the CNN spaces share."""

from collections.abc import Mapping

import numpy as np

Flat = dict[tuple[str, ...], np.ndarray]
Path = tuple[str, ...]


def conv(weights: Mapping[str, np.ndarray], name: str, path: Path) -> Flat:
    """The kernel of a Conv2d, OIHW, as HWIO; its bias where it has one."""
    flat = {("params", *path, "kernel"): weights[f"{name}.weight"].transpose(2, 3, 1, 0)}
    if f"{name}.bias" in weights:
        flat["params", *path, "bias"] = weights[f"{name}.bias"]
    return flat


def dense(weights: Mapping[str, np.ndarray], name: str, path: Path) -> Flat:
    """Kernel and bias of a Linear."""
    return {
        ("params", *path, "kernel"): weights[f"{name}.weight"].T,
        ("params", *path, "bias"): weights[f"{name}.bias"],
    }


def batch_norm(weights: Mapping[str, np.ndarray], name: str, path: Path) -> Flat:
    """Running statistics of a BatchNorm2d, and scale and bias where it has them."""
    flat = {
        ("batch_stats", *path, "mean"): weights[f"{name}.running_mean"],
        ("batch_stats", *path, "var"): weights[f"{name}.running_var"],
    }
    if f"{name}.weight" in weights:
        flat["params", *path, "scale"] = weights[f"{name}.weight"]
        flat["params", *path, "bias"] = weights[f"{name}.bias"]
    return flat


def conv_norm(weights: Mapping[str, np.ndarray], convolution: str, norm: str, path: Path) -> Flat:
    """A Conv2d and a BatchNorm2d as the layers "conv" and "norm" of one block."""
    flat = conv(weights, convolution, (*path, "conv"))
    return flat | batch_norm(weights, norm, (*path, "norm"))
