"""Parts of a traced program as functions that can be compared, of any number of samples."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from lswag_jax.arrays import bind, shaped, vars_of
from lswag_jax.capture.program import Flat
from lswag_jax.capture.rows import Rows

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Expression:
    """A few equations as a function; equal ones compare equal, so that like layers share a trace.

    Attributes:
        eqns: in order of execution.
        inputs, output: variables of theirs.
        key: what the equations are, and which of the values before each takes.
    """

    eqns: tuple[core.JaxprEqn, ...] = dataclasses.field(repr=False, compare=False)
    inputs: tuple = dataclasses.field(repr=False, compare=False)
    output: Any = dataclasses.field(repr=False, compare=False)
    key: tuple

    @classmethod
    def of(cls, eqns: Iterable[core.JaxprEqn], inputs: Iterable, output: Any) -> "Expression":
        """What gives `output` from the inputs."""
        eqns, inputs = tuple(eqns), tuple(inputs)
        numbers = {v: i for i, v in enumerate(inputs)}
        key = []
        for eqn in eqns:
            operands = tuple(
                _shown(v) if isinstance(v, core.Literal) else numbers[v] for v in eqn.invars
            )
            key.append((eqn.primitive, _hashable(eqn.params), operands))
            numbers |= {v: len(numbers) + i for i, v in enumerate(eqn.outvars)}
        return cls(eqns, inputs, output, (*key, numbers[output]))

    @classmethod
    def between(cls, flat: Flat, source: Any, target: Any) -> tuple["Expression", list]:
        """What gives `target` from `source`, and the other variables it needs."""
        on_the_way = _between(made_by(flat), source, target)
        eqns = [eqn for eqn in flat.jaxpr.eqns if not on_the_way.isdisjoint(eqn.outvars)]
        outputs = {v for eqn in eqns for v in eqn.outvars}
        read = dict.fromkeys(v for eqn in eqns for v in vars_of(eqn.invars))
        extra = [v for v in read if v not in outputs and v is not source]
        return cls.of(eqns, [source, *extra], target), extra

    def __call__(self, *values: Array) -> Array:
        """The output."""
        env: dict[Any, Array] = dict(zip(self.inputs, values, strict=True))
        for eqn in self.eqns:
            operands = [v.val if isinstance(v, core.Literal) else env[v] for v in eqn.invars]
            env.update(zip(eqn.outvars, bind(eqn, operands), strict=True))
        return env[self.output]


def _shown(literal: core.Literal) -> tuple:
    value = literal.val
    return "literal", value.item() if hasattr(value, "item") else value, str(literal.aval)


def _hashable(params: Mapping[str, Any]) -> tuple:
    """An equation's parameters as a key; those that cannot be compared by what they are."""
    found = []
    for name, value in sorted(params.items()):
        try:
            hash(value)
        except TypeError:
            value = id(value)
        found.append((name, value))
    return tuple(found)


def made_by(flat: Flat) -> dict[Any, core.JaxprEqn]:
    """The equation that each variable comes from."""
    return {v: eqn for eqn in flat.jaxpr.eqns for v in eqn.outvars}


def _between(origins: Mapping, source: Any, target: Any) -> set:
    """Variables that depend on `source` and that `target` depends on."""
    depends: dict[Any, bool] = {source: True}

    def visit(var: Any) -> bool:
        if var not in depends:
            eqn = origins.get(var)
            found = [visit(v) for v in vars_of(eqn.invars)] if eqn else []
            depends[var] = any(found)
        return depends[var]

    visit(target)
    return {v for v, does in depends.items() if does and v is not source}


@dataclasses.dataclass(frozen=True)
class Bias:
    """What is added to a product, or taken from it: an expression of a parameter, broadcast."""

    expression: Expression
    dimensions: tuple[int, ...] | None  # None for an array of the output's rank
    moves: tuple  # what happens to the product before: transpositions, reshapes, casts
    is_taken: bool = False  # subtracted

    def __call__(self, y: Array, bias: Array, extra: Sequence[Array], batch: int) -> Array:
        """The product with the bias."""
        for move in self.moves:
            y = move(y, batch)
        b = self.expression(bias, *extra)
        if self.dimensions is not None:
            b = lax.broadcast_in_dim(b, y.shape, self.dimensions)
        return y - b if self.is_taken else y + b


@dataclasses.dataclass(frozen=True)
class Transpose:
    """A transposition of any number of samples."""

    permutation: tuple[int, ...]

    def __call__(self, y: Array, batch: int) -> Array:
        """The transposed product."""
        return y.transpose(self.permutation)


@dataclasses.dataclass(frozen=True)
class Reshape:
    """A reshape of any number of samples: they are in one axis of the new sizes."""

    sizes: tuple[int, ...]
    axis: int
    rows: int

    def __call__(self, y: Array, batch: int) -> Array:
        """The product in its other shape."""
        sizes = list(self.sizes)
        sizes[self.axis] = self.rows * batch
        return y.reshape(sizes)


@dataclasses.dataclass(frozen=True)
class Cast:
    """Another precision."""

    dtype: Any

    def __call__(self, y: Array, batch: int) -> Array:
        """The product in it; numbers of channels stay integers."""
        return y.astype(self.dtype) if jnp.issubdtype(y.dtype, jnp.inexact) else y


@dataclasses.dataclass(frozen=True)
class Product:
    """One use of a weight as a function of it and of whole samples.

    Attributes:
        function: of (x, w, *arrays): the product.
        weight: gives w from the stored parameter.
        enters, leaves: where the samples are in x and in the output.
        bias: what is added, or None.
        member: of a slice of a stack of weights that are used at once the stack's axis in the
            output, its axis in x (None where all have the same x), and the slice's number there.
    """

    function: Any
    weight: Expression
    enters: Rows
    leaves: Rows
    bias: Bias | None = None
    member: tuple[int, int | None, int] | None = None

    def __call__(self, params: Mapping[str, Array], inputs: Array, extra: Sequence) -> Array:
        """The output [b, ...] of inputs [b, ...].

        Args:
            params: `kernel`, and maybe `bias`.
            inputs: whole samples.
            extra: further arrays of `weight`, of `function` and of `bias`.
        """
        batch, y = len(inputs), self._multiplied(params["kernel"], inputs, extra)
        if self.bias is not None and "bias" in params:
            y = self.bias(y, params["bias"], extra[2], batch)
        if self.member is not None:
            y = y.squeeze(self.member[0])
        return self.leaves.first(y, batch)

    def _multiplied(self, kernel: Array, inputs: Array, extra: Sequence) -> Array:
        """The bare product as it stands in the program; of a stack's member with an axis of one."""
        x, w = self.enters.back(inputs), self.weight(kernel, *extra[0])
        if self.member is None:
            return self.function(x, w, *extra[1])
        _, along, index = self.member
        x = x if along is None else lax.slice_in_dim(x, index, index + 1, axis=along)
        return self.function(x, w[None])

    @property
    def spatial(self) -> tuple[int, ...] | None:
        """Axes of a convolution's kernel that are positions; None of a marked layer, unknown."""
        product = getattr(self.function, "product", self.function)
        if not isinstance(product, Expression):
            return None
        (eqn,) = product.eqns
        is_convolution = eqn.primitive.name == "conv_general_dilated"
        return tuple(eqn.params["dimension_numbers"].rhs_spec[2:]) if is_convolution else ()

    def channels(
        self, params: Mapping[str, Array], inputs: Array, extra: Sequence, shape: Sequence[int]
    ) -> np.ndarray:
        """Number of the channel of each of a sample's outputs, flat.

        The channels of a product are the axes that its weight has of its own.

        Args:
            params, inputs, extra: of a call.
            shape: of a sample's output.
        """
        product = getattr(self.function, "product", self.function)
        if not isinstance(product, Expression):  # a marked layer: those of the last axis
            return np.broadcast_to(np.arange(shape[-1]), shape).ravel()
        (eqn,), (_, w) = product.eqns, product.inputs

        of = functools.partial(self._multiplied, extra=extra)
        sizes = jax.eval_shape(of, params["kernel"], inputs[:1]).shape
        axes = _channel_axes(eqn, w, len(sizes), self.enters.axis)
        with jax.ensure_compile_time_eval():
            own = jnp.arange(math.prod(sizes[a] for a in axes)).reshape([sizes[a] for a in axes])
            others = [a for a in range(len(sizes)) if a not in axes]
            number = jnp.broadcast_to(jnp.expand_dims(own, others), sizes)
            for move in self.bias.moves if self.bias is not None else ():
                number = move(number, 1)
            if self.member is not None:
                number = number.squeeze(self.member[0])
            return np.asarray(self.leaves.first(number, 1)).ravel()


def _channel_axes(eqn: core.JaxprEqn, w: Any, rank: int, samples: int) -> list[int]:
    """Axes of a product's output that come from the weights alone, in order."""
    if eqn.primitive.name == "conv_general_dilated":
        return [eqn.params["dimension_numbers"].out_spec[1]]
    if eqn.primitive.name != "dot_general":  # rows that are looked up
        return [rank - 1]
    contract, batched = eqn.params["dimension_numbers"]
    side = 0 if eqn.invars[0] is w else 1
    ranks = [shaped(v).ndim for v in eqn.invars]
    free = [ranks[s] - len(contract[s]) - len(batched[s]) for s in (0, 1)]
    start = len(batched[0]) + (free[0] if side else 0)
    shared = [i for i, axis in enumerate(batched[1 - side]) if axis != samples]
    return [*shared, *range(start, start + free[side])]


@dataclasses.dataclass(frozen=True)
class OfRows:
    """A product of x and w that takes rows of w for each sample, those of all of them equal.

    Attributes:
        product: of (x, w, *others).
        rows: of the samples in x.
        axis: of the samples in w.
        which: of w and the others those that have such rows.
    """

    product: Expression
    rows: Rows
    axis: int
    which: tuple[bool, ...] = (True,)

    def __call__(self, x: Array, w: Array, *others: Array) -> Array:
        """The product, of as many samples as x has."""
        batch = x.shape[self.rows.axis] // (self.rows.outer * self.rows.inner)
        of_w = self.rows._replace(axis=self.axis)

        def some(array: Array) -> Array:
            every = array.shape[self.axis] // (self.rows.outer * self.rows.inner)
            return of_w.back(of_w.first(array, every)[:batch])

        which = (*self.which, *[False] * (1 + len(others) - len(self.which)))
        arrays = [some(a) if has else a for a, has in zip((w, *others), which, strict=True)]
        return self.product(x, *arrays)
