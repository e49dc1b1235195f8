"""Weight layers of a flat program: products of a sample's values with what parameters alone give.

Behind the parameters' operand of a product stands at least one leaf of two or more dimensions. It
is the layer's weight, and `Product` is the call as a function of it and of whole samples, whatever
number of them, so that a gradient is that of the stored parameter.
"""

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from lswag_jax import marks
from lswag_jax.arrays import shaped, vars_of
from lswag_jax.capture.biases import Biases
from lswag_jax.capture.expressions import Expression, OfRows, Product, Transpose, made_by
from lswag_jax.capture.lookups import Lookups
from lswag_jax.capture.program import PRODUCTS, Flat, name_of, place_of, readers
from lswag_jax.capture.rows import Place, Rows
from lswag_jax.capture.samples import places
from lswag_jax.capture.uses import Leaf, Use

_STEPS = ("stop_gradient", "sign", "floor", "ceil", "round")
_TABLES = ("gather", "dynamic_slice")  # a row looked up, of a table of positions or tokens
# What a weight may meet the samples in, beside a product, with a gradient that is followed.
_MET = ("add", "sub", "mul", "div", "max", "min", "pow", "atan2", "select_n", "concatenate")
_LAYOUT = ("reshape", "transpose", "squeeze", "broadcast_in_dim", "convert_element_type")


def find(
    flat: Flat, places: Mapping[Any, Place | None], names: Sequence[str], batch: int, end: int
) -> tuple[list[Use], dict[str, str]]:
    """Every use of a weight before equation `end`, and of some weights a place that is none.

    Args:
        flat: the program.
        places: of the samples in its variables.
        names: of its parameters.
        batch: number of samples.
        end: index of an equation.

    Returns:
        The uses; and by the names of weights a place where they meet the samples in a way that
        their gradients leave out.

    Raises:
        ValueError: an input or output of a layer that has no samples.
    """
    finder = _Finder(flat, places, names, batch)
    found, depths = finder.all(end), {}
    for use in found:
        depths.setdefault(use.leaf.name, set()).add(len(use.leaf.index))
    # Parts of a stack that is used as a whole too, or in other parts, are uses of the whole.
    finder.whole = {name for name, several in depths.items() if len(several) > 1}
    return finder.with_paths(finder.all(end) if finder.whole else found, end), finder.partly


class _Finder:
    """Looks at one equation after the other; see `find`."""

    def __init__(self, flat: Flat, places: Mapping, names: Sequence[str], batch: int):
        self._flat, self._places, self._batch = flat, places, batch
        self._made_by = made_by(flat)
        self.whole: set[str] = set()  # names of stacks whose slices are no leaves
        self._names = dict(zip(flat.jaxpr.invars, names, strict=False))  # parameters come first
        self.partly: dict[str, str] = {}  # weights with a way that is not followed, and its place
        self._readers: dict[Any, list[int]] = {}
        for i, eqn in enumerate(flat.jaxpr.eqns):
            for v in vars_of(eqn.invars):
                self._readers.setdefault(v, []).append(i)
        self._lookups, self._products = Lookups(flat), products_of_parameters(flat)
        self._behind: dict[tuple, dict[Leaf, Any]] = {}
        self._biases = Biases(flat, places, batch, self._readers, self._leaf)

    def all(self, end: int) -> list[Use]:
        """The uses of weights before equation `end`; of tables those that have a product too."""
        eqns = self._flat.jaxpr.eqns[:end]
        found = [use for i, eqn in enumerate(eqns) for use in self.uses(i, eqn)]
        weights = {use.leaf for use in found if not use.is_lookup or self.meets_product(use)}
        return [use for use in found if use.leaf in weights]

    def with_paths(self, found: Sequence[Use], end: int) -> list[Use]:
        """The uses, and what else weights do on their way to the output (`Use.is_path`)."""
        taken: dict[Leaf, set[int]] = {}
        for use in found:
            taken.setdefault(use.leaf, set()).add(use.product)
        sources = {use.leaf: use.source for use in found}
        return [
            *found,
            *(p for leaf, s in sources.items() for p in self._paths(leaf, s, taken[leaf], end)),
        ]

    def _paths(self, leaf: Leaf, source: Any, taken: set[int], end: int) -> list[Use]:
        """Equations in which a weight meets the samples without being multiplied with them."""
        stack = next(var for var, name in self._names.items() if name == leaf.name)
        reached, of_stack, found = {source}, {stack}, []
        unread = sorted({i for v in (source, stack) for i in self._readers.get(v, ())})
        while unread:
            i = heapq.heappop(unread)
            if unread and unread[0] == i:  # once more, as a reader of another variable
                continue
            eqn = self._flat.jaxpr.eqns[i]
            operands = vars_of(eqn.invars)
            mine, outside = reached.intersection(operands), of_stack.intersection(operands)
            if i >= end or i in taken or not _has_gradient(eqn) or self._is_other(eqn, leaf):
                continue
            if self._flat.kind(eqn.outvars[0]) != "images":
                reached.update(eqn.outvars if mine else ())
                of_stack.update(eqn.outvars)
                for reader in itertools.chain(*(self._readers.get(v, ()) for v in eqn.outvars)):
                    heapq.heappush(unread, reader)
                continue
            use = None if outside - reached else self._path(i, eqn, leaf, source, mine)
            if use is None:
                self.partly.setdefault(leaf.name, place_of(eqn))
            else:
                found.append(use)
        return found

    def _is_other(self, eqn: core.JaxprEqn, leaf: Leaf) -> bool:
        """Whether an equation gives a part of a stack that is not the leaf, nor holds it."""
        part = self._leaf(eqn.outvars[0])
        return part is not None and part.index != leaf.index[: len(part.index)]

    def _path(
        self, index: int, eqn: core.JaxprEqn, leaf: Leaf, source: Any, mine: set
    ) -> Use | None:
        """The use of a weight in an equation that is no product; None where it is not followed."""
        samples = {v for v in vars_of(eqn.invars) if self._flat.kind(v) == "images"}
        if eqn.primitive.name not in _MET or len(mine) != 1 or len(samples) != 1:
            return None
        (x,), (w,), (y,) = samples, mine, eqn.outvars
        place = self._places.get(x)
        if place is None or self._places.get(y) is None:
            return None
        others = [v for v in dict.fromkeys(vars_of(eqn.invars)) if v is not x and v is not w]
        function: Any = Expression.of([eqn], [x, w, *others], y)
        size = shaped(x).shape[place.axis]
        of_rows = tuple(
            shaped(v).ndim and shaped(v).shape[place.axis] == size for v in (w, *others)
        )
        if any(of_rows):
            function = OfRows(function, self._rows(x, ""), place.axis, of_rows)
        weight, extra = Expression.between(self._flat, source, w)
        call = Product(function, weight, self._rows(x, ""), self._rows(y, ""))
        arrays = (tuple(extra), tuple(others), ())
        return Use(index, leaf, None, call, x, y, arrays, source, index, is_path=True)

    def meets_product(self, use: Use) -> bool:
        """Whether a matrix that was looked up goes into a product, as that of an expert does."""
        taken = self._flat.jaxpr.eqns[use.eqn].params.get("slice_sizes", ())
        if sum(size > 1 for size in taken) < 2:  # a row of a table
            return False
        after = readers(
            self._flat.jaxpr.eqns, use.output, lambda eqn: eqn.primitive.name in _LAYOUT
        )
        return any(eqn.primitive.name in PRODUCTS for eqn, _ in after)

    def uses(self, index: int, eqn: core.JaxprEqn) -> list[Use]:
        """The uses of weights in one equation."""
        function = marks.marked(name_of(eqn))
        if function is None and eqn.primitive.name not in (*PRODUCTS, "gather"):
            return []
        x, w, *arrays = eqn.invars
        kinds = (self._flat.kind(x), self._flat.kind(w))
        swapped = kinds == ("params", "images") and eqn.primitive.name in ("dot_general", "gather")
        if not swapped and kinds != ("images", "params"):
            return []
        if swapped:
            x, w = w, x
        if function is None:
            function = Expression.of([eqn], [x, w], eqn.outvars[0])
            axis = self._shared_rows(eqn, x, swapped)
            function = function if axis is None else OfRows(function, self._rows(x, ""), axis)
        sources = self._sources(w)
        found = []
        for leaf, source in sources.items():
            own = (index, eqn, function, leaf, source, x, w)
            members = self._members(*own, swapped) if len(sources) == 1 else []
            found += members or [self._use(*own, arrays)]
        return found

    def _shared_rows(self, eqn: core.JaxprEqn, x: Any, swapped: bool) -> int | None:
        """Axis of w where a product takes a row of the weights for each sample, if it does."""
        place = self._places.get(x)
        if eqn.primitive.name != "dot_general" or place is None:
            return None
        batched = eqn.params["dimension_numbers"][1]
        of_x, of_w = (batched[1], batched[0]) if swapped else batched
        return of_w[list(of_x).index(place.axis)] if place.axis in of_x else None

    def _sources(self, w: Any) -> dict[Leaf, Any]:
        """The leaves of two or more dimensions behind an operand, and the variables they are in.

        Left out are tables (rows are looked up, some more than once) and what is beside a weight:
        tokens (a single row that a product of parameters sums over), biases (broadcast and added to
        such a product, smaller than any of its weights) and scales (a single row, broadcast and
        multiplied with a larger array).
        """
        key = w, len(self.whole)
        if key not in self._behind:
            self._behind[key] = self._all_sources(w)
        return self._behind[key]

    def _all_sources(self, w: Any) -> dict[Leaf, Any]:
        """`_sources` of an operand that was not looked at before."""
        found: dict[Leaf, Any] = {}
        seen = set()

        def visit(var: Any, is_behind: bool, inside: frozenset, spread: frozenset) -> None:
            state = (var, is_behind, inside, spread)
            if isinstance(var, core.Literal) or state in seen or self._flat.kind(var) != "params":
                return
            seen.add(state)
            leaf = self._leaf(var)
            if leaf is not None:
                if shaped(var).ndim >= 2 and not self._is_beside(var, is_behind, spread):
                    found[leaf] = var
                return
            eqn = self._made_by[var]
            size, is_lookup = shaped(eqn.outvars[0]).size, eqn.primitive.name in _TABLES
            if is_lookup and size != shaped(eqn.invars[0]).size and self._is_table(eqn):
                return
            is_product = eqn.primitive.name in PRODUCTS
            for i, other in enumerate(eqn.invars[:1] if is_lookup else eqn.invars):
                role = self._role(eqn, i)
                is_small = 1 < shaped(other).size < size
                is_broadcast = is_small and eqn.primitive.name == "broadcast_in_dim"
                new = role if is_small and role else inside if is_broadcast else frozenset()
                visit(other, is_behind or is_product, inside | role, spread | new)

        visit(w, False, frozenset(), frozenset())
        return found

    def _is_beside(self, var: Any, is_behind: bool, spread: frozenset) -> bool:
        """Whether a leaf is a token, a bias or a scale.

        Args:
            var: the leaf.
            is_behind: whether a product of parameters stands between it and the operand.
            spread: roles (`_role`) in which it is broadcast.
        """
        sizes = dict(sorted(spread))  # of two biases the larger
        is_bias = shaped(var).size < sizes.get("bias", 0)
        is_one = "scale" in sizes or (is_behind and self._is_summed(var))
        return is_bias or (is_single(var) and is_one)

    def _is_summed(self, var: Any) -> bool:
        """Whether a product of parameters sums over the one axis of a single row."""
        shape = shaped(var).shape
        size = max(shape, default=1)
        found: dict[Any, Place | None] = {var: Place(shape.index(size) if shape else 0)}
        for eqn in self._flat.jaxpr.eqns:
            known = [None if isinstance(v, core.Literal) else found.get(v) for v in eqn.invars]
            if any(known) and self._flat.kind(eqn.outvars[0]) == "params":
                found.update(zip(eqn.outvars, places(eqn, known, size), strict=True))
                if eqn.primitive.name in PRODUCTS and (size == 1 or not found[eqn.outvars[0]]):
                    return True
        return False

    def _role(self, eqn: core.JaxprEqn, i: int) -> frozenset:
        """What an operand is beside the others, if it is broadcast: a bias or a scale, if any.

        With it goes a size below which it is one: a bias is smaller than each weight in the product
        that it is added to.
        """
        others = [v for j, v in enumerate(eqn.invars) if j != i]
        products = self._products.intersection(vars_of(others))
        if eqn.primitive.name in ("add", "sub") and products:
            weights = {v for other in products for v in self._sources(other).values()}
            sizes = (shaped(v).size for v in weights if not is_single(v))
            return frozenset({("bias", min(sizes, default=math.inf))})
        is_whole = any(shaped(v).size == shaped(eqn.outvars[0]).size for v in others)
        is_scale = eqn.primitive.name in ("mul", "div") and is_whole
        return frozenset({("scale", math.inf)} if is_scale else ())

    def _is_table(self, eqn: core.JaxprEqn) -> bool:
        """Whether a look-up takes rows, which are not known to be taken once each."""
        if not is_row(eqn):
            return False
        rows = self._lookups.value(eqn.invars[1]) if eqn.primitive.name == "gather" else None
        return rows is None or len(np.unique(rows)) < rows.size

    def _leaf(self, var: Any, rank: int = 2) -> Leaf | None:
        """The leaf that a variable is, or the slice of `rank` axes or more of a stack."""
        if var in self._names:
            return Leaf(self._names[var])
        squeeze = self._made_by.get(var)
        if squeeze is None or squeeze.primitive.name != "squeeze":
            return None
        cut = self._made_by.get(squeeze.invars[0])
        if squeeze.params["dimensions"] != (0,) or cut is None or cut.primitive.name != "slice":
            return None
        (stack,), start, limit = (
            cast(list[core.Var], cut.invars),
            cut.params["start_indices"],
            cut.params["limit_indices"],
        )
        size = shaped(stack)
        is_whole = start[1:] == (0,) * len(start[1:]) and limit[1:] == size.shape[1:]
        if not is_whole or size.ndim <= rank or size.shape[0] == 1:
            return None
        of = self._leaf(stack)
        return None if of is None or of.name in self.whole else Leaf(of.name, (*of.index, start[0]))

    def _rows(self, var: Any, what: str) -> Rows:
        place = self._places.get(var)
        if place is None:
            raise ValueError(
                f"{what} of shape {shaped(var).shape} has no axis of the samples: the network "
                "mixes the samples of a batch, so that a sample has no gradient of its own."
            )
        return Rows.of(shaped(var).shape, place, self._batch)

    def _use(self, index, eqn, function, leaf, source, x, w, arrays) -> Use:
        product, (weight, extra) = index, Expression.between(self._flat, source, w)
        bias_leaf, bias, bias_extra, output, index = self._biases.of(index, eqn, source, w)
        call = Product(
            function,
            weight,
            self._rows(x, "the input of a layer"),
            self._rows(output, "the output of a layer"),
            bias,
        )
        arrays = (tuple(extra), tuple(arrays), bias_extra)
        return Use(index, leaf, bias_leaf, call, x, output, arrays, source, product)

    def _members(self, index, eqn, function, leaf: Leaf, source, x, w, swapped: bool) -> list[Use]:
        """A use for each slice of a stack of weights [E, ...] in one product, else none."""
        if eqn.primitive.name != "dot_general" or source is not w or shaped(w).ndim < 3:
            return []
        (contract, batched), side = eqn.params["dimension_numbers"], 0 if swapped else 1
        is_mapped = "vmap(" in str(eqn.source_info.name_stack)
        place, along = self._places.get(x), None
        if 0 in batched[side]:
            along = batched[1 - side][list(batched[side]).index(0)]
            if place is None or place.axis == along:
                return []
        elif 0 in contract[side] or not is_mapped or len(contract[side]) != 1:
            return []
        (y,) = eqn.outvars
        (stack,) = places(eqn, [Place(0) if v is w else None for v in eqn.invars], self._batch)
        moved = self._places[y]
        if stack is None or moved is None:
            return []
        product, axis, size = index, stack.axis, shaped(w).shape[0]
        of_bias, bias, _, y, index = self._biases.of(index, eqn, source, w, axis)
        for move in bias.moves if bias is not None else ():
            axis = move.permutation.index(axis) if isinstance(move, Transpose) else axis
        moved = self._places[y]
        leaves = Rows.of(
            tuple(s for d, s in enumerate(shaped(y).shape) if d != axis),
            Place(moved.axis - (moved.axis > axis), moved.inner),
            self._batch,
        )
        enters, found = self._rows(x, "the input of a layer"), []
        for e in range(size):
            member = (axis, along, 0 if along is None else e)
            call = Product(function, Expression.of([], [w], w), enters, leaves, bias, member)
            own, own_bias = (of and Leaf(of.name, (*of.index, e)) for of in (leaf, of_bias))
            none = (), (), ()
            use = Use(index, own, own_bias, call, x, y, none, source, product, (axis, e))
            found.append(use)
        return found


def products_of_parameters(flat: Flat) -> set:
    """Variables that products of parameters alone give, and what is made of these alone."""
    found: set = set()
    for eqn in flat.jaxpr.eqns:
        is_one = eqn.primitive.name in PRODUCTS or not found.isdisjoint(vars_of(eqn.invars))
        if is_one and flat.kind(eqn.outvars[0]) == "params":
            found.update(eqn.outvars)
    return found


def is_single(var: Any) -> bool:
    """Whether an array is a vector, however many axes of one it has."""
    return max(shaped(var).shape, default=1) == shaped(var).size


def is_row(eqn: core.JaxprEqn) -> bool:
    """Whether a look-up takes rows of a table, and not elements, columns or matrices."""
    first, *others = eqn.params["slice_sizes"]
    return first == 1 and sum(size > 1 for size in others) == 1


def _has_gradient(eqn: core.JaxprEqn) -> bool:
    """Whether the outputs of an equation move with its operands."""
    is_real = any(jnp.issubdtype(shaped(v).dtype, jnp.inexact) for v in eqn.outvars)
    return is_real and eqn.primitive.name not in _STEPS
