"""Depth percentile bins of layers (equation 6 of the L-SWAG paper)."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
NUM_BINS = 10
BinRule = Literal["zero_based", "one_based", "literal"]
BIN_RULES = get_args(BinRule)
Window = tuple[int, int]
# Lowest and highest bin [2, L] that each layer of a space can have, by the rule.
BinRange = Callable[[BinRule], np.ndarray]


def depth_bins(present: Array | np.ndarray, rule: str = "zero_based") -> Array:
    """Depth percentile bin of each layer [..., L]; -1 for absent layers.

    Equation 6 in integers, (l * 10) // D, for l = 0..D-1 ("zero_based"), for l = 1..D with the
    last bin clipped ("one_based"), or with an eleventh bin ("literal").

    Raises:
        ValueError: an unknown rule.

    Example:
        >>> [int(b) for b in depth_bins(np.array([True, True, False, True]))]
        [0, 3, -1, 6]
    """
    if rule not in BIN_RULES:
        raise ValueError(f"bins must be one of {BIN_RULES}, got {rule!r}.")
    xp: Any = np if isinstance(present, np.ndarray) else jnp
    index = xp.cumsum(present, axis=-1) - (rule == "zero_based")
    depth = xp.maximum(present.sum(-1, keepdims=True), 1)
    bins = index * NUM_BINS // depth
    if rule == "one_based":
        bins = xp.minimum(bins, NUM_BINS - 1)
    return xp.where(present, bins, -1)


def bin_range(layer_sets: np.ndarray, rule: str = "zero_based") -> np.ndarray:
    """Lowest and highest bin [2, L] of each layer over sets of present layers, bool [K, L].

    A layer that no set has gets the empty range (NUM_BINS + 1, -1).

    Example:
        >>> bin_range(np.array([[True, True], [False, True]])).tolist()
        [[0, 0], [0, 5]]
    """
    bins = depth_bins(layer_sets, rule)
    lowest = np.where(layer_sets, bins, NUM_BINS + 1).min(0)
    return np.stack([lowest, bins.max(0)])


def can_be_in(bins_2xL: np.ndarray, window: Window | None) -> np.ndarray:
    """Whether a layer of each range of bins can be in the window, bool [L]."""
    first, last = (0, NUM_BINS) if window is None else window
    return (bins_2xL[0] <= last) & (bins_2xL[1] >= first)


def all_present(num_layers: int) -> BinRange:
    """The bins of a network that has all its layers."""
    return lambda rule: bin_range(np.ones((1, num_layers), bool), rule)
