"""Feature maps of a network, and what passes between consecutive ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.capture.batch_norm import BatchStatistics
from lswag_jax.capture.network import Network
from lswag_jax.spaces.layers import unit_mask

Array = jax.Array


class FeatureMap(NamedTuple):
    """A marked feature map [B, ..., C] with `active` active channels, None for all."""

    values: Array
    active: Array | None

    @property
    def mask(self) -> Array:
        """1 for the active channels."""
        mask = jnp.asarray(unit_mask(self.values.shape[-1], self.active, self.values.dtype))
        return mask.reshape((1,) * (self.values.ndim - mask.ndim) + mask.shape)

    @property
    def present(self) -> Array | bool:
        """Whether the network has this block."""
        return True if self.active is None else self.active > 0


def feature_maps(network: Network, images: Array) -> list[FeatureMap]:
    """Every marked feature map, in order; empty where the network marks none."""
    return _run(network, images)[0]


def pooled_features(network: Network, images: Array) -> tuple[Array | None, list[BatchStatistics]]:
    """The last marked feature map, and the statistics of every BatchNorm layer."""
    maps, statistics = _run(network, images, final=True)
    return (maps[-1].values if maps else None), statistics


def pullbacks(
    network: Network, images: Array, cotangent: Callable[[int, FeatureMap], Array]
) -> list[tuple[FeatureMap, Array, Array]]:
    """For consecutive feature maps f and f' the cotangent of f' and its pullback to f.

    Args:
        network: with marked feature maps.
        images: the batch.
        cotangent: of feature map number i.

    Returns:
        For each map but the first: the map, its cotangent, and the pullback [B, ..., C of f]. Each
        pair is cut off from the others, so that all take one backward pass together.
    """
    shapes = jax.eval_shape(lambda x: [f.values for f in feature_maps(network, x)], images)
    zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]

    def run(perturbations: list[Array]) -> tuple[list[Array], list[FeatureMap]]:
        maps = _run(network, images, lambda i, x: jax.lax.stop_gradient(x) + perturbations[i])[0]
        return [f.values for f in maps], maps

    _, back, maps = jax.vjp(run, zeros, has_aux=True)
    cotangents = [cotangent(i, f) for i, f in enumerate(maps)]
    (pulled,) = back(cotangents)
    return [(maps[i], cotangents[i], pulled[i - 1]) for i in range(1, len(maps))]


def _run(
    network: Network,
    images: Array,
    pass_on: Callable[[int, Array], Array] = lambda i, x: x,
    final: bool = False,
) -> tuple[list[FeatureMap], list[BatchStatistics]]:
    """Runs the network, keeping what it marks; `pass_on` gives what goes on to the next block."""
    maps: list[FeatureMap] = []
    statistics: list[BatchStatistics] = []

    def hook(name: str, kind: str, apply, params, inputs, extra: Any, output: Array) -> Array:
        if isinstance(extra, BatchStatistics):
            statistics.append(extra)
        is_wanted = kind == "feature" or (kind == "final" and final)
        if not is_wanted:
            return output
        maps.append(FeatureMap(output, extra[0] if extra else None))
        return pass_on(len(maps) - 1, output)

    network(images, hook)
    return maps, statistics
