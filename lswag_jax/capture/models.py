"""A user's model, cut into what a program is compiled for and the weights it is called with."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

from lswag_jax.capture import adapters
from lswag_jax.capture.network import Network

Array = jax.Array


class OtherInputs(ValueError):
    """A model with further arrays of the batch was run on other inputs than the batch's images."""


@dataclasses.dataclass(frozen=True)
class Further:
    """Arguments of a model's call after the images.

    Attributes:
        args, kwargs: arrays among them whose leading axis is the batch have a row a sample.
        sizes: numbers of first images that the model may be run on; empty for any images, where
            there is no such array.
    """

    args: tuple = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    sizes: tuple[int, ...] = ()

    def of_first(self, n: int) -> "Further":
        """The arguments of the first n samples alone."""

        def cut(leaf: Any) -> Any:
            return leaf[:n] if _has_rows(leaf, max(self.sizes)) else leaf

        if not self.sizes:
            return self
        args, kwargs = jax.tree.map(cut, (self.args, dict(self.kwargs)))
        return Further(args, tuple(kwargs.items()))

    def network(self, make: Callable[..., Network]) -> Network:
        """The network `make(*args, **kwargs)`, on n images with the first n samples' arguments."""
        if not self.sizes:
            return make(*self.args, **dict(self.kwargs))

        def network(variables: Any, images: Array, hook: Callable) -> Array:
            if len(images) not in self.sizes:
                raise OtherInputs(
                    "a model with further arrays of the batch runs on the batch's images alone, of "
                    f"{self.sizes} samples, got {len(images)} other ones."
                )
            own = self.of_first(len(images)).network(make)
            return own.apply(variables, images, hook)

        return Network(network, make(*self.args, **dict(self.kwargs)).variables)


def _has_rows(leaf: Any, n: int) -> bool:
    """Whether an argument is an array with so many rows."""
    return isinstance(leaf, jax.Array | np.ndarray) and leaf.ndim > 0 and len(leaf) == n


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A Linen module and the arguments of its call, apart from its weights."""

    module: nn.Module
    further: Further
    batch_norm: str
    has_batch_norm: bool

    def network(self, variables: Mapping[str, Any], batch_norm: str = "") -> Network:
        """The model as the tape runs it, in its own mode of BatchNorm or another."""
        mode = batch_norm or self.batch_norm
        return self.further.network(
            functools.partial(adapters.linen_network, self.module, variables, batch_norm=mode)
        )


@dataclasses.dataclass(frozen=True)
class NnxModel:
    """The graph of an NNX model and the arguments of its call, apart from its state."""

    graph: Any
    further: Further
    batch_norm: str
    has_batch_norm: bool

    def network(self, state: Any, batch_norm: str = "") -> Network:
        """The model as the tape runs it, in its own mode of BatchNorm or another."""
        mode = batch_norm or self.batch_norm
        model = nnx.merge(self.graph, state["params"], state["rest"])
        return self.further.network(functools.partial(adapters.nnx_network, model, batch_norm=mode))


def split(
    module: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    batch_norm: str = "frozen",
    sizes: Sequence[int] = (),
) -> tuple[LinenModel | NnxModel, Any, Any]:
    """A user's model as its static part, its weights, and those of them that are trained.

    Args:
        module, variables: the model, see `score_model`.
        args, kwargs: further arguments of its call.
        batch_norm: see `adapters.linen_network`.
        sizes: of the pattern and the gradient batch, where arrays of `args` and `kwargs` may have a
            row a sample.

    Raises:
        ValueError: not a Linen or NNX module, or variables where there should be none.
    """
    adapters.check_mode(batch_norm)
    leaves = jax.tree.leaves((tuple(args), dict(kwargs or {})))
    has_rows = any(_has_rows(leaf, max(sizes, default=0)) for leaf in leaves)
    further = Further(tuple(args), tuple((kwargs or {}).items()), tuple(sizes) if has_rows else ())
    if isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError("an NNX model holds its own weights, variables must be None.")
        graph, variables = adapters.nnx_variables(module)
        has_batch_norm = any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(module))
        model = NnxModel(graph, further, batch_norm, has_batch_norm)
        return model, variables, variables["params"]
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a Linen or NNX module, got {type(module).__name__}.")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise ValueError("variables of a Linen module must be a mapping with a key 'params'.")
    variables = nn.meta.unbox(variables)  # of what only says how they are sharded
    model = LinenModel(module, further, batch_norm, "batch_stats" in variables)
    return model, variables, variables["params"]
