"""The probe: all that proxies may read of one architecture, statistics computed once and shared."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax import patterns
from lswag_jax.moments import Moments, gradient_moments
from lswag_jax.tape import Activation, Layer, Tape

Array = jax.Array
NUM_BINS = 10
BIN_RULES = ("zero_based", "one_based", "literal")
Window = tuple[int, int]


@dataclasses.dataclass
class Probe:
    """One architecture seen through one batch.

    Attributes:
        tape: the gradient pass; without cotangents where no proxy wants gradients.
        activations: of the pattern batch.
        in_units, out_units: active elements, a sample, of each weight layer's input and output
            [L]; 0 marks a layer that an elastic network does not have.
        act_units: active units of each activation layer [A].
        layer_sets: every set of present layers that the scored space has, bool [K, L].
        record_batches: for networks whose samples interact, a function of n that records n
            mini-batches with statistics of their own; None where samples do not interact.
    """

    tape: Tape
    activations: list[Activation]
    in_units: Array | np.ndarray
    out_units: Array | np.ndarray
    act_units: Array | np.ndarray
    layer_sets: np.ndarray
    record_batches: Callable[[int], list[Layer]] | None = None
    _cache: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @property
    def layers(self) -> list[Layer]:
        """Weight layers in order of execution."""
        return self.tape.layers

    @property
    def present(self) -> Array:
        """Whether the architecture has each weight layer, bool [L]."""
        return jnp.asarray(self.in_units) > 0

    def layer_bins(self, rule: str = "zero_based") -> Array:
        """Depth percentile bin of each weight layer, int32 [L]; -1 for layers that are not there.

        Equation 6 of the paper in integers, (l * 10) // D, for l = 0..D-1 ("zero_based"), for
        l = 1..D with the last bin clipped ("one_based"), or with an eleventh bin ("literal").
        """
        return depth_bins(self.present, rule)

    def activation_bins(self, rule: str = "zero_based") -> Array:
        """Depth bin of each activation layer, int32 [A].

        An activation's depth is the number of weight layers before it (METHODS 1.3).
        """
        before = jnp.cumsum(self.present)[np.array([a.after - 1 for a in self.activations], int)]
        last = NUM_BINS if rule == "literal" else NUM_BINS - 1
        return jnp.minimum(before * NUM_BINS // jnp.maximum(self.present.sum(), 1), last)

    def can_be_in(self, window: Window | None, rule: str = "zero_based") -> np.ndarray:
        """Whether any architecture of the space has each layer in the window, bool [L]."""
        return layers_in_window(self.layer_sets, window, rule)

    def moments(self, layer: Layer, names: Sequence[str], **options: Any) -> dict[str, Moments]:
        """`gradient_moments` of a layer, computed once for equal arguments.

        Raises:
            ValueError: a normalisation layer over mini-batches that have statistics of their own.
        """
        groups = options.get("groups")
        if groups is not None and self.record_batches is not None:
            layers = self._once(("batches", groups), lambda: self.record_batches(groups))
            same = [other for other in layers if other.name == layer.name]
            if not same:
                raise ValueError(
                    "normalisation layers of a network with BatchNorm have no mini-batch moments: "
                    "set include_norm=False or var_over='sample'."
                )
            layer = same[0]
        key = ("moments", layer.name, tuple(names), tuple(sorted(options.items())))
        return self._once(key, lambda: gradient_moments(layer, names, **options))

    def values(self, token_reduce: str = "none") -> list[Array]:
        """Unit values [B, U_a] of each activation layer."""
        return self._once(
            ("values", token_reduce),
            lambda: [patterns.units(a.post, token_reduce) for a in self.activations],
        )

    def words(
        self, token_reduce: str = "none", threshold: float = 0.0, binarize: str = "positive"
    ) -> list[Array]:
        """Packed patterns [W, U_a] of each activation layer."""
        return self._once(
            ("words", token_reduce, threshold, binarize),
            lambda: [patterns.pack(v, threshold, binarize) for v in self.values(token_reduce)],
        )

    def distinct(
        self, token_reduce: str = "none", threshold: float = 0.0, binarize: str = "positive"
    ) -> Array:
        """Number of distinct patterns of each activation layer, int32 [A]."""
        return self._once(
            ("distinct", token_reduce, threshold, binarize),
            lambda: patterns.count_each(
                self.words(token_reduce, threshold, binarize), self.num_units(token_reduce)
            ),
        )

    def num_units(self, token_reduce: str = "none") -> list[Array]:
        """Active units of each activation layer."""
        shrink = [
            a.post[0].size // v.shape[1]
            for a, v in zip(self.activations, self.values(token_reduce), strict=True)
        ]
        return [self.act_units[i] // s for i, s in enumerate(shrink)]

    def _once(self, key, compute):
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]


def depth_bins(present: Array | np.ndarray, rule: str = "zero_based") -> Array:
    """Depth percentile bin of each layer [..., L]; -1 for layers that are not there.

    Raises:
        ValueError: an unknown rule.

    Example:
        >>> [int(b) for b in depth_bins(np.array([True, True, False, True]))]
        [0, 3, -1, 6]
    """
    if rule not in BIN_RULES:
        raise ValueError(f"bins must be one of {BIN_RULES}, got {rule!r}.")
    xp = np if isinstance(present, np.ndarray) else jnp
    index = xp.cumsum(present, axis=-1) - (rule == "zero_based")
    depth = xp.maximum(present.sum(-1, keepdims=True), 1)
    bins = index * NUM_BINS // depth
    if rule == "one_based":
        bins = xp.minimum(bins, NUM_BINS - 1)
    return xp.where(present, bins, -1)


def layers_in_window(
    layer_sets: np.ndarray, window: Window | None, rule: str = "zero_based"
) -> np.ndarray:
    """Whether any of the layer sets [K, L] has each layer in the window, bool [L]."""
    if window is None:
        return layer_sets.any(0)
    bins = depth_bins(layer_sets, rule)
    return ((bins >= window[0]) & (bins <= window[1])).any(0)


def sizes_of(tape: Tape, activations: Sequence[Activation]) -> Mapping[str, np.ndarray]:
    """Active sizes of an exact network, from the shapes on its tape."""
    calls = [layer.calls[0] for layer in tape.layers]
    return {
        "in_units": np.array([call.inputs[0].size for call in calls], np.int32),
        "out_units": np.array([call.output_units for call in calls], np.int32),
        "act_units": np.array([a.post[0].size for a in activations], np.int32),
    }
