"""The probe: all that proxies may read of one architecture, statistics computed once and shared."""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import in_groups, or_zeros, rows, stack_or_array_id, stacked
from lswag_jax.capture.models import ForeignInputs
from lswag_jax.capture.tape import Activation, Layer, Loss, Tape
from lswag_jax.probe import patterns
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.like_layers import kind_of, loop_of, map_present
from lswag_jax.probe.moments import (
    GradientRequests,
    Moments,
    Stream,
    batch_gradients,
    check_batches,
    coarser,
    coupled_moments,
    moments_of,
    same_layer,
    stream,
)
from lswag_jax.spaces.depth import NUM_BINS, BinRange, BinRule, Window, can_be_in, depth_bins

Array = jax.Array


@dataclasses.dataclass
class Probe:
    """One architecture seen through one batch.

    Attributes:
        candidate: the network, for proxies that run it in a way of their own.
        tape: the gradient pass; without cotangents where no proxy wants gradients.
        activations: of the pattern batch.
        in_units, out_units: active elements, a sample, of each weight layer's input and output
            [L]; 0 marks a layer that an elastic network does not have.
        act_units: active units of each activation layer [A].
        bin_range: lowest and highest depth bin that each layer can have in the scored space.
        all_images: of the pattern batch.
        images, labels: of the gradient batch.
        loss: per-sample loss.
        record: `tape.record` of (network, images, labels) for the gradients that are wanted.
        draws: random tensors.
        requests: what all proxies together read of the samples' gradients.
        layers_read: whether any proxy reads the gradient of each weight layer, bool [L]; None for
            all.
    """

    candidate: Candidate
    tape: Tape
    activations: list[Activation]
    in_units: Array | np.ndarray
    out_units: Array | np.ndarray
    act_units: Array | np.ndarray
    bin_range: BinRange
    all_images: Array
    images: Array
    labels: Array
    loss: Loss
    record: Callable[..., Tape]
    draws: Draws
    requests: GradientRequests
    layers_read: np.ndarray | None = None
    _cache: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @property
    def layers(self) -> list[Layer]:
        """Weight layers in order of execution."""
        return self.tape.layers

    @property
    def present(self) -> Array:
        """Whether the architecture has each weight layer, bool [L]."""
        return jnp.asarray(self.in_units) > 0

    def noise(self, name: str, n: int) -> Array:
        """Images drawn from N(0, 1), [n, ...] in the shape of the batch's.

        Raises:
            ForeignInputs: the network takes integers.
        """
        if not jnp.issubdtype(self.images.dtype, jnp.floating):
            raise ForeignInputs("a model of integers runs on no noise.")
        return self.draws.normal(name, (n, *self.images.shape[1:]), self.images.dtype)

    def layer_bins(self, rule: BinRule = "zero_based") -> Array:
        """Depth bin of each weight layer, int32 [L]; -1 for absent layers."""
        return depth_bins(self.present, rule)

    def activation_bins(self, rule: BinRule = "zero_based") -> Array:
        """Depth bin of each activation layer, int32 [A].

        An activation's depth is the number of weight layers before it.
        """
        before = self._present_before()[
            np.array([a.num_layers_before for a in self.activations], int)
        ]
        last = NUM_BINS if rule == "literal" else NUM_BINS - 1
        return jnp.minimum(before * NUM_BINS // jnp.maximum(self.present.sum(), 1), last)

    def bin_after(self, index: int, rule: BinRule = "zero_based") -> Array:
        """Depth bin of the next present layer from weight layer `index` on, or of the last."""
        depth = jnp.maximum(self.present.sum(), 1)
        place = jnp.minimum(self._present_before()[index], depth - 1) + (rule != "zero_based")
        last = NUM_BINS if rule == "literal" else NUM_BINS - 1
        return jnp.minimum(place * NUM_BINS // depth, last)

    def _present_before(self) -> Array:
        """How many present weight layers are before each, int32 [L + 1]."""
        return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(self.present, dtype=jnp.int32)])

    def can_be_in(self, window: Window | None, rule: BinRule = "zero_based") -> np.ndarray:
        """Whether any architecture of the space has each layer in the window, bool [L]."""
        return can_be_in(self.bin_range(rule), window)

    def moments(
        self,
        layer: Layer,
        names: Sequence[str] = ("kernel",),
        *,
        batches: int | None = None,
        absolute: bool = True,
        scale: float = 1.0,
        ddof: int = 0,
    ) -> dict[str, Moments]:
        """Moments of a layer's gradients, computed once for equal arguments; zeros if absent.

        Args:
            layer: of weights or a normalisation.
            names: parameters wanted.
            batches: number n of mini-batches whose mean losses' gradients are meant; None takes
                every sample's own.
            absolute: variance of |g| instead of g.
            scale: factor on every gradient.
            ddof: delta degrees of freedom of the variance.

        Raises:
            ValueError: a normalisation layer where BatchNorm makes samples interact, unequal
                mini-batches, or ddof that is not below their number.
        """
        n = batches or len(self.images)
        if batches is not None:
            gradients = self.gradients(layer, names, batches)
            found = {name: moments_of(gradients[name], absolute) for name in names}
        elif self.candidate.is_coupled and self.candidate.batch_norm == "through":
            coupled = self.once(
                ("coupled", absolute), lambda: coupled_moments(self.tape, absolute=absolute)
            )
            found = same_layer(coupled, layer)
        else:
            streams = self._stream(layer, absolute)
            found = {name: streams[name].samples for name in names}
        return {name: found[name].rescaled(n, scale, ddof) for name in names}

    def gradients(self, layer: Layer, names: Sequence[str], batches: int) -> dict[str, Array]:
        """Gradients [n, ...] of the mean losses of n mini-batches; zeros if absent.

        They come out of the pass over the samples where a proxy asks for one and BatchNorm does not
        give mini-batches their own statistics; all n are held at once.

        Raises:
            ValueError: a normalisation layer where mini-batches have their own statistics, or the
                gradient batch cannot be cut into n equal parts.
        """
        names = tuple(names)
        if self._batches_have_statistics:
            found = self.once(
                ("gradients", names, batches), lambda: self._gradients_of_batches(names, batches)
            )
            return same_layer(found, layer)
        if self.requests.samples is not None and self.requests.batches % batches == 0:
            streams = self._stream(layer, self.requests.samples)
            return {name: coarser(streams[name].batches, batches) for name in names}
        return self.of_like_layers(
            ("gradients", names, batches),
            layer,
            self.layers,
            lambda layer: batch_gradients(layer, names, batches),
        )

    def _gradients_of_batches(self, names: tuple[str, ...], n: int) -> dict[str, dict[str, Array]]:
        """Gradients [n, ...] by layer of n mini-batches, each with its own statistics.

        Raises:
            ValueError: the gradient batch cannot be cut into n equal parts.
        """
        check_batches(len(self.images), n)

        def compute(layer: Layer) -> dict[str, Array]:
            return batch_gradients(layer, [name for name in names if name in layer.params], 1)

        def gradients(batch: tuple[Array, Array]) -> dict[str, dict[str, Array]]:
            layers = [x for x in self._batch_layers(*batch) if self._is_read(x)]
            return self._over_like_layers(compute, layers)

        if n == 1:
            return self._over_like_layers(
                compute, [x for x in self.batch_layers() if self._is_read(x)]
            )
        batches = [a.reshape(n, -1, *a.shape[1:]) for a in (self.images, self.labels)]
        return jax.tree.map(lambda g: g[:, 0], jax.lax.map(gradients, tuple(batches)))

    def _batch_layers(self, images: Array, labels: Array) -> list[Layer]:
        """Weight layers of a batch with its own statistics."""
        network = self.candidate.network(self.candidate.batch_mode)
        return self.record(network, images, labels).layers

    def _stream(self, layer: Layer, absolute: bool) -> dict[str, Stream]:
        """The pass over the samples' gradients of a layer, for all who read it."""
        batches = 1 if self._batches_have_statistics else self.requests.batches

        def compute(layer: Layer) -> dict[str, Stream]:
            return stream(layer, tuple(layer.params), absolute=absolute, batches=batches)

        layers = self.layers if layer.kind == "weight" else self.tape.norms
        return self.of_like_layers(("stream", absolute), layer, layers, compute)

    def of_like_layers(
        self, key: Hashable, layer: Layer, layers: Sequence[Layer], compute: Callable[[Layer], Any]
    ) -> Any:
        """What `compute` returns for a layer, or zeros where the architecture lacks it.

        It is computed for all layers that are alike and read, one by one in a loop that is compiled
        once. A normalisation is taken to be present.

        Args:
            key: of `compute`.
            layer: one of `layers`.
            layers: of the network, all of weights or all normalisations.
            compute: of a layer.
        """
        if (key, layer.name) not in self._cache:
            some = [other for other in layers if self._is_read(other) or other is layer]
            results = self._over_like_layers(compute, some)
            self._cache |= {(key, name): result for name, result in results.items()}
        return self._cache[key, layer.name]

    def _is_read(self, layer: Layer) -> bool:
        """Whether a proxy reads the gradient of a weight layer; normalisations are taken to be."""
        place = self._places.get(layer.name)
        return place is None or self.layers_read is None or bool(self.layers_read[place])

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        """Place of each weight layer by its name."""
        return {layer.name: i for i, layer in enumerate(self.layers)}

    def _over_like_layers(
        self, compute: Callable[[Layer], Any], layers: Sequence[Layer]
    ) -> dict[str, Any]:
        """What `compute` returns for each layer, by name; like layers are taken in one loop."""
        names = [layer.name for layer in layers]

        def together(group: list[int]) -> list:
            arrays = [layers[i].anonymous() for i in group]
            return map_present(compute, arrays, self._are_present([names[i] for i in group]))

        return dict(zip(names, in_groups(together, map(kind_of, layers)), strict=True))

    def _are_present(self, names: Sequence[str]) -> Array | None:
        """Whether each layer is present, bool [n]; None for an exact network or normalisations."""
        if self.candidate.is_exact or names[0] not in self._places:
            return None
        return self.present[np.array([self._places[name] for name in names])]

    def if_present(self, i: int, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, or zeros where the architecture does not have weight layer i."""
        if self.candidate.is_exact:
            return compute()
        return or_zeros(self.present[i], compute)

    def kernel(self, i: int) -> Array:
        """Kernel of weight layer i; of an elastic network as the architecture has it."""
        return self.layers[i].params["kernel"]

    def fan_in(self, i: int, channels: int) -> Array | int:
        """Weights of each output channel of weight layer i; of an elastic network [channels].

        An elastic kernel is zero where the architecture has no weight (`Space.active_variables`).
        """
        kernel = self.kernel(i)
        if self.candidate.is_exact:
            return kernel.size // channels
        return (kernel != 0).reshape(-1, channels).sum(0)

    @property
    def _batches_have_statistics(self) -> bool:
        """Whether mini-batches have statistics of their own."""
        return self.candidate.has_batch_norm and self.candidate.batch_norm != "eval"

    def batch_layers(self) -> list[Layer]:
        """Weight layers with the cotangents of the gradient batch's summed loss, training mode."""
        if not self._batches_have_statistics:
            return self.layers
        return self.once("batch layers", lambda: self._batch_layers(self.images, self.labels))

    def sample_tape(self, batch_norm: str) -> Tape:
        """The gradient batch with each sample's cotangents, in a mode of BatchNorm."""
        if not self.candidate.has_batch_norm or batch_norm == self.candidate.batch_norm:
            return self.tape
        return self.once(
            ("samples", batch_norm),
            lambda: self.record(self.candidate.network(batch_norm), self.images, self.labels),
        )

    def values(self, token_reduce: str = "none") -> list[Array]:
        """Unit values [B, U_a] of each activation layer.

        Raises:
            ValueError: a reduction over positions where the elastic network pads its maps.
        """
        if token_reduce != "none":
            self.check_positions("token_reduce")
        return self.once(
            ("values", token_reduce),
            lambda: self._units([a.post for a in self.activations], token_reduce),
        )

    def _units(self, posts: Sequence[Array], token_reduce: str) -> list[Array]:
        """Unit values of outputs [B, ...]; of like ones they are rows of one array."""
        of_outputs = jax.vmap(functools.partial(patterns.units, token_reduce=token_reduce))

        def together(group: list[int]) -> list[Array]:
            return rows(of_outputs(stacked([posts[i] for i in group])))

        return in_groups(together, [(post.shape, stack_or_array_id(post)) for post in posts])

    def check_positions(self, option: str) -> None:
        """Raise ValueError where sums over positions are not those of the exact network."""
        if self.candidate.padded_maps:
            raise ValueError(
                f"{option} over positions is not offered for a population of this space, whose "
                "elastic network pads feature maps: score `space.build(genotype)` by score_model."
            )

    def words(
        self, token_reduce: str = "none", threshold: float = 0.0, binarize: str = "positive"
    ) -> list[Array]:
        """Packed patterns [W, U_a] of each activation layer."""
        return self.once(
            ("words", token_reduce, threshold, binarize),
            lambda: self._pack(self.values(token_reduce), threshold, binarize),
        )

    def _pack(self, values: Sequence[Array], threshold: float, binarize: str) -> list[Array]:
        """Patterns of activation layers; zero patterns for absent ones."""
        pack = functools.partial(patterns.pack, threshold=threshold, binarize=binarize)
        present = jnp.asarray(self.act_units) > 0

        def together(group: list[int]) -> list[Array]:
            some = None if self.candidate.is_exact else present[np.array(group)]
            return map_present(pack, [values[i] for i in group], some)

        return in_groups(together, [(v.shape, loop_of(v)) for v in values])

    def distinct(
        self, token_reduce: str = "none", threshold: float = 0.0, binarize: str = "positive"
    ) -> Array:
        """Number of distinct patterns of each activation layer, int32 [A]."""
        return self.once(
            ("distinct", token_reduce, threshold, binarize),
            lambda: patterns.count_each(
                self.words(token_reduce, threshold, binarize), self.num_units(token_reduce)
            ),
        )

    def num_units(self, token_reduce: str = "none") -> Array:
        """Active units of each activation layer, int32 [A]."""
        pairs = zip(self.activations, self.values(token_reduce), strict=True)
        shrink = [a.post.size // v.size for a, v in pairs]
        return jnp.asarray(self.act_units, jnp.int32) // np.array(shrink, np.int32)

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, computed once for equal keys."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]


def sizes_of(tape: Tape, activations: Sequence[Activation]) -> Mapping[str, np.ndarray]:
    """Active sizes of an exact network, from the shapes on its tape."""
    calls = [layer.calls[0] for layer in tape.layers]
    return {
        "in_units": np.array([math.prod(call.inputs.shape[1:]) for call in calls], np.int32),
        "out_units": np.array([call.output_units for call in calls], np.int32),
        "act_units": np.array([math.prod(a.post.shape[1:]) for a in activations], np.int32),
    }
