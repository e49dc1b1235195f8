"""Networks for training or for evaluation, told by the usual names of arguments and fields."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

# Arguments and fields of a module that switch dropout, and the value that switches it off.
_EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "is_train": False,
}


def _values(train: bool) -> dict[str, bool]:
    """Values that set a mode."""
    return {name: not value if train else value for name, value in _EVALUATION.items()}


def arguments(call: Callable, positional: int, train: bool = False) -> dict[str, Any]:
    """Values that set the mode, for arguments of `call` after the first `positional`.

    Those that a `functools.partial` binds stay as they are.

    Example:
        >>> def network(params, x, train): ...
        >>> arguments(network, 2), arguments(network, 2, train=True)
        ({'train': False}, {'train': True})
    """
    try:
        inner = inspect.unwrap(call)  # of what `jax.jit` wraps
        bound = inner.keywords if isinstance(inner, functools.partial) else {}
        names = list(inspect.signature(call).parameters)[positional:]
    except (TypeError, ValueError):  # a callable without a signature
        return {}
    return {
        name: value for name, value in _values(train).items() if name in names and name not in bound
    }


def in_mode(module: nn.Module, train: bool = False) -> nn.Module:
    """The module with its own fields of those names set for training or evaluation."""
    fields: dict[str, Any] = {
        name: value
        for name, value in _values(train).items()
        if name in getattr(module, "__dataclass_fields__", ())
        and getattr(module, name) in (None, not value)
    }
    return module.clone(**fields) if fields else module
