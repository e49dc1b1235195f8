"""Linen and NNX models as networks: they tell of their normalisations and feature maps."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

from lswag_jax.capture.batch_norm import run_batch_norm
from lswag_jax.capture.network import Network, no_hook
from lswag_jax.spaces import modes
from lswag_jax.spaces.layers import Feature

Array = jax.Array
_LINEN_NORMS = (nn.LayerNorm, nn.BatchNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm)
_NNX_NORMS = (nnx.LayerNorm, nnx.BatchNorm, nnx.GroupNorm, nnx.RMSNorm)
_ARRAY = object()  # in a call's arguments, where an array was
if hasattr(nnx, "InstanceNorm"):  # from Flax 0.12
    _NNX_NORMS = (*_NNX_NORMS, nnx.InstanceNorm)


def nnx_modules(module: Any) -> Any:
    """Paths and modules within an NNX module; Flax before 0.12 has them as a method."""
    return nnx.iter_modules(module) if hasattr(nnx, "iter_modules") else module.iter_modules()


def linen_network(
    module: nn.Module,
    variables: Mapping[str, Any],
    *args: Any,
    batch_norm: str = "frozen",
    unscored: Sequence[str] = (),
    method: Any = None,
    rngs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Network:
    """A Linen module as the tape runs it.

    Dropout stays off: arguments of the module called train, training, is_training or deterministic
    are set unless given.

    Args:
        module: called as `module.apply(variables, images, *args, **kwargs)`.
        variables: its variables.
        batch_norm: "frozen" normalises by the batch and takes the statistics as constants of the
            backward pass; "eval" uses the running ones; "batch1_train" normalises each sample by
            itself; "through" differentiates through the batch's statistics, also for gradients of a
            whole mini-batch's loss; "off" leaves BatchNorm out.
        unscored: names of its last submodules, that run but whose layers and activations are left
            out of what is recorded.
        method: name or function of the module's method; None for its call.
        rngs: keys of its random streams.
        *args, **kwargs: further arguments of the module.
    """
    module = modes.in_mode(module)
    called = getattr(type(module), method) if isinstance(method, str) else method
    kwargs = modes.arguments(called or type(module).__call__, 2 + len(args)) | kwargs

    def network(variables: Mapping, images: Any, hook: Callable) -> Any:
        batch = len(jax.tree.leaves(images)[0])
        intercept = _interceptor(hook, batch_norm, batch, unscored=unscored)
        with nn.intercept_methods(intercept):
            options = {"method": method} if method is not None else {}
            return module.apply(variables, images, *args, rngs=cast(Any, rngs), **options, **kwargs)

    return Network(network, variables, dead=keeps_dead_code(module))


def _interceptor(
    hook: Callable, batch_norm: str, batch: int, within: str = "", unscored: Sequence[str] = ()
) -> Callable:
    """What tells `hook` of the calls of Linen modules, whose names start with `within`."""

    def intercept(next_fun, call_args, call_kwargs, context):
        layer = context.module
        if context.method_name != "__call__":
            return next_fun(*call_args, **call_kwargs)
        every = layer.variables.get("params", {})
        params = {name: p for name, p in every.items() if not isinstance(p, Mapping)}
        if params:
            call_args, call_kwargs = _first_by_position(layer, call_args, call_kwargs)
        name, x = within + "/".join(layer.path), cast(Any, call_args[0] if call_args else None)
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
            _refuse_mask(name, batch_norm, call_kwargs)
            active = call_kwargs.get("active")
            record = hook if is_scored else no_hook
            return run_batch_norm(
                record, name, layer, params, x, running, batch_norm, batch, active
            )
        output = next_fun(*call_args, **call_kwargs)
        if not (is_scored and params and isinstance(layer, _LINEN_NORMS)):
            return output
        arguments, extra = Arguments.split((call_args[1:], call_kwargs))
        apply = LinenCall(layer.clone(parent=None, name=None), arguments)
        return hook(name, "norm", apply, params, x, extra, output)

    return intercept


def keeps_dead_code(module: nn.Module) -> bool:
    """Whether a network is one of the spaces, where dead operations count as in the benchmarks."""
    return type(module).__module__.startswith("lswag_jax.spaces.")


def nnx_variables(model: nnx.Module) -> tuple[Any, dict[str, Any]]:
    """The graph of an NNX model, and its variables: parameters and the rest."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return graph, {"params": params, "rest": rest}


def nnx_network(
    model: nnx.Module, *args: Any, batch_norm: str = "frozen", method: Any = None, **kwargs: Any
) -> Network:
    """An NNX model as the tape runs it, in its evaluation mode; the model itself stays as it is.

    Args:
        model: called as `model(images, *args, **kwargs)`.
        batch_norm: as in `linen_network`.
        method: name of the method that is called; None for the model itself.
        *args, **kwargs: further arguments of the model.
    """
    called = getattr(type(model), method or "__call__")
    kwargs = modes.arguments(called, 2 + len(args)) | kwargs
    graph, variables = nnx_variables(model)

    def network(variables: Mapping, images: Any, hook: Callable) -> Any:
        batch = len(jax.tree.leaves(images)[0])
        copy = nnx.merge(graph, variables["params"], variables["rest"], copy=True)
        copy.eval()
        layers = [(path, layer) for path, layer in nnx_modules(copy) if _is_captured(layer)]
        parts = [nnx.split(layer) for _, layer in layers]  # before any of them changes its class
        for (path, layer), part in zip(layers, parts, strict=True):
            name = "/".join(str(key) for key in path)
            layer.__class__ = _captured(type(layer), name, part, hook, batch_norm, batch)
        for path, layer in nnx_modules(copy):
            if isinstance(layer, nnx.bridge.ToNNX):
                within = "".join(f"{key}/" for key in path)
                intercept = _interceptor(hook, batch_norm, batch, within)
                layer.__class__ = _intercepted(type(layer), intercept)
        return (getattr(copy, method) if method else copy)(images, *args, **kwargs)

    return Network(network, variables)


def _intercepted(cls: type, intercept: Callable) -> type:
    """A subclass of `ToNNX` whose Linen module runs in its evaluation mode and is listened to."""

    def call(self, *args, **kwargs):
        # The field of the module, of another name before Flax 0.12.
        field = "to_nnx__module" if hasattr(self, "to_nnx__module") else "module"
        module, method = modes.in_mode(getattr(self, field)), kwargs.get("method") or "__call__"
        called = getattr(type(module), method) if isinstance(method, str) else method
        setattr(self, field, module)
        with nn.intercept_methods(intercept):
            return cls.__call__(self, *args, **modes.arguments(called, 1 + len(args)) | kwargs)

    return type(cls.__name__, (cls,), {"__call__": call})


@dataclasses.dataclass(frozen=True, eq=False)
class LinenCall:
    """Repeats a layer's call; equal calls of equal layers are equal, so that traces are shared.

    Attributes:
        layer: the Linen module, detached from its parent.
        arguments: further arguments and keyword arguments.
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
        args, kwargs = self.arguments.filled(arrays)
        return cast(Array, self.layer.apply({"params": params}, inputs, *args, **kwargs))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A tree of a call's arguments, apart from its arrays.

    Attributes:
        static: the leaves, `_ARRAY` in place of arrays.
        structure: of the tree.
    """

    static: tuple
    structure: Any

    @classmethod
    def split(cls, tree: Any) -> tuple["Arguments", list]:
        """The arguments without their arrays, and those."""
        leaves, structure = jax.tree.flatten(tree)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
        static = (_ARRAY if isinstance(x, jax.Array | np.ndarray) else x for x in leaves)
        return cls(tuple(static), structure), arrays

    def filled(self, arrays: Sequence) -> Any:
        """The tree with these arrays."""
        remaining = iter(arrays)
        filled = [next(remaining) if leaf is _ARRAY else leaf for leaf in self.static]
        return jax.tree.unflatten(self.structure, filled)


def _refuse_mask(name: str, batch_norm: str, kwargs: Mapping) -> None:
    """Raise ValueError where a BatchNorm layer leaves values out of the statistics of a batch."""
    if kwargs.get("mask") is not None and batch_norm not in ("eval", "off"):
        raise ValueError(
            f"the BatchNorm layer {name or 'of the model'} has a mask, which statistics of a batch "
            "do not take here: batch_norm='eval' scores it by its running statistics."
        )


def _first_by_position(layer: Any, args: Sequence, kwargs: Mapping) -> tuple[tuple, dict]:
    """A call's arguments with the first one by position, also of a call as `Dense()(inputs=x)`."""
    args, kwargs = tuple(args), dict(kwargs)
    if not args:
        names = list(inspect.signature(type(layer).__call__).parameters)[1:2]
        args = tuple(kwargs.pop(name) for name in names if name in kwargs)
    return args, kwargs


def _is_captured(layer: nnx.Module) -> bool:
    """Whether the tape records a layer of an NNX model."""
    return isinstance(layer, _NNX_NORMS) and bool(_nnx_own(layer))


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
        params, x = _nnx_own(self), cast(Any, args[0] if args else None)
        if isinstance(self, nnx.BatchNorm):
            _refuse_mask(name, batch_norm, kwargs)
            running = (self.mean[...], self.var[...])
            return run_batch_norm(hook, name, self, params, x, running, batch_norm, batch)
        output = cls.__call__(self, *args, **kwargs)
        arguments, arrays = Arguments.split((args[1:], kwargs))

        def apply(params, inputs, arrays):
            layer = nnx.merge(graph, state)
            for key, value in params.items():
                setattr(layer, key, nnx.Param(value))
            args, kwargs = arguments.filled(arrays)
            return layer(inputs, *args, **kwargs)

        return hook(name, "norm", apply, params, x, arrays, output)

    return type(cls.__name__, (cls,), {"__call__": functools.wraps(cls.__call__)(call)})
