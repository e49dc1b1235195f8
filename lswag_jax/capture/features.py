"""Feature maps of a network, and what passes between consecutive ones."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from lswag_jax.arrays import bind, shaped
from lswag_jax.capture.batch_norm import BatchStatistics
from lswag_jax.capture.network import Network
from lswag_jax.capture.program import Flat
from lswag_jax.capture.record import Mark, mark_of, places_of, start, traced
from lswag_jax.capture.rows import Place, Rows
from lswag_jax.capture.sample_calls import call_of_samples
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


@dataclasses.dataclass(frozen=True)
class Features:
    """The feature maps that a network marks, read off its traced program.

    Marks in scans, under `remat` and in a `vmap` over the batch are seen there.

    Attributes:
        parts: the blocks of the network, or itself: each with its program, what its marks stand
            for, and where the samples are in its variables.
        batch: number of samples.
    """

    parts: Sequence[tuple[Network, Flat, Sequence[tuple], Mapping[Any, Place | None]]]
    batch: int

    @classmethod
    def of(cls, network: Any, images: Array, final: bool = False) -> "Features":
        """Traces a network on images, with the map before its last pooling too where `final`."""
        kinds = ("norm", "feature", *(("final",) if final else ()))
        x: Any = jax.ShapeDtypeStruct(images.shape, images.dtype)
        batch, parts = len(images), []
        for part, told in network.parts() if hasattr(network, "parts") else [(network, True)]:
            flat, _, applies = traced(part, x, kinds if told else (), for_marks=True)
            parts.append((part, flat, applies, places_of(flat, batch)))
            x = shaped(flat.jaxpr.outvars[0])
        return cls(parts, batch)

    def run(
        self, images: Array, pass_on: Callable[[int, Array], Array] = lambda i, x: x
    ) -> tuple[list[FeatureMap], list[BatchStatistics]]:
        """The feature maps, and the statistics of every BatchNorm layer, in order.

        Args:
            images: of the shape that was traced.
            pass_on: gives what goes on to the next block for a map and its number.

        Raises:
            ValueError: a map without the samples, or a BatchNorm inside a `vmap`.
        """
        maps: list[FeatureMap] = []
        statistics: list[BatchStatistics] = []

        def passed(mark: Mark, place: Place | None, values: Sequence) -> Array:
            *captured, output = values
            own, inputs, extra = jax.tree.unflatten(mark.structure, captured)
            if mark.kind == "norm":
                if mark.is_batch_norm:
                    assert mark.apply is not None  # it is a normalisation's
                    now = (own, inputs, extra, output)
                    call_of_samples(mark.name, mark.apply, mark.shapes, now, self.batch)
                    statistics.append(extra)
                return output
            if place is None:
                raise ValueError(
                    f"the feature map '{mark.name}' of shape {output.shape} has no axis of the "
                    "samples: the network mixes the samples of a batch."
                )
            rows = Rows.of(output.shape, place, self.batch)
            maps.append(FeatureMap(rows.first(output, self.batch), extra[0] if extra else None))
            return rows.back(pass_on(len(maps) - 1, maps[-1].values))

        x: Any = images
        for part, flat, applies, places in self.parts:
            env = start(flat, part, x)
            for i, eqn in enumerate(flat.jaxpr.eqns):
                values = [v.val if isinstance(v, core.Literal) else env[v] for v in eqn.invars]
                mark = mark_of(i, eqn, applies)
                if mark is None:
                    outputs = bind(eqn, values)
                else:
                    outputs = [passed(mark, places.get(eqn.invars[-1]), values)]
                env.update(zip(eqn.outvars, outputs, strict=True))
            last = flat.jaxpr.outvars[0]
            x = last.val if isinstance(last, core.Literal) else env[last]
        return maps, statistics


def pullbacks(
    features: Features, images: Array, cotangent: Callable[[int, FeatureMap], Array]
) -> list[tuple[FeatureMap, Array, Array]]:
    """For consecutive feature maps f and f' the cotangent of f' and its pullback to f.

    Args:
        features: of a network.
        images: the batch.
        cotangent: of feature map number i.

    Returns:
        For each map but the first: the map, its cotangent, and the pullback [B, ..., C of f]. Each
        pair is cut off from the others, so that all take one backward pass together.
    """
    shapes = jax.eval_shape(lambda x: [f.values for f in features.run(x)[0]], images)
    zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]

    def run(perturbations: list[Array]) -> tuple[list[Array], list[FeatureMap]]:
        cut = lambda i, x: jax.lax.stop_gradient(x) + perturbations[i]  # noqa: E731
        maps = features.run(images, cut)[0]
        return [f.values for f in maps], maps

    _, back, maps = jax.vjp(run, zeros, has_aux=True)
    cotangents = [cotangent(i, f) for i, f in enumerate(maps)]
    (pulled,) = back(cotangents)
    return [(maps[i], cotangents[i], pulled[i - 1]) for i in range(1, len(maps))]
