"""Biases of weight layers: parameters that are added to a product and to nothing else."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend import core

from lswag_jax.arrays import shaped
from lswag_jax.capture.expressions import Bias, Cast, Expression, Reshape, Transpose, made_by
from lswag_jax.capture.program import Flat
from lswag_jax.capture.rows import Place
from lswag_jax.capture.uses import Leaf


class Biases:
    """Looks behind a product for its bias.

    Args:
        flat: the program.
        places: of the samples in its variables.
        batch: number of samples.
        readers: equations that read a variable.
        leaf: the stored parameter that a variable is, of a number of axes or more.
    """

    def __init__(
        self,
        flat: Flat,
        places: Mapping[Any, Place | None],
        batch: int,
        readers: Mapping[Any, Sequence[int]],
        leaf: Callable[[Any, int], Leaf | None],
    ):
        self._flat, self._places, self._batch = flat, places, batch
        self._readers, self._leaf, self._made_by = readers, leaf, made_by(flat)

    def of(
        self, index: int, eqn: core.JaxprEqn, kernel: Any, w: Any, stack: int | None = None
    ) -> tuple:
        """The bias's leaf, how it is added, variables it needs, the output, and where it is.

        Args:
            index, eqn: the product.
            kernel, w: the stored weight and the operand.
            stack: of a stack of weights its axis in the output: the bias is a stack too.
        """
        (y,), moves, none = eqn.outvars, [], (None, None, (), eqn.outvars[0], index)
        channels = _channels(eqn, w, stack is not None)
        if eqn.primitive.name == "gather":
            return none
        while len(self._readers.get(y, ())) == 1:
            (reader,) = self._readers[y]
            after = self._flat.jaxpr.eqns[reader]
            is_first, name = after.invars[0] is y, after.primitive.name
            if name == "add" or (name == "sub" and is_first):
                other = after.invars[1] if is_first else after.invars[0]
                of_all = tuple(moves), kernel, stack
                return self._added(reader, after, y, other, channels, *of_all) or none
            if after.primitive.name == "transpose":
                permutation = tuple(after.params["permutation"])
                moves.append(Transpose(permutation))
                stack = None if stack is None else permutation.index(stack)
            elif after.primitive.name == "convert_element_type":
                moves.append(Cast(after.params["new_dtype"]))
            elif stack is None and _is_reshape(after):
                place = self._places[after.outvars[0]]
                if place is None:
                    return none
                sizes = shaped(after.outvars[0]).shape
                moves.append(Reshape(sizes, place.axis, sizes[place.axis] // self._batch))
            else:
                return none
            (y,) = after.outvars
        return none

    def _added(self, index, eqn, y, other, channels: int, moves, kernel, stack) -> tuple | None:
        if self._flat.kind(other) != "params" or shaped(other).ndim != shaped(y).ndim:
            return None
        value, dimensions = other, None
        made = self._made_by.get(other)
        if made is not None and made.primitive.name == "broadcast_in_dim":
            (value,) = made.invars
            dimensions = tuple(made.params["broadcast_dimensions"])
        sources = self._leaves(value)
        if len(sources) != 1:
            return None
        (source,) = sources
        place, shape = self._places[eqn.outvars[0]], shaped(source).shape
        # However many axes of one it is stored with, a bias has fewer axes than the weight.
        rank_of_bias, rank_of_kernel = (
            sum(n > 1 for n in s) for s in (shape, shaped(kernel).shape)
        )
        is_small = math.prod(shape) == channels and rank_of_bias < max(rank_of_kernel, 2)
        rank = dimensions if dimensions is not None else range(shaped(other).ndim)
        varies = [d for i, d in enumerate(rank) if shaped(value).shape[i] > 1]
        if not is_small or place is None or place.axis in varies:
            return None
        expression, extra = Expression.between(self._flat, source, value)
        if stack is not None:  # a member's bias is a row of the stack's
            if source is not value or dimensions is None or dimensions[0] != stack:
                return None
            dimensions = dimensions[1:]
        bias = Bias(expression, dimensions, moves, is_taken=eqn.primitive.name == "sub")
        return self._leaf(source, 1), bias, tuple(extra), eqn.outvars[0], index

    def _leaves(self, var: Any) -> set:
        if isinstance(var, core.Literal) or self._flat.kind(var) != "params":
            return set()
        if self._leaf(var, 1) is not None:
            return {var}
        return set().union(*(self._leaves(v) for v in self._made_by[var].invars))


def _is_reshape(eqn: core.JaxprEqn) -> bool:
    """Whether an equation gives its operand another shape, and nothing else."""
    name, same = eqn.primitive.name, shaped(eqn.outvars[0]).size == shaped(eqn.invars[0]).size
    is_plain = name == "reshape" and eqn.params.get("dimensions") is None
    return is_plain or name == "squeeze" or (name == "broadcast_in_dim" and same)


def _channels(eqn: core.JaxprEqn, w: Any, is_stack: bool = False) -> int:
    """Output channels of a product: those of the weight's axes that stay, and a stack's first."""
    out = shaped(eqn.outvars[0]).shape
    if eqn.primitive.name == "conv_general_dilated":
        return out[eqn.params["dimension_numbers"].out_spec[1]]
    if eqn.primitive.name != "dot_general":
        return out[-1]
    side = 0 if eqn.invars[0] is w else 1
    gone = {d for axes in eqn.params["dimension_numbers"] for d in axes[side]}
    return math.prod(
        size for d, size in enumerate(shaped(w).shape) if d not in gone or (is_stack and d == 0)
    )
