"""Calls of layers as functions of whole samples, where a network folds them or maps over them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Params = dict[str, Array]


def of_samples(x: Array, batch: int, what: str = "") -> Array:
    """An array [B * k, ...] as [B, k, ...]; one of [B, ...] as it is."""
    if x.ndim == 0 or x.shape[0] % batch:
        raise ValueError(
            f"{what} has the shape {x.shape}, whose leading axis is no multiple of the batch of "
            f"{batch}: it must have the samples there, for example by jnp.broadcast_to."
        )
    return x if len(x) == batch else x.reshape(batch, -1, *x.shape[1:])


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """A layer's call on each row, of a layer that ran inside a `vmap` over them."""

    apply: Callable

    def __call__(self, params: Params, inputs: Array, extra: Any) -> Array:
        return jax.vmap(self.apply, (None, 0, None))(params, inputs, extra)


@dataclasses.dataclass(frozen=True)
class _Folded:
    """A layer's call on samples [b, k, ...] (`inputs`), of a layer whose rows are parts of them."""

    apply: Callable
    inputs: bool

    def __call__(self, params: Params, inputs: Array, extra: Any) -> Array:
        rows = inputs.reshape(-1, *inputs.shape[2:]) if self.inputs else inputs
        return of_samples(self.apply(params, rows, extra), len(inputs))


def call_of_samples(
    name: str, apply: Callable, captured: tuple, values: tuple, batch: int
) -> tuple[Callable, Array]:
    """A layer's call as a function of whole samples, and its inputs [B, ...].

    Args:
        name: of the layer.
        apply: the call as it was captured.
        captured: shapes of its parameters, inputs, further arrays and output there.
        values: the same in the whole program; of other shapes where the layer ran inside a `vmap`.
        batch: number of samples.

    Raises:
        ValueError: it is no function of single samples.
    """
    _, inputs, _, output = values
    if not hasattr(inputs, "shape"):
        raise ValueError(
            f"the first argument of layer '{name}' must be an array with the samples first, got "
            f"{type(inputs).__name__}."
        )
    if jax.tree.map(jnp.shape, values) != captured:
        rows = inputs.shape[:1]
        mapped = (captured[0], rows + captured[1], captured[2], rows + captured[3])
        if jax.tree.map(jnp.shape, values) != mapped:
            raise ValueError(
                f"layer '{name}' runs inside a vmap over its parameters or over another axis than "
                "the batch, where it cannot be captured: call it once for each of them, for "
                "example in a for loop."
            )
        apply = _Mapped(apply)
    inputs_B = of_samples(inputs, batch, f"the input of layer '{name}'")
    output_B = of_samples(output, batch, f"the output of layer '{name}'")
    if inputs_B is not inputs or output_B is not output:
        apply = _Folded(apply, inputs_B is not inputs)
    return apply, inputs_B
