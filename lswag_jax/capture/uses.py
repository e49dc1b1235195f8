"""Stored weights, and their uses in a flat program."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax import lax

from lswag_jax.arrays import shaped
from lswag_jax.capture.calls import Call
from lswag_jax.capture.expressions import Expression, Product
from lswag_jax.capture.network import layer_name


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A stored parameter, or one slice of a stack of them, or of a stack of stacks."""

    name: str
    index: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """Which slice it is, after a name."""
        return "".join(f"[{i}]" for i in self.index)

    @property
    def layer(self) -> str:
        """Name of the layer whose weight it is."""
        return layer_name(self.name) + self.place

    def of(self, params: Mapping[str, Any]) -> Any:
        """The leaf's part of the stored parameters, which are given by name."""
        array = params[self.name]
        return array[self.index] if self.index else array


class Use(NamedTuple):
    """A use of a weight in a flat program.

    Attributes:
        eqn: index of the equation after which the output is there.
        leaf: the weight.
        bias: the leaf that is its bias, or None.
        call: the use as a function.
        inputs, output: variables.
        extra: variables of the call's further arrays, see `Product`.
        source: the variable that the weight is.
        product: index of the equation that the weight enters.
        cut: axis and index of the output that are this use's, of a stack of weights, or None.
        is_path: whether it is no product, but adds to the gradient of a weight that has one.
    """

    eqn: int
    leaf: Leaf
    bias: Leaf | None
    call: Product
    inputs: Any
    output: Any
    extra: tuple
    source: Any
    product: int
    cut: tuple[int, int] | None = None
    is_path: bool = False
    kind = "weight"

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.leaf.layer

    def recorded(self, read: Callable, params: Mapping[str, Any], before: int, batch: int) -> Call:
        """The call, whose output is there.

        Args:
            read: gives the value of a variable or literal, without a gradient.
            params: stored parameters by name.
            before: weight layers that ran before.
            batch: number of samples.
        """
        biases = {} if self.bias is None else {"bias": self.bias.of(params)}
        own = {"kernel": self.leaf.of(params)} | biases
        inputs = self.call.enters.first(read(self.inputs), batch)
        extra = tuple(tuple(map(read, part)) for part in self.extra)
        output = shaped(self.output)
        size = output.size // batch
        if self.cut is not None:
            size //= output.shape[self.cut[0]]
        bias = "" if self.bias is None else self.bias.name + self.bias.place
        where = before, layer_name(self.leaf.name), self.leaf.index, self.is_path, bias
        return Call(self.name, self.kind, self.call, own, inputs, extra, size, *where)

    def cotangent(self, cotangent: Any, batch: int) -> Any:
        """The use's own of the cotangent of its equation's output, a sample's together."""
        if self.cut is not None:
            axis, index = self.cut
            cotangent = lax.index_in_dim(cotangent, index, axis, keepdims=False)
        return self.call.leaves.first(cotangent, batch)

    @property
    def is_lookup(self) -> bool:
        """Whether rows are looked up: this makes no weight, but adds to the gradient of one."""
        function = self.call.function
        return isinstance(function, Expression) and function.eqns[0].primitive.name == "gather"
