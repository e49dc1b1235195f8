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

from lswag_jax.layers import Feature, unit_mask
from lswag_jax.tape import Network

Array = jax.Array
BATCH_NORM_MODES = ("frozen", "eval", "batch1_train", "through")  # of per-sample gradients
# Arguments of a user's module that switch dropout, and the value that switches it off.
_EVALUATION = {"train": False, "training": False, "is_training": False, "deterministic": True}
_LINEN_NORMS = (nn.LayerNorm, nn.BatchNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm)
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
            if own and call_kwargs and not call_args:  # by keyword, as in Dense()(inputs=x)
                first, *others = call_kwargs
                call_args = (call_kwargs[first],)
                call_kwargs = {key: call_kwargs[key] for key in others}
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
                return _batch_norm(record, name, layer, own, x, running, batch_norm, active)
            output = next_fun(*call_args, **call_kwargs)
            is_norm = own and isinstance(layer, _LINEN_NORMS)
            if not is_scored or not ("kernel" in own or is_norm):
                return output
            apply, extra = _repeat(layer, call_args[1:], call_kwargs)
            kind = "weight" if "kernel" in own else "norm"
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
        copy = nnx.merge(graph, state)
        copy.eval()
        for path, layer in list(nnx.iter_modules(copy)):
            own = _nnx_own(layer)
            if "kernel" in own or (own and isinstance(layer, _NNX_NORMS)):
                name = "/".join(str(key) for key in path)
                layer.__class__ = _captured(type(layer), name, hook, batch_norm)
        return copy(images, *args, **kwargs)

    return network


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A Linen module and the arguments of its call, apart from its weights."""

    module: nn.Module
    args: tuple
    kwargs: tuple[tuple[str, Any], ...]
    batch_norm: str
    has_batch_norm: bool

    def network(self, variables: Mapping[str, Any], batch_norm: str = "") -> Network:
        """The model as the tape runs it, in its own mode of BatchNorm or another."""
        mode, kwargs = batch_norm or self.batch_norm, dict(self.kwargs)
        return linen_network(self.module, variables, *self.args, batch_norm=mode, **kwargs)


@dataclasses.dataclass(frozen=True)
class NnxModel:
    """The graph of an NNX model and the arguments of its call, apart from its state."""

    graph: Any
    args: tuple
    kwargs: tuple[tuple[str, Any], ...]
    batch_norm: str
    has_batch_norm: bool

    def network(self, state: Any, batch_norm: str = "") -> Network:
        """The model as the tape runs it, in its own mode of BatchNorm or another."""
        mode, kwargs = batch_norm or self.batch_norm, dict(self.kwargs)
        return nnx_network(nnx.merge(self.graph, state), *self.args, batch_norm=mode, **kwargs)


def split(
    module: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    batch_norm: str = "frozen",
) -> tuple[LinenModel | NnxModel, Any, Any]:
    """A user's model as its static part, its weights, and those of them that are trained.

    Raises:
        ValueError: not a Linen or NNX module, or variables where there should be none.
    """
    check_mode(batch_norm)
    call = (tuple(args), tuple((kwargs or {}).items()), batch_norm)
    if isinstance(module, nnx.Module):
        if variables is not None:
            raise ValueError("an NNX model holds its own weights, variables must be None.")
        graph, state = nnx.split(module)
        has_batch_norm = any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(module))
        model = NnxModel(graph, *call, has_batch_norm)
        return model, state, nnx.state(module, nnx.Param)
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a Linen or NNX module, got {type(module).__name__}.")
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise ValueError("variables of a Linen module must be a mapping with a key 'params'.")
    model = LinenModel(module, *call, "batch_stats" in variables)
    return model, variables, variables["params"]


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
        static: the further arguments, flat, None in place of arrays.
        traced: which of them are arrays.
        structure: of the pair (args, kwargs).
    """

    layer: nn.Module
    static: tuple
    traced: tuple[bool, ...]
    structure: Any

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
        return self.layer, self.static, self.traced, self.structure

    def __call__(self, params: dict[str, Array], inputs: Array, arrays: list) -> Array:
        """The layer's output with other parameters and inputs."""
        remaining = iter(arrays)
        pairs = zip(self.static, self.traced, strict=True)
        filled = [next(remaining) if traced else leaf for leaf, traced in pairs]
        args, kwargs = jax.tree.unflatten(self.structure, filled)
        return self.layer.apply({"params": params}, inputs, *args, **kwargs)


def _repeat(layer: nn.Module, args: Sequence, kwargs: Mapping) -> tuple[Callable, list]:
    """A function of (params, inputs, arrays) that repeats a layer's call, and those arrays."""
    leaves, structure = jax.tree.flatten((tuple(args), dict(kwargs)))
    traced = tuple(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
    arrays = [leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced]
    static = tuple(None if t else leaf for leaf, t in zip(leaves, traced, strict=True))
    return LinenCall(layer.clone(parent=None, name=None), static, traced, structure), arrays


def _nnx_own(layer: nnx.Module) -> dict[str, Array]:
    """The layer's own parameters that hold an array, by attribute."""
    return {
        name: value[...]
        for name, value in vars(layer).items()
        if isinstance(value, nnx.Param) and hasattr(value[...], "shape")
    }


def _captured(cls: type, name: str, hook: Callable, batch_norm: str) -> type:
    """A subclass of `cls` whose calls go through `hook`."""

    def call(self, x, *args, **kwargs):
        self.__class__ = cls
        own = _nnx_own(self)
        if isinstance(self, nnx.BatchNorm):
            running = (self.mean[...], self.var[...])
            return _batch_norm(hook, name, self, own, x, running, batch_norm)
        graph, state = nnx.split(self)
        output = self(x, *args, **kwargs)
        self.__class__ = captured

        def apply(params, inputs, _):
            layer = nnx.merge(graph, state)
            for key, value in params.items():
                setattr(layer, key, nnx.Param(value))
            return layer(inputs, *args, **kwargs)

        return hook(name, "weight" if "kernel" in own else "norm", apply, own, x, [], output)

    captured = type(cls.__name__, (cls,), {"__call__": call})
    return captured


def _batch_norm(
    hook: Callable,
    name: str,
    layer: Any,
    own: dict[str, Array],
    x: Array,
    running: tuple,
    mode: str,
    active: Array | None = None,
) -> Array:
    """Calls a BatchNorm layer with the statistics of `mode`, the batch's with biased variance.

    Where `active`, the number of channels that an elastic layer has, is 0, nothing is computed.
    """
    features = layer.axis if isinstance(layer.axis, Sequence) else (layer.axis,)
    features = tuple(axis % x.ndim for axis in features)
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
    return output


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
