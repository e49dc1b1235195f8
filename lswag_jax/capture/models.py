"""A user's model, cut into what a program is compiled for and the weights it is called with.

A model of any library is a pure function of its variables and of a batch; what follows makes one of
each. Libraries other than Flax are imported only where a model of theirs is given.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lswag_jax.arrays import widened
from lswag_jax.capture import adapters
from lswag_jax.capture.batch_norm import check_mode
from lswag_jax.capture.network import Network
from lswag_jax.spaces import modes

Array = jax.Array


class ForeignInputs(ValueError):
    """A model was run on other inputs than it takes, or than have a row of its further arrays."""


@dataclasses.dataclass(frozen=True)
class ExtraArguments:
    """Arguments of a model's call after the images.

    Attributes:
        args, kwargs: arrays among them whose leading axis is the batch have a row a sample.
        sizes: numbers of first images that the model may be run on; empty for any images, where
            there is no such array.
    """

    args: tuple = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    sizes: tuple[int, ...] = ()

    def of_first(self, n: int) -> "ExtraArguments":
        """The arguments of the first n samples alone."""
        if not self.sizes:
            return self
        return self.filled([row[:n] for row in self.rows()])

    def rows(self) -> list[Array]:
        """The arrays with a row a sample."""
        if not self.sizes:
            return []
        leaves = _arguments((self.args, dict(self.kwargs)))
        return [jnp.asarray(leaf) for leaf in leaves if _is_per_sample(leaf, max(self.sizes))]

    def filled(self, rows: Sequence[Array]) -> "ExtraArguments":
        """The arguments with other rows."""
        new, whole = iter(rows), max(self.sizes)

        def fill(leaf: Any) -> Any:
            return next(new) if _is_per_sample(leaf, whole) else leaf

        given = self.args, dict(self.kwargs)
        args, kwargs = jax.tree.map(fill, given, is_leaf=_is_state)
        return ExtraArguments(args, tuple(kwargs.items()))

    def check(self, n: int) -> None:
        """Raise ForeignInputs unless there is a row for each of n samples."""
        if n not in self.sizes:
            raise ForeignInputs(
                "a model with further arrays of the batch runs on the batch's images alone, of "
                f"{self.sizes} samples, got {n} other ones."
            )


def _is_state(value: Any) -> bool:
    """Whether an argument is what an Equinox model keeps between calls, as statistics are."""
    kind = type(value)
    return kind.__module__.partition(".")[0] == "equinox" and kind.__name__ == "State"


def _arguments(tree: Any) -> list:
    """Leaves of further arguments; a state is one, without rows of samples."""
    return jax.tree.leaves(tree, is_leaf=_is_state)


def _is_per_sample(leaf: Any, n: int) -> bool:
    """Whether an argument is an array with so many rows."""
    return isinstance(leaf, jax.Array | np.ndarray) and leaf.ndim > 0 and len(leaf) == n


@dataclasses.dataclass(frozen=True)
class Model:
    """A model apart from its weights.

    Attributes:
        make: `make(variables, batch_norm, *args, **kwargs)` is its network.
        extra: arguments of its call.
        batch_norm: mode of BatchNorm.
        has_batch_norm: whether the mode matters.
        output: what picks the logits out of its output, see `score_model`.
        integers: whether it takes integers, such as tokens.
        key: of the images in a dictionary of inputs; None for a single array.
    """

    make: Callable[..., Network]
    extra: ExtraArguments
    batch_norm: str
    has_batch_norm: bool
    output: Any = None
    integers: bool = False
    key: str | None = None

    def network(self, variables: Mapping[str, Any], batch_norm: str = "") -> Network:
        """The model as the tape runs it, in its own mode of BatchNorm or another."""
        mode, has_per_sample_arguments = batch_norm or self.batch_norm, bool(self.extra.sizes)

        def apply(variables: Mapping, images: Array, hook: Callable, rows: Sequence = ()) -> Array:
            if self.integers != jnp.issubdtype(images.dtype, jnp.integer):
                raise ForeignInputs("a model of integers runs on the batch's own inputs alone.")
            extra = self.extra.filled(rows) if has_per_sample_arguments else self.extra
            kwargs = dict(extra.kwargs)
            inputs = images if self.key is None else kwargs.pop(_INPUTS) | {self.key: images}
            network = self.make(variables, mode, *extra.args, **kwargs)
            return widened(picked(network.apply(variables, inputs, hook), self.output))

        def rows_of(n: int) -> list[Array]:
            self.extra.check(n)
            return [row[:n] for row in self.extra.rows()]

        module = getattr(self.make, "module", None)
        dead = module is not None and adapters.keeps_dead_code(module)
        return Network(apply, variables, rows_of if has_per_sample_arguments else None, dead)


_INPUTS = "the other inputs"


def picked(output: Any, choice: Any) -> Any:
    """The logits in a model's output: `output[choice]`, `output.choice` or `choice(output)`."""
    if choice is None:
        return output
    if callable(choice):
        return choice(output)
    if isinstance(choice, bool | np.bool_):  # which Python takes for an index
        raise TypeError(f"output must be an index, a key or a function, got {choice}")
    is_field = isinstance(choice, str) and not isinstance(output, Mapping)
    return getattr(output, choice) if is_field else output[choice]


def described(output: Any) -> str:
    """What a model returned, and how to choose the logits from it, for a message."""
    if isinstance(output, Mapping):
        keys = list(output)
        return f"a dict with the keys {keys}: choose the logits by output={keys[0]!r}"
    names = getattr(output, "_fields", None) or list(getattr(output, "__dataclass_fields__", ()))
    if names:
        kind = type(output).__name__
        return f"a {kind} with the fields {list(names)}: choose by output={names[0]!r}"
    if isinstance(output, list | tuple):
        kind, shapes = type(output).__name__, [getattr(x, "shape", type(x)) for x in output]
        return f"a {kind} of {len(output)} with the shapes {shapes}: choose the logits by output=0"
    if hasattr(output, "shape"):
        return f"an array of shape {output.shape}"
    return f"a {type(output).__name__}: choose the logits by output=, a function of it"


def split(
    module: Any,
    variables: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    batch_norm: str = "frozen",
    sizes: Sequence[int] = (),
    *,
    method: Any = None,
    rngs: Mapping[str, Any] | None = None,
    output: Any = None,
    integers: bool = False,
    others: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> tuple[Model, Any]:
    """A user's model as its static part and its weights.

    Args:
        module, variables: the model, see `score_model`.
        args, kwargs: further arguments of its call.
        batch_norm: see `adapters.linen_network`.
        sizes: of the pattern and the gradient batch, where arrays of `args` and `kwargs` may have a
            row a sample.
        method, rngs, output: see `score_model`.
        integers: whether its inputs are integers.
        others, key: of a dictionary of inputs, those apart from the one that is called `key`.

    Raises:
        ValueError: no model, or variables where there should be none.
    """
    check_mode(batch_norm)
    kwargs = dict(kwargs or {}) | ({_INPUTS: dict(others or {})} if key is not None else {})
    leaves = _arguments((tuple(args), kwargs))
    largest = max(sizes, default=0)
    per_sample = any(_is_per_sample(leaf, largest) for leaf in leaves)
    extra = ExtraArguments(tuple(args), tuple(kwargs.items()), tuple(sizes) if per_sample else ())
    make, weights, has_batch_norm = _parts(module, variables, method, rngs)
    return Model(make, extra, batch_norm, has_batch_norm, output, integers, key), weights


def _parts(module: Any, variables: Any, method: Any, rngs: Any) -> tuple[Callable, Any, bool]:
    """What makes a network of a model, its variables, and whether it has a BatchNorm."""
    if hasattr(module, "apply_fn") and hasattr(module, "params"):  # Flax's TrainState
        state = {"params": module.params}
        if hasattr(module, "batch_stats"):
            state["batch_stats"] = module.batch_stats
        owner = getattr(module.apply_fn, "__self__", None)
        module, variables = (owner, state) if owner is not None else (module.apply_fn, state)
    if isinstance(module, nn.Module):
        if not isinstance(variables, Mapping) or "params" not in variables:
            raise ValueError("variables of a Linen module must be a mapping with a key 'params'.")
        make = Linen(module, method, tuple((rngs or {}).items()))
        return make, dict(nn.meta.unbox(variables)), "batch_stats" in variables
    library = {cls.__module__.partition(".")[0] for cls in type(module).__mro__}
    holds_weights = isinstance(module, nnx.Module) or library & {"equinox", "keras"}
    if holds_weights and variables is not None:
        kind = "NNX" if isinstance(module, nnx.Module) else "such"
        raise ValueError(f"an {kind} model holds its own weights, variables must be None.")
    if isinstance(module, nnx.Module):
        graph, weights = adapters.nnx_variables(module)
        return Nnx(graph, method), weights, bool(jax.tree.leaves(nnx.state(module, nnx.BatchStat)))
    if "equinox" in library:
        return _equinox(module)
    if "keras" in library:
        return _keras(module)
    if hasattr(module, "init") and hasattr(module, "apply"):
        return _haiku(module, variables)
    if callable(module):
        return Function(module), {"params": variables}, False
    raise ValueError(
        "module must be a function of (params, images), or a Linen, NNX, Haiku, Equinox or Keras "
        f"model, got {type(module).__name__}."
    )


@dataclasses.dataclass(frozen=True)
class Linen:
    """Makes networks of a Linen module."""

    module: nn.Module
    method: Any = None
    rngs: tuple = ()

    def __call__(self, variables: Mapping, batch_norm: str, *args: Any, **kwargs: Any) -> Network:
        """The network of these variables in this mode."""
        options = {"method": self.method, "rngs": dict(self.rngs)}
        return adapters.linen_network(
            self.module, variables, *args, batch_norm=batch_norm, **options, **kwargs
        )


@dataclasses.dataclass(frozen=True)
class Nnx:
    """Makes networks of an NNX model's graph."""

    graph: Any
    method: Any = None

    def __call__(self, variables: Mapping, batch_norm: str, *args: Any, **kwargs: Any) -> Network:
        """The network of these variables in this mode."""
        model = nnx.merge(self.graph, variables["params"], variables["rest"])
        return adapters.nnx_network(
            model, *args, batch_norm=batch_norm, method=self.method, **kwargs
        )


@dataclasses.dataclass(frozen=True)
class Function:
    """Makes networks of a pure function `apply(params, images, *args, **kwargs)`."""

    apply: Callable
    takes_rest: bool = False

    def __call__(self, variables: Mapping, batch_norm: str, *args: Any, **kwargs: Any) -> Network:
        """The network of these variables; its normalisations run as they are."""
        del batch_norm
        kwargs = modes.arguments(self.apply, len(args) + 2) | kwargs

        def apply(variables: Mapping, images: Any, hook: Callable) -> Any:
            del hook
            own = (variables["params"], *((variables["rest"],) if self.takes_rest else ()))
            return self.apply(*own, images, *args, **kwargs)

        return Network(apply, variables)


def _haiku(module: Any, variables: Any) -> tuple[Callable, Any, bool]:
    """A Haiku transform, with or without state, as a function."""
    if not isinstance(variables, tuple):
        return Function(_Haiku(module, False)), {"params": variables}, False
    params, state = variables
    return Function(_Haiku(module, True), True), {"params": params, "rest": state}, False


@dataclasses.dataclass(frozen=True)
class _Haiku:
    module: Any
    has_state: bool

    def __call__(self, params: Any, *given: Any, **kwargs: Any) -> Any:
        apply = self.module.apply
        key = (None,) if "rng" in inspect.signature(apply).parameters else ()
        given = (params, *given[: self.has_state], *key, *given[self.has_state :])
        output = apply(*given, **modes.arguments(apply, len(given)) | kwargs)
        return output[0] if self.has_state else output


def _equinox(module: Any) -> tuple[Callable, Any, bool]:
    """An Equinox model, which takes one sample, as a function of a batch."""
    import equinox as eqx

    params, static = eqx.partition(eqx.nn.inference_mode(module), eqx.is_inexact_array)
    is_norm = lambda x: isinstance(x, eqx.nn.BatchNorm)  # noqa: E731
    if any(map(is_norm, jax.tree.leaves(module, is_leaf=is_norm))):
        warnings.warn("Equinox's BatchNorm uses its running statistics.", stacklevel=2)

    def apply(params: Any, images: Array, *args: Any, **kwargs: Any) -> Array:
        model = eqx.combine(params, static)
        return jax.vmap(lambda x: model(x, *args, **kwargs))(images)

    return Function(apply), {"params": params}, False


def _keras(module: Any) -> tuple[Callable, Any, bool]:
    """A Keras model, of its JAX backend, as a function of its variables."""
    trainable, fixed = (
        _distinct([v.path for v in variables])
        for variables in (module.trainable_variables, module.non_trainable_variables)
    )
    params = {k: v.value for k, v in zip(trainable, module.trainable_variables, strict=True)}
    rest = {k: v.value for k, v in zip(fixed, module.non_trainable_variables, strict=True)}
    mode = modes.arguments(module.call, 1)

    def apply(params: Mapping, rest: Mapping, images: Any, **kwargs: Any) -> Any:
        own, others = [params[name] for name in trainable], [rest[name] for name in fixed]
        return module.stateless_call(own, others, images, **mode | kwargs)[0]

    return Function(apply, True), {"params": params, "rest": rest}, False


def _distinct(paths: Sequence[str]) -> list[str]:
    """Paths of variables, of which two layers of one name have the same: those become `NAME_1`."""
    found: list[str] = []
    for path in paths:
        layer, slash, own = path.rpartition("/")
        name, number = path, 0
        while name in found:
            number += 1
            name = f"{layer}_{number}{slash}{own}" if slash else f"{own}_{number}"
        found.append(name)
    return found
