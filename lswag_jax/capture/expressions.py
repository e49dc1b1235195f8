"""Parts of a traced program as functions that can be compared, of any number of samples."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from lswag_jax.arrays import bind, vars_of
from lswag_jax.capture.program import Flat
from lswag_jax.capture.samples import Rows

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
    """What is added to a product: an expression of a parameter, broadcast along new axes."""

    expression: Expression
    dimensions: tuple[int, ...] | None  # None for an array of the output's rank
    moves: tuple  # what happens to the product before: transpositions and reshapes

    def __call__(self, y: Array, bias: Array, extra: Sequence[Array], batch: int) -> Array:
        """The product with the bias."""
        for move in self.moves:
            y = move(y, batch)
        b = self.expression(bias, *extra)
        if self.dimensions is not None:
            b = lax.broadcast_in_dim(b, y.shape, self.dimensions)
        return y + b


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
class Product:
    """One use of a weight as a function of it and of whole samples.

    Attributes:
        function: of (x, w, *arrays): the product.
        weight: gives w from the stored parameter.
        enters, leaves: where the samples are in x and in the output.
        bias: what is added, or None.
        member: of a slice of a stack of weights that are used at once the stack's axis in the
            product, its axis in x (None where all have the same x), and the slice's number there.
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
        batch, x = len(inputs), self.enters.back(inputs)
        of_weight, arrays, of_bias = extra
        w = self.weight(params["kernel"], *of_weight)
        if self.member is not None:  # a stack of one
            stack, along, index = self.member
            x = x if along is None else lax.slice_in_dim(x, index, index + 1, axis=along)
            y = self.function(x, w[None]).squeeze(stack)
        else:
            y = self.function(x, w, *arrays)
        if self.bias is not None and "bias" in params:
            y = self.bias(y, params["bias"], of_bias, batch)
        return self.leaves.first(y, batch)


@dataclasses.dataclass(frozen=True)
class OfRows:
    """A product of x and w that takes a row of w for each sample, all of which are equal."""

    product: Expression
    axes: tuple[int, int]  # of the samples in x and in w

    def __call__(self, x: Array, w: Array) -> Array:
        """The product."""
        return self.product(x, lax.slice_in_dim(w, 0, x.shape[self.axes[0]], axis=self.axes[1]))
