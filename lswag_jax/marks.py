"""Public marks: what a network says of itself where data flow alone cannot tell.

A mark is an identity for everything but the tape: outside of scoring it costs nothing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from lswag_jax.options import typed

Array = jax.Array

LAYER = "lswag_jax_layer"  # name of a call that is one weight layer
ACTIVATION = "lswag_jax_activation"  # name of a call that is an activation
_functions: dict[Any, int] = {}  # marked functions with their options, by the number in the name


@typed
def layer(function: Callable, x: Array, kernel: Array, *arrays: Array, **options: Any) -> Array:
    """`function(x, kernel, *arrays, **options)`, taken by proxies as one weight layer.

    For a layer whose product is out of sight (chosen by a traced index, say), or that has a
    gradient of its own. The function takes any number of samples along the first axis of `x`,
    returns them along the first axis of its output, and treats each independently.

    Args:
        function: pure and hashable.
        x: [B, ...].
        kernel: depends on parameters alone.
        *arrays: further arrays without samples.
        **options: hashable, given to the function as they are.

    Raises:
        ValueError: the function or an option cannot be hashed, or an argument is not an array.
    """
    for name, value in {"x": x, "kernel": kernel}.items():
        _check_array(f"{name} of layer", value)
    return _named(LAYER, function, tuple(sorted(options.items())))(x, kernel, *arrays)


@typed
def activation(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)` [B, ...], taken by proxies as an activation, whatever it computes.

    Raises:
        ValueError: the function cannot be hashed, or `x` is not an array.
    """
    _check_array("x of activation", x)
    return _named(ACTIVATION, function, ())(x)


@functools.lru_cache(maxsize=4096)
def marked(name: str) -> Callable | None:
    """The function of a marked layer's call by the call's name; None for other calls.

    One object for equal calls, so that layers that are alike compare equal.
    """
    if not name.startswith(LAYER):
        return None
    number = int(name.rpartition("_")[2])
    function, options = list(_functions)[number]
    return functools.partial(function, **dict(options))


def _check_array(name: str, value: Any) -> None:
    if not hasattr(value, "shape"):
        raise ValueError(f"{name} must be an array, got {value!r}.")


def _named(kind: str, function: Callable, options: tuple) -> Callable:
    try:
        return _call(kind, function, options)
    except TypeError:
        raise ValueError(
            f"a marked function and its options must be hashable, got {function!r} and "
            f"{dict(options)!r}."
        ) from None


@functools.lru_cache(maxsize=4096)
def _call(kind: str, function: Callable, options: tuple) -> Callable:
    """The function as a call whose name in the traced program carries the mark."""
    number = _functions.setdefault((function, options), len(_functions))

    def call(*arrays: Array) -> Array:
        return function(*arrays, **dict(options))

    call.__name__ = f"{kind}_{number}"
    return jax.jit(call)
