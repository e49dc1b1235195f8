"""Weights to start from: of a published AutoFormer super-network, or of a model of ours."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from lswag_jax.spaces import AutoFormer, Space, modes, torch_weights
from lswag_jax.training import model_files

_PUBLISHED = "blocks.0.attn.rel_pos_embed_k.embeddings_table_v"


def initial(space: Space, genotype: Any, key: jax.Array) -> dict[str, Any]:
    """Fresh variables of `build(genotype)`, or of the elastic network for None."""
    if genotype is None:
        return jax.jit(space.init)(key)
    module = modes.in_mode(space.build(genotype))
    init = functools.partial(module.init, **modes.arguments(type(module).__call__, 2))
    return jax.jit(init)(key, jnp.zeros((1, *space.image_shape)))


def inherited(space: Space, genotype: Any, source: str, key: jax.Array) -> dict[str, Any]:
    """Variables to start a training with.

    Where the number of classes differs the classifier is drawn anew.

    Args:
        space, genotype: what is trained; None for the elastic network.
        source: folder of a trained model or super-network (`model_files.save`), or a `.npz` or
            `.safetensors` file of a PyTorch state dict; "" for fresh variables.
        key: of fresh variables.

    Raises:
        ValueError: the weights are not of this space or genotype.
        FileNotFoundError: nothing at `source`.
    """
    fresh = initial(space, genotype, key)
    if not source:
        return fresh
    path = pathlib.Path(source)
    found = _of_model(space, genotype, path) if path.is_dir() else _of_torch(space, genotype, path)
    flat: dict[Any, Any] = traverse_util.flatten_dict(fresh)
    given: dict[Any, Any] = traverse_util.flatten_dict(found)
    if set(flat) != set(given):
        name = "/".join(sorted(set(flat) ^ set(given))[0])
        raise ValueError(f"the weights of {source} and the network differ in {name}.")
    for name, value in given.items():
        if value.shape == flat[name].shape:
            flat[name] = jnp.asarray(value, flat[name].dtype)
        elif value.shape[:-1] != flat[name].shape[:-1] or flat[name].shape[-1] != space.num_classes:
            raise ValueError(
                f"weight {'/'.join(name)} of {source} has shape {value.shape}, the network's has "
                f"{flat[name].shape}."
            )
    return traverse_util.unflatten_dict(flat)


def _of_model(space: Space, genotype: Any, path: pathlib.Path) -> Mapping[str, Any]:
    """Variables of a model of ours, cut out of it if it is a super-network."""
    model = model_files.load(path, None if model_files.is_known(space) else space)
    if model.genotype is None:
        return model.variables if genotype is None else model.inherit(genotype).variables
    if model.genotype != genotype:
        wanted = "a super-network" if genotype is None else space.format(genotype)
        held = model.space.format(model.genotype)
        raise ValueError(f"{path} holds {held} of {model.space.name}, not {wanted}.")
    return model.variables


def _of_torch(space: Space, genotype: Any, path: pathlib.Path) -> Mapping[str, Any]:
    """Variables from a PyTorch state dict, of a network with as many classes as it has."""
    weights = torch_weights.load(path)
    if isinstance(space, AutoFormer) and "head.weight" in weights:
        space = dataclasses.replace(space, num_classes=len(weights["head.weight"]))
    if genotype is None:
        return torch_weights.from_torch(space.network(), weights)
    if _PUBLISHED in weights:
        return space.extract(torch_weights.from_torch(space.network(), weights), genotype)
    return torch_weights.from_torch(space.build(genotype), weights)
