"""Terms of Lambda: log-sums over weights of 1/std, layer by layer, that L-SWAG and ZiCo add up."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lswag_jax.proxies.base import Parts
from lswag_jax.spaces.depth import NUM_BINS, Window

Array = jax.Array


class Term(NamedTuple):
    """One log-sum: the layer it is of, its depth bin, and the deviations of a variant's sum."""

    name: str
    bin: Array
    log_sum: Array
    sigmas: Sequence[Array] = ()


def log_sum(sigma: Array, weight: Array | None = None) -> Array:
    """log sum_w weight_w / sigma_w over the weights with sigma_w > 0; -inf where there is none.

    The smallest sigma is taken out of the sum first, so that values of 1e12 do no harm. A sigma
    that is NaN or infinite makes the result so.
    """
    positive = sigma > 0
    smallest = jnp.where(positive, sigma, jnp.inf).min()
    smallest = jnp.where(jnp.isfinite(smallest), smallest, 1.0)
    ratio = jnp.where(positive, smallest / jnp.where(positive, sigma, 1.0), 0.0)
    total = (ratio if weight is None else weight * ratio).sum()
    value = jnp.log(total) - jnp.log(smallest)
    largest = sigma.max()
    return jnp.where(jnp.isfinite(largest), value, largest)


def total(
    terms: list[Term], window: Window | None, dtype: jnp.dtype, scale: Array | None = None
) -> Parts:
    """Lambda = sum of the terms inside the window, and what it is made of.

    Args:
        terms: n, in order of execution.
        window: first and last depth bin; None takes all.
        dtype: of Lambda where there is no term.
        scale: divides every deviation, so that its logarithm is added to each term.

    Returns:
        See `LSwag.gradient_factor`.
    """
    if not terms:  # no architecture of the space has a layer in the window
        none = jnp.zeros(0, dtype)
        zero = jnp.zeros((), jnp.int32)
        counts = {"n_layers": zero, "empty_layers": zero}
        layers = {"lambda_l": none, "in_window": none > 0, "bins": none.astype(jnp.int32)}
        return {"lambda": none.sum()} | layers | counts
    bins_n = jnp.stack([term.bin for term in terms])
    lambda_n = jnp.stack([term.log_sum for term in terms])
    selected_n, empty_n = in_window(bins_n, window), lambda_n == -jnp.inf  # log of an empty sum
    used_n = selected_n & ~empty_n
    if scale is not None:
        lambda_n = lambda_n + jnp.log(scale)
    return {
        "lambda": jnp.where(used_n, lambda_n, 0).sum(),
        "lambda_l": jnp.where(empty_n, 0, lambda_n),
        "bins": bins_n,
        "in_window": used_n,
        "n_layers": used_n.sum(),
        "empty_layers": (selected_n & empty_n).sum(),
    }


def in_window(bins_n: Array, window: Window | None) -> Array:
    """Whether each depth bin is inside the window; -1, of an absent layer, never is."""
    first, last = window or (0, NUM_BINS)
    return (bins_n >= first) & (bins_n <= last)
