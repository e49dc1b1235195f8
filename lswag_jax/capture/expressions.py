"""Parts of a traced program as functions that can be compared, of any number of samples."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
from jax import lax
from jax.extend import core

from lswag_jax.arrays import bind
from lswag_jax.capture.program import Flat
from lswag_jax.capture.samples import Rows

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Step:
    """An equation on numbered values; equal ones are equal, so that like layers share a trace."""

    eqn: core.JaxprEqn = dataclasses.field(repr=False, compare=False)
    operands: tuple  # numbers of values, or literals
    key: tuple

    @classmethod
    def of(cls, eqn: core.JaxprEqn, numbers: Mapping[Any, int]) -> "Step":
        """The step of an equation whose operands have these numbers."""
        operands = tuple(
            ("literal", v.val.item() if hasattr(v.val, "item") else v.val, str(v.aval))
            if isinstance(v, core.Literal)
            else numbers[v]
            for v in eqn.invars
        )
        return cls(eqn, operands, (eqn.primitive, _hashable(eqn.params)))

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """Its outputs."""
        pairs = zip(self.operands, self.eqn.invars, strict=True)
        return bind(
            self.eqn,
            [v.val if isinstance(v, core.Literal) else values[cast(int, o)] for o, v in pairs],
        )


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


@dataclasses.dataclass(frozen=True)
class Expression:
    """A few equations as a function of their inputs.

    Attributes:
        steps: they append their outputs to the values.
        result: number of the value that is returned.
    """

    steps: tuple[Step, ...] = ()
    result: int = 0

    @classmethod
    def between(cls, flat: Flat, source: Any, target: Any) -> tuple["Expression", list]:
        """What gives `target` from `source`, and the other variables it needs."""
        on_the_way = _between(made_by(flat), source, target)
        eqns = [eqn for eqn in flat.jaxpr.eqns if any(v in on_the_way for v in eqn.outvars)]
        outputs = {v for eqn in eqns for v in eqn.outvars}
        extra = [
            v
            for eqn in eqns
            for v in eqn.invars
            if not isinstance(v, core.Literal) and v not in outputs and v is not source
        ]
        extra = list(dict.fromkeys(extra))
        numbers = {v: i for i, v in enumerate([source, *extra])}
        steps = []
        for eqn in eqns:
            steps.append(Step.of(eqn, numbers))
            numbers |= {v: len(numbers) + i for i, v in enumerate(eqn.outvars)}
        return cls(tuple(steps), numbers[target]), extra

    def __call__(self, *values: Array) -> Array:
        """The result."""
        found = list(values)
        for step in self.steps:
            found += step(found)
        return found[self.result]


def made_by(flat: Flat) -> dict[Any, core.JaxprEqn]:
    """The equation that each variable comes from."""
    return {v: eqn for eqn in flat.jaxpr.eqns for v in eqn.outvars}


def _between(origins: Mapping, source: Any, target: Any) -> set:
    """Variables that depend on `source` and that `target` depends on."""
    depends: dict[Any, bool] = {source: True}

    def visit(var: Any) -> bool:
        if var not in depends:
            eqn = origins.get(var)
            found = [visit(v) for v in eqn.invars if not isinstance(v, core.Literal)] if eqn else []
            depends[var] = any(found)
        return depends[var]

    visit(target)
    return {v for v, does in depends.items() if does and v is not source}


@dataclasses.dataclass(frozen=True)
class Bias:
    """What is added to a product: an expression of a parameter, broadcast along new axes."""

    expression: Expression
    num_extra: int
    dimensions: tuple[int, ...] | None  # None for an array of the output's rank
    moves: tuple  # what happens to the product before: transpositions and reshapes

    def __call__(self, y: Array, bias: Array, extra: Sequence[Array], batch: int) -> Array:
        """The product with the bias."""
        for move in self.moves:
            y = move(y, batch)
        b = self.expression(bias, *extra)
        return y + (b if self.dimensions is None else lax.broadcast_in_dim(
            b, y.shape, self.dimensions))  # fmt: skip


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
        num_weight, num_arrays: further arrays of `weight` and of `function`.
        enters, leaves: where the samples are in x and in the output.
        bias: what is added, or None.
        member: of a slice of a stack of weights that are used at once the stack's axis in the
            product, its axis in x (None where all have the same x), and the slice's number there.
    """

    function: Any
    weight: Expression
    num_weight: int
    num_arrays: int
    enters: Rows
    leaves: Rows
    bias: Bias | None = None
    member: tuple[int, int | None, int] | None = None

    def __call__(self, params: Mapping[str, Array], inputs: Array, extra: Sequence) -> Array:
        """The output [b, ...] of inputs [b, ...]."""
        batch, x = len(inputs), self.enters.back(inputs)
        of_weight, arrays = extra[: self.num_weight], extra[self.num_weight :]
        w = self.weight(params["kernel"], *of_weight)
        if self.member is not None:  # a stack of one
            stack, along, index = self.member
            x = x if along is None else lax.slice_in_dim(x, index, index + 1, axis=along)
            y = self.function(x, w[None]).squeeze(stack)
        else:
            y = self.function(x, w, *arrays[: self.num_arrays])
        if self.bias is not None and "bias" in params:
            y = self.bias(y, params["bias"], arrays[self.num_arrays :], batch)
        return self.leaves.first(y, batch)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A product's equation as a function of its two operands."""

    step: Step
    swapped: bool  # the weight is the first operand
    rows: tuple[int, int] | None = None  # axes of the samples in x and in w, all rows of it equal

    def __call__(self, x: Array, w: Array) -> Array:
        """The product."""
        if self.rows is not None:
            w = lax.slice_in_dim(w, 0, x.shape[self.rows[0]], axis=self.rows[1])
        return self.step((w, x) if self.swapped else (x, w))[0]
