"""Weight layers of mini-batches that were recorded by themselves, joined to those of one batch."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from lswag_jax.capture.tape import Call, Layer

Array = jax.Array


def concatenated(batches: Sequence[list[Layer]]) -> list[Layer]:
    """The weight layers of consecutive mini-batches, each recorded by itself, as one batch's."""

    def join(calls: Sequence[Call]) -> Call:
        return _of_all(calls[0], lambda get: jnp.concatenate([get(call) for call in calls]))

    return [
        dataclasses.replace(
            same[0], calls=[join(calls) for calls in zip(*(x.calls for x in same), strict=True)]
        )
        for same in zip(*batches, strict=True)
    ]


def unstacked(layers: list[Layer]) -> list[Layer]:
    """The same of layers whose arrays have the mini-batches as a leading axis."""

    def join(call: Call) -> Call:
        first = jax.tree.map(lambda leaf: leaf[0], (call.params, call.extra))
        call = dataclasses.replace(call, params=first[0], extra=first[1])
        return _of_all(call, lambda get: get(call).reshape(-1, *get(call).shape[2:]))

    return [dataclasses.replace(x, calls=[join(call) for call in x.calls]) for x in layers]


def _of_all(call: Call, joined: Callable[[Callable], Array]) -> Call:
    """A call with the inputs and the cotangents of all mini-batches."""
    has = call.cotangent is not None
    cotangent = joined(lambda c: c.cotangent) if has else None
    return dataclasses.replace(call, inputs=joined(lambda c: c.inputs), cotangent=cotangent)
