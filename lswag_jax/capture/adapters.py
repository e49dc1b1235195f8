"""Adapters from Linen and NNX models to the tape: they find weight layers from outside."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from lswag_jax.capture.tape import Network
from lswag_jax.spaces.layers import Feature, unit_mask

Array = jax.Array
BATCH_NORM_MODES = ("frozen", "eval", "batch1_train", "through")  # of per-sample gradients
# Arguments of a user's module that switch dropout, and the value that switches it off.
_EVALUATION = {"train": False, "training": False, "is_training": False, "deterministic": True}
_LINEN_NORMS = (nn.LayerNorm, nn.BatchNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm)
_HOLDS_BATCH_NORM = (
    "weight layer '{}' holds a BatchNorm besides its kernel, through which its gradient cannot be "
    "taken sample by sample: call the BatchNorm after the layer."
)
_NNX_NORMS = (nnx.LayerNorm, nnx.BatchNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.InstanceNorm)


def linen_network(
    module: nn.Module,
    variables: Mapping[str, Any],
    *args: Any,
    batch_norm: str = "frozen",
    unscored: Sequence[str] = (),
    **kwargs: Any,
) -> Network:
    """A Linen module as the tape runs it.

    A weight layer is a module that owns a parameter called `kernel` (Dense, DenseGeneral, Conv,
    ConvTranspose, Einsum, and a user's own). Dropout stays off: arguments of the module called
    train, training, is_training or deterministic are set unless given.

    Args:
        module: called as `module.apply(variables, images, *args, **kwargs)`.
        variables: its variables.
        batch_norm: "frozen" normalises by the batch and takes the statistics as constants of the
            backward pass; "eval" uses the running ones; "batch1_train" normalises
            each sample by itself; "through" differentiates through the batch's statistics, also
            for gradients of a whole mini-batch's loss; "off" leaves BatchNorm out.
        unscored: names of its last submodules, that run but whose layers and activations are left
            out of what is recorded.
        *args, **kwargs: further arguments of the module.

    """
    kwargs = _evaluation_arguments(type(module).__call__, len(args)) | kwargs

    def network(images: Array, hook: Callable) -> Array:
        def intercept(next_fun, call_args, call_kwargs, context):
            layer = context.module
            if context.method_name != "__call__":
                return next_fun(*call_args, **call_kwargs)
            params = layer.variables.get("params", {})
            own = {name: p for name, p in params.items() if not isinstance(p, Mapping)}
            if own:
                call_args, call_kwargs = _first_by_position(layer, call_args, call_kwargs)
            name, x = "/".join(layer.path), call_args[0] if call_args else None
            is_scored = not layer.path or layer.path[0] not in unscored
            if not is_scored and len(layer.path) == 1:
                x = hook(name, "end", None, {}, x, [], x)
                call_args = (x, *call_args[1:])
            if isinstance(layer, Feature):
                kind = "final" if layer.final else "feature"
                return hook(name, kind, None, {}, x, list(call_args[1:]), x)
            if isinstance(layer, nn.BatchNorm):
                stats = layer.variables.get("batch_stats", {})
                running = (stats.get("mean"), stats.get("var"))
                active = call_kwargs.get("active")
                record = hook if is_scored else no_hook
                return _batch_norm(
                    record, name, layer, own, x, running, batch_norm, len(images), active
                )
            output = next_fun(*call_args, **call_kwargs)
            is_norm = own and isinstance(layer, _LINEN_NORMS)
            if not is_scored or not ("kernel" in own or is_norm):
                return output
            kind = "weight" if "kernel" in own else "norm"
            others = _other_variables(layer, own)
            apply, extra = _repeat(layer, call_args[1:], call_kwargs, others)
            return hook(name, kind, apply, own, x, extra, output)

        with nn.intercept_methods(intercept):
            return module.apply(variables, images, *args, **kwargs)

    return network


def nnx_network(
    model: nnx.Module, *args: Any, batch_norm: str = "frozen", **kwargs: Any
) -> Network:
    """An NNX model as the tape runs it, in its evaluation mode; the model itself stays as it is.

    Args:
        model: called as `model(images, *args, **kwargs)`.
        batch_norm: as in `linen_network`.
        *args, **kwargs: further arguments of the model.
    """
    kwargs = _evaluation_arguments(type(model).__call__, len(args)) | kwargs
    graph, state = nnx.split(model)

    def network(images: Array, hook: Callable) -> Array:
        copy = nnx.merge(graph, state, copy=True)
        copy.eval()
        layers = [(path, layer) for path, layer in nnx.iter_modules(copy) if _is_captured(layer)]
        parts = [nnx.split(layer) for _, layer in layers]  # before any of them changes its class
        for (path, layer), own in zip(layers, parts, strict=True):
            name = "/".join(str(key) for key in path)
            layer.__class__ = _captured(type(layer), name, own, hook, batch_norm, len(images))
        return copy(images, *args, **kwargs)

    return network


def check_mode(batch_norm: str) -> None:
    """Raise ValueError unless per-sample gradients exist in this mode of BatchNorm."""
    if batch_norm not in BATCH_NORM_MODES:
        raise ValueError(f"batch_norm must be one of {BATCH_NORM_MODES}, got {batch_norm!r}.")


def no_hook(*call: Any) -> Array:
    """A hook that records nothing."""
    return call[-1]


def _evaluation_arguments(call: Callable, positional: int) -> dict[str, bool]:
    """Values that switch dropout off, for those arguments that `call` has and nobody passed."""
    names = list(inspect.signature(call).parameters)[2 + positional :]
    return {name: value for name, value in _EVALUATION.items() if name in names}


@dataclasses.dataclass(frozen=True, eq=False)
class LinenCall:
    """Repeats a layer's call; equal calls of equal layers are equal, so that traces are shared.

    Attributes:
        layer: the Linen module, detached from its parent.
        arguments: further arguments, keyword arguments, and variables apart from its parameters.
    """

    layer: nn.Module
    arguments: "Arguments"

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, LinenCall) and bool(self._key() == other._key())
        except (TypeError, ValueError):  # a field of the user's layer that does not compare
            return self is other

    def __hash__(self) -> int:
        try:
            return hash(self._key())
        except TypeError:
            return id(self)

    def _key(self) -> tuple:
        return self.layer, self.arguments

    def __call__(self, params: dict[str, Array], inputs: Array, arrays: list) -> Array:
        """The layer's output with other parameters and inputs."""
        args, kwargs, others = self.arguments.filled(arrays)
        variables = others | {"params": others.get("params", {}) | params}
        return self.layer.apply(variables, inputs, *args, **kwargs)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A tree of a call's arguments, apart from its arrays.

    Attributes:
        static: the leaves, None in place of arrays.
        traced: which of them are arrays.
        structure: of the tree.
    """

    static: tuple
    traced: tuple[bool, ...]
    structure: Any

    @classmethod
    def split(cls, tree: Any) -> tuple["Arguments", list]:
        """The arguments without their arrays, and those."""
        leaves, structure = jax.tree.flatten(tree)
        traced = tuple(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        arrays = [leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced]
        static = tuple(None if t else leaf for leaf, t in zip(leaves, traced, strict=True))
        return cls(static, traced, structure), arrays

    def filled(self, arrays: Sequence) -> Any:
        """The tree with these arrays."""
        remaining = iter(arrays)
        pairs = zip(self.static, self.traced, strict=True)
        filled = [next(remaining) if traced else leaf for leaf, traced in pairs]
        return jax.tree.unflatten(self.structure, filled)


def _repeat(
    layer: nn.Module, args: Sequence, kwargs: Mapping, others: Mapping
) -> tuple[Callable, list]:
    """A function of (params, inputs, arrays) that repeats a layer's call, and those arrays."""
    arguments, arrays = Arguments.split((tuple(args), dict(kwargs), dict(others)))
    return LinenCall(layer.clone(parent=None, name=None), arguments), arrays


def _other_variables(layer: nn.Module, own: Mapping[str, Array]) -> dict[str, Any]:
    """A Linen layer's variables apart from its own parameters: those of modules that it holds."""
    others = {kind: dict(tree) for kind, tree in layer.variables.items() if kind != "params"}
    held = {key: p for key, p in layer.variables["params"].items() if key not in own}
    if any(isinstance(p, Mapping) for p in others.get("batch_stats", {}).values()):
        raise ValueError(_HOLDS_BATCH_NORM.format("/".join(layer.path)))
    return others | ({"params": held} if held else {})


def _first_by_position(layer: Any, args: Sequence, kwargs: Mapping) -> tuple[tuple, dict]:
    """A call's arguments with the first one by position, also of a call as `Dense()(inputs=x)`."""
    args, kwargs = tuple(args), dict(kwargs)
    if not args:
        names = list(inspect.signature(type(layer).__call__).parameters)[1:2]
        args = tuple(kwargs.pop(name) for name in names if name in kwargs)
    return args, kwargs


def _is_captured(layer: nnx.Module) -> bool:
    """Whether the tape records a layer of an NNX model."""
    own = _nnx_own(layer)
    return "kernel" in own or bool(own and isinstance(layer, _NNX_NORMS))


def _nnx_own(layer: nnx.Module) -> dict[str, Array]:
    """The layer's own parameters that hold an array, by attribute."""
    return {
        name: value[...]
        for name, value in vars(layer).items()
        if isinstance(value, nnx.Param) and hasattr(value[...], "shape")
    }


def _captured(
    cls: type, name: str, parts: tuple, hook: Callable, batch_norm: str, batch: int
) -> type:
    """A subclass of `cls` whose calls go through `hook`; `parts` are its layer's graph and state.

    A layer calls the method of `cls` itself: where a model runs it inside a `vmap` its class cannot
    be changed.
    """
    graph, state = parts

    def call(self, *args, **kwargs):
        args, kwargs = _first_by_position(self, args, kwargs)
        own, x = _nnx_own(self), args[0] if args else None
        if isinstance(self, nnx.BatchNorm):
            running = (self.mean[...], self.var[...])
            return _batch_norm(hook, name, self, own, x, running, batch_norm, batch)
        if any(isinstance(held, nnx.BatchNorm) for _, held in nnx.iter_modules(self)):
            raise ValueError(_HOLDS_BATCH_NORM.format(name))
        output = cls.__call__(self, *args, **kwargs)
        kind = "weight" if "kernel" in own else "norm"
        arguments, arrays = Arguments.split((args[1:], kwargs))

        def apply(params, inputs, arrays):
            layer = nnx.merge(graph, state)
            for key, value in params.items():
                setattr(layer, key, nnx.Param(value))
            args, kwargs = arguments.filled(arrays)
            return layer(inputs, *args, **kwargs)

        return hook(name, kind, apply, own, x, arrays, output)

    return type(cls.__name__, (cls,), {"__call__": functools.wraps(cls.__call__)(call)})


def _batch_norm(
    hook: Callable,
    name: str,
    layer: Any,
    own: dict[str, Array],
    x: Array,
    running: tuple,
    mode: str,
    batch: int,
    active: Array | None = None,
) -> Array:
    """Calls a BatchNorm layer with the statistics of `mode`, the batch's with biased variance.

    Where `active`, the number of channels that an elastic layer has, is 0, nothing is computed.
    """
    features = layer.axis if isinstance(layer.axis, Sequence) else (layer.axis,)
    features = tuple(axis % x.ndim for axis in features)
    shape = x.shape
    if mode == "batch1_train" and len(x) != batch and len(x) % batch == 0:
        x = x.reshape(batch, -1, *shape[1:])  # a sample's rows are normalised together
        features = tuple(axis + 1 for axis in features)
    if mode == "off":
        output = x
    elif active is None:
        stats = _statistics(x, features, mode, running)
        output = _normalise(features, layer.epsilon, mode, own, x, stats)
    else:
        output, stats = _present(active, own, x, running, features, layer.epsilon, mode)
    if mode != "off":
        apply = functools.partial(_repeat_norm, features, layer.epsilon, mode)
        count = math.prod(size for axis, size in enumerate(x.shape) if axis not in features)
        extra = BatchStatistics(*running, *stats, active, count, layer.momentum)
        output = hook(name, "norm", apply, own, x, extra, output)
    if active is not None:
        mask = unit_mask(x.shape[-1], active, x.dtype)
        output *= mask.reshape((1,) * (x.ndim - 1) + mask.shape)
    return output.reshape(shape)


class BatchStatistics(NamedTuple):
    """What a BatchNorm layer knew when it ran.

    Attributes:
        running_mean, running_var: before the batch; None where it keeps none.
        mean, var: that it normalised by, with biased variance; None where each sample has its own.
        active: channels that are there, None for all.
        count: values of a channel in the batch.
        momentum: share of the running statistics that a batch leaves in them.
    """

    running_mean: Array | None
    running_var: Array | None
    mean: Array | None = None
    var: Array | None = None
    active: Array | None = None
    count: int = 0
    momentum: float = 0.9


def _repeat_norm(features, epsilon, mode: str, params: dict, x: Array, extra: BatchStatistics):
    """The output of BatchNorm again, with other parameters and inputs."""
    return _normalise(features, epsilon, mode, params, x, (extra.mean, extra.var))


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _present(
    active: Array, own: dict, x: Array, running: tuple, features: tuple, epsilon: float, mode: str
) -> tuple[Array, tuple]:
    """Output and statistics, zeros where no channel is there; jitted to be traced once."""

    def compute(own, x, running):
        stats = _statistics(x, features, mode, running)
        return _normalise(features, epsilon, mode, own, x, stats), stats

    shapes = jax.eval_shape(compute, own, x, running)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.cond(active > 0, compute, lambda *_: zeros, own, x, running)


def _statistics(x: Array, features: tuple, mode: str, running: tuple) -> tuple:
    """Mean and variance of each feature, None where each sample has its own."""
    if mode == "eval":
        return running
    if mode == "batch1_train":
        return None, None
    source = jax.lax.stop_gradient(x) if mode == "frozen" else x
    axes = tuple(axis for axis in range(x.ndim) if axis not in features)
    return source.mean(axes), source.var(axes)


def _normalise(
    features: tuple, epsilon: float, mode: str, params: dict, x: Array, stats: tuple
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, along the feature axes."""
    shape = [size if axis in features else 1 for axis, size in enumerate(x.shape)]
    if mode == "batch1_train":
        axes = tuple(axis for axis in range(1, x.ndim) if axis not in features)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    else:
        mean, var = (s.reshape(shape) for s in stats)
    y = (x - mean) * jax.lax.rsqrt(var + jnp.asarray(epsilon, x.dtype))
    if "scale" in params:
        y *= params["scale"].reshape(shape)
    return y + params["bias"].reshape(shape) if "bias" in params else y
