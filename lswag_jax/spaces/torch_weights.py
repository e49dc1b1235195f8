"""Weights of the published PyTorch models as variables of our networks."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from lswag_jax.extras import extra
from lswag_jax.files import read_npz
from lswag_jax.options import typed
from lswag_jax.spaces.autoformer import network as autoformer_network
from lswag_jax.spaces.autoformer import torch as autoformer_torch
from lswag_jax.spaces.darts import network as darts_network
from lswag_jax.spaces.darts import torch as darts_torch
from lswag_jax.spaces.nasbench101 import network as nasbench101_network
from lswag_jax.spaces.nasbench101 import torch as nasbench101_torch
from lswag_jax.spaces.nasbench201 import network as nasbench201_network
from lswag_jax.spaces.nasbench201 import torch as nasbench201_torch
from lswag_jax.spaces.plan import flat_variables
from lswag_jax.spaces.transnas import network as transnas_network
from lswag_jax.spaces.transnas import torch as transnas_torch

Converted = tuple[dict[tuple[str, ...], np.ndarray], tuple[int, ...], bool]

# Network class -> function of (module, state dict): our flat variables, an input's shape, and
# whether the weights are a super-network's.
_CONVERTERS: dict[type[nn.Module], Callable[..., Converted]] = {
    autoformer_network.VisionTransformer: autoformer_torch.convert,
    darts_network.DartsNetwork: darts_torch.convert,
    nasbench101_network.NasBench101Network: nasbench101_torch.convert,
    nasbench201_network.NasBench201Network: nasbench201_torch.convert,
    transnas_network.TransNASNetwork: transnas_torch.convert,
}


@typed
def from_torch(
    module: nn.Module, state_dict: Mapping[str, Any] | str | os.PathLike
) -> dict[str, Any]:
    """Variables of `module` from a PyTorch state dict.

    A super-network of Cream goes into the elastic `space.network()`; cut a sub-network out with
    `space.extract`. Stand-alone sub-networks (Cream, Auto-Prox) go into `space.build(genotype)`.

    Source of the names: microsoft/Cream, Auto-Prox, quark0/darts, SamsungLabs/zero-cost-nas,
    xautodl (D-X-Y), NASLib.

    Args:
        module: a network of one of our search spaces.
        state_dict: arrays under their PyTorch names, or a `.npz` or `.safetensors` file of them.

    Returns:
        The variables, with the arrays' own dtype.

    Raises:
        ValueError: a weight is missing or has another shape, a file of another kind, or a module
            that is not of our search spaces.
        FileNotFoundError: no such file.

    Example:
        >>> variables = from_torch(space.build(g), "vit.safetensors")  # doctest: +SKIP
    """
    if type(module) not in _CONVERTERS:
        known = ", ".join(c.__name__ for c in _CONVERTERS)
        raise ValueError(f"from_torch knows the networks {known}, got {type(module).__name__}.")
    weights = dict(state_dict) if isinstance(state_dict, Mapping) else load(state_dict)
    try:
        flat, input_shape, is_super = _CONVERTERS[type(module)](module, weights)
    except KeyError as error:
        raise ValueError(f"the state dict has no weight {error.args[0]!r}.") from None
    template = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *input_shape)))
    expected = flat_variables(template)
    for path, array in flat.items():
        if is_super and path in expected:  # the first units are the sub-network's
            flat[path] = array = array[tuple(slice(size) for size in expected[path].shape)]
        if path not in expected or expected[path].shape != array.shape:
            raise ValueError(
                f"weight {'/'.join(path)} has shape {array.shape}, but the module has "
                f"{expected[path].shape if path in expected else 'no such weight'}."
            )
    missing = sorted(set(expected) - set(flat))
    if missing:
        raise ValueError(f"the state dict lacks the module's weight {'/'.join(missing[0])}.")
    return traverse_util.unflatten_dict({path: jnp.asarray(a) for path, a in flat.items()})


@typed
def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays of a `.npz` or `.safetensors` file; never unpickles.

    Raises:
        ValueError: another kind of file.
        FileNotFoundError: no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}.")
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".safetensors":
        with extra("data"):
            from safetensors import SafetensorError
            from safetensors import numpy as safetensors

        try:
            return safetensors.load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a .safetensors file, or a damaged one.") from error
    raise ValueError(f"weights are read from .npz or .safetensors files, got {path.name}.")
