"""Which weights of a model the tape captured, and why it missed the others."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

from lswag_jax.arrays import shaped, vars_of
from lswag_jax.capture.batch_norm import STATISTICS
from lswag_jax.capture.ending import gives_probabilities
from lswag_jax.capture.lookups import Lookups
from lswag_jax.capture.network import leaf_name, others_of
from lswag_jax.capture.products import is_row, is_single, products_of_parameters
from lswag_jax.capture.program import MARK, OWN_RULE, PRODUCTS, hidden, name_of, place_of, readers
from lswag_jax.capture.record import Mark, Program, places_of
from lswag_jax.capture.uses import Leaf, Use

_TABLE, _VECTOR = "table", "vector"  # no weights: a table or a token; a bias, a scale
# A stored array that first meets the samples in one of these is a table: it is added or joined
# (_SHOWN), or its rows are looked up (_LOOKED_UP).
_SHOWN = ("add", "sub", "add_any", "concatenate", "select_n", "pad", "dynamic_update_slice")
_LOOKED_UP = ("gather", "dynamic_slice")
_UNFOLDED = ("reshape", "slice", "dynamic_slice", "split", "transpose", "convert_element_type")
_LAID_OUT = (*_UNFOLDED, "gather", "concatenate", "scatter", "broadcast_in_dim", "squeeze", "rev")
# What may stand between a stored array and the product in which it is a weight all the same.
_BETWEEN = (
    *(*_SHOWN, *_LOOKED_UP, *_UNFOLDED, "squeeze", "broadcast_in_dim", "mul", "div", "neg"),
    *("reduce_sum", "stop_gradient", "rev", "scatter", "scatter-add", "copy", "sort"),
)
_OF_SAMPLES = "which is another one for each sample where it meets the images in a product"
_OF_ROWS = "which is looked up, or put together, before its product with the images"


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Which weights of a model the tape captured, and why it missed the others.

    Weights are stored arrays of two or more dimensions, except tables: arrays that are added
    (positions, tokens), indexed by row, or by the images along any one axis (embeddings).

    Attributes:
        layers: name, shape of the weight and number of uses of each layer.
        share: of the weights' elements, those of the layers.
        missed: for each weight that is in no layer, why.
        tables: names of the stored arrays that are tables.
        activations: units of each activation layer, a sample.
        norms: normalisation layers by name, and the mode that they run in.
        foreign: modules with a state in `batch_stats` that no known BatchNorm owns.
        mixed: places where the samples of a batch are mixed by other means than BatchNorm.
        hidden: loops and branches with activations inside that are not seen.
        partly: weights that reach the logits in one more way, which their gradients leave out, and
            where they take it.
        gives_probabilities: whether the outputs lie in [0, 1], as those of a softmax do.
        own_rules: layers inside a `jax.custom_vjp` or `custom_jvp`, whose rule is not followed.
    """

    layers: tuple[tuple[str, tuple[int, ...], int], ...]
    share: float
    missed: Mapping[str, str]
    tables: tuple[str, ...]
    activations: tuple[int, ...]
    norms: Mapping[str, str]
    foreign: tuple[str, ...]
    mixed: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    partly: Mapping[str, str] = dataclasses.field(default_factory=dict)
    gives_probabilities: bool = False
    own_rules: tuple[str, ...] = ()

    @classmethod
    def of(cls, program: Program, batch_norm: str, statistics: Sequence[str] = ()) -> "Coverage":
        """Describes a traced network.

        Args:
            program: the network.
            batch_norm: the mode that it was traced in.
            statistics: names of the arrays of `batch_stats`.
        """
        jaxpr, names = program.flat.jaxpr, program.names
        stored = dict(zip(names, jaxpr.invars[: len(names)], strict=True))
        uses = [call for call in program.calls if isinstance(call, Use)]
        captured = {use.leaf.name for use in uses}
        biases = {use.bias.name for use in uses if use.bias is not None}
        layers_at = {id(jaxpr.eqns[use.product]) for use in uses}
        integers = _integer_weights(program, layers_at)
        missed = dict.fromkeys(integers, "which is stored as integers")
        tables = []
        for name, var in stored.items():
            if name in captured | biases:
                continue
            if is_single(var) and _is_summed_over(var, program, layers_at):
                missed[name] = "which is stored as a vector"
                continue
            if shaped(var).ndim < 2:
                continue
            why = _why_missed(var, program)
            if why == _TABLE:
                tables.append(name)
            elif why != _VECTOR:
                missed[name] = why
        named = stored | integers
        sizes = {name: math.prod(shaped(var).shape) for name, var in named.items()}
        lack = sum(sizes[name] for name in missed)
        layers = _layers(stored, uses)
        have = sum(math.prod(shape) for _, shape, _ in layers)
        missed |= _unused_members(stored, uses)
        lack += sum(sizes[name] for name in captured) - have
        norms = {
            call.name: batch_norm if call.is_batch_norm else "as it is"
            for call in program.calls
            if isinstance(call, Mark) and call.kind == "norm"
        }
        owners = {leaf.rpartition("/")[0] for leaf in statistics}
        return cls(
            layers,
            have / (have + lack) if have + lack else 0.0,
            missed,
            tuple(tables),
            tuple(
                math.prod(shaped(jaxpr.eqns[i].outvars[0]).shape) // program.batch
                for i in sorted(program.activations)
            ),
            norms,
            tuple(sorted(owners - {name.partition("[")[0] for name in norms})),
            _mixed(program),
            tuple(hidden(program.flat)),
            program.partly,
            gives_probabilities(program),
            _of_own_rules(program, uses),
        )

    def __str__(self) -> str:
        lines = [f"{self.share:.1%} of the weights are in {len(self.layers)} layers"]
        for name, shape, count in self.layers:
            times = f", used {count} times" if count > 1 else ""
            lines.append(f"  {name or 'the model'}: {' x '.join(map(str, shape))}{times}")
        lines += [f"  not captured: {name}, {why}" for name, why in self.missed.items()]
        if self.tables:
            lines.append(f"  tables and tokens, no weights: {', '.join(self.tables)}")
        units = ", ".join(map(str, self.activations)) or "none"
        lines.append(f"activations, units a sample: {units}")
        lines += [f"normalisation {name}: {mode}" for name, mode in self.norms.items()]
        lines += [f"a normalisation of your own, as it is: {name}" for name in self.foreign]
        lines += [f"samples are mixed in {place}" for place in self.mixed]
        lines += [f"activations that are not seen: in {place}" for place in self.hidden]
        lines += [f"only in part: {name}, also used in {at}" for name, at in self.partly.items()]
        lines += ["the outputs are probabilities, no logits"] * self.gives_probabilities
        lines += [f"its own gradient rule is not followed: {name}" for name in self.own_rules]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"layers": [list(layer) for layer in self.layers]}

    def warnings(self) -> list[str]:
        """A sentence for each thing that a user should know."""
        found = []
        if self.share < 0.95:
            names = ", ".join(f"{name} ({why})" for name, why in list(self.missed.items())[:3])
            more = f" and {len(self.missed) - 3} more" if len(self.missed) > 3 else ""
            found.append(
                f"proxies see {self.share:.0%} of the model's weights; they miss {names}{more}."
            )
        if self.foreign:
            more = f" and {len(self.foreign) - 3} more" if len(self.foreign) > 3 else ""
            found.append(
                f"the model keeps batch_stats in {', '.join(self.foreign[:3])}{more}, which is no "
                "BatchNorm of Flax and does not follow `batch_norm`: it runs as it is written."
            )
        if self.hidden:
            found.append(
                f"activations inside {self.hidden[0]} are not seen, and no pattern counts them."
            )
        for name, place in list(self.partly.items())[:1]:
            more = f" (and {len(self.partly) - 1} more)" if len(self.partly) > 1 else ""
            found.append(
                f"{name}{more} meets the images in {place} too, by no product, and its gradient "
                "leaves that out."
            )
        if self.own_rules:
            first, *others = self.own_rules
            more = f" (and {len(others)} more)" if others else ""
            found.append(
                f"{first}{more} is multiplied in a function with a gradient rule of "
                "its own (jax.custom_vjp or custom_jvp), which is not followed: the gradient is "
                "that of what is computed."
            )
        if self.mixed:
            found.append(
                f"the model mixes the samples of a batch in {self.mixed[0]}: a sample's gradients "
                "are then those of all the losses that it moves."
            )
        return found


def _layers(stored: Mapping[str, Any], uses: Sequence[Use]) -> tuple:
    found: dict[str, list] = {}
    for use in uses:
        shape = shaped(stored[use.leaf.name]).shape
        found.setdefault(use.name, [shape[len(use.leaf.index) :], 0])[1] += not use.is_path
    return tuple((name, shape, count) for name, (shape, count) in found.items())


def _of_own_rules(program: Program, uses: Sequence[Use]) -> tuple[str, ...]:
    """Layers inside a function whose gradient rule is not followed."""
    eqns = program.flat.jaxpr.eqns
    inside = (u.name for u in uses if OWN_RULE in str(eqns[u.product].source_info.name_stack))
    return tuple(dict.fromkeys(inside))


def _unused_members(stored: Mapping[str, Any], uses: Sequence[Use]) -> dict[str, str]:
    """Members of stacks that are in no layer, where others are."""
    used: dict[str, set] = {}
    for use in uses:
        used.setdefault(use.leaf.name, set()).add(use.leaf.index)
    found = {}
    for name, members in used.items():
        depth = len(next(iter(members)))
        for index in np.ndindex(shaped(stored[name]).shape[:depth]):
            if index not in members:
                found[f"{name}{Leaf(name, index).place}"] = "which does not reach the logits"
    return found


def _mixed(program: Program) -> tuple[str, ...]:
    """Places of equations that mix the samples, those of BatchNorm left out."""
    known, found = places_of(program.flat, program.batch), []
    lookups = Lookups(program.flat)
    for eqn in program.flat.jaxpr.eqns:
        if name_of(eqn).startswith(MARK):
            continue
        mixing: list[core.JaxprEqn] = []
        operands = [None if isinstance(v, core.Literal) else known.get(v) for v in eqn.invars]
        lookups.places(eqn, operands, program.batch, mixing)
        names = [f"{eqn.source_info.name_stack}/{inner.source_info.name_stack}" for inner in mixing]
        if any(STATISTICS not in name for name in names):
            found.append(place_of(eqn))
    return tuple(dict.fromkeys(found))


def _integer_weights(program: Program, layers_at: set[int]) -> dict[str, Any]:
    """Stored arrays of integers that meet the images in a product that is no layer's, by name.

    What the product's weight is made of beside them, as a scale, is none; the product joins the
    layers' (`layers_at`).
    """
    flat, found = program.flat, {}
    first = len(program.names)
    for i, (path, leaf) in enumerate(others_of(program.network.variables)):
        is_stored = getattr(path[0], "key", None) == "params" and jnp.ndim(leaf) > 1
        if not is_stored or not jnp.issubdtype(leaf.dtype, jnp.integer):
            continue
        var = flat.jaxpr.invars[first + i]
        for eqn, mine in readers(
            flat.jaxpr.eqns, var, lambda eqn: flat.kind(eqn.outvars[0]) != "images"
        ):
            is_product = eqn.primitive.name in PRODUCTS and flat.kind(eqn.outvars[0]) == "images"
            if is_product and id(eqn) not in layers_at and any(v in mine for v in eqn.invars):
                found[leaf_name(path)] = var
                layers_at.add(id(eqn))
    return found


def _is_summed_over(var: Any, program: Program, layers_at: set[int]) -> bool:
    """Whether a product with the images sums over a stored vector, which is a weight then.

    So it is of what vectors alone make: a part, an outer product, a circulant matrix. A vector that
    no product sums over is a scale; so is one in a layer, whose weight is stored otherwise.
    """
    flat = program.flat

    def is_made(eqn: core.JaxprEqn) -> bool:
        return eqn.primitive.name in _LAID_OUT or flat.kind(eqn.outvars[0]) == "params"

    for eqn, mine in readers(flat.jaxpr.eqns, var, is_made):
        if eqn.primitive.name not in PRODUCTS or flat.kind(eqn.outvars[0]) != "images":
            continue
        weights = [v for v in mine if flat.kind(v) == "params"]
        if weights and id(eqn) not in layers_at and _sums(eqn, weights[0]):
            return True
    return False


def _sums(eqn: core.JaxprEqn, weight: Any) -> bool:
    """Whether a product sums over an axis of its weight."""
    if eqn.primitive.name != "dot_general":
        return True
    contracted, _ = eqn.params["dimension_numbers"]
    axes = contracted[0 if eqn.invars[0] is weight else 1]
    return any(shaped(weight).shape[axis] > 1 for axis in axes)


def _multiplied(var: Any, program: Program) -> str:
    """How an array that is looked up or added to is a weight after all; empty where it is not.

    It is where what is made of it alone is one operand of a product, and the images the other: an
    input of a layer, as an embedding is, meets parameters there.
    """
    flat = program.flat
    everything = {v for _, mine in readers(flat.jaxpr.eqns, var, lambda _: True) for v in mine}
    for eqn, mine in readers(flat.jaxpr.eqns, var, lambda e: e.primitive.name in _BETWEEN):
        if eqn.primitive.name not in PRODUCTS:
            continue
        x, w = eqn.invars[:2]
        # Where both depend on it, tokens with positions are weighed by what is made of themselves.
        own, others = [v for v in (x, w) if v in mine], [v for v in (x, w) if v not in everything]
        meets_images = len(own) == len(others) == 1 and flat.kind(others[0]) == "images"
        if meets_images and (eqn.primitive.name == "dot_general" or own[0] is w):
            return _OF_SAMPLES if flat.kind(own[0]) == "images" else _OF_ROWS
    return ""


def _takes_vectors(eqn: core.JaxprEqn) -> bool:
    """Whether a look-up indexes one axis, whichever, and takes a vector or a number there."""
    taken = eqn.params["slice_sizes"]
    cut = [n for n, size in zip(taken, shaped(eqn.invars[0]).shape, strict=True) if n < size]
    return cut == [1] and sum(n > 1 for n in taken) <= 1


def _why_missed(var: Any, program: Program) -> str:
    """Why a stored array is in no layer: it is `_TABLE` or `_VECTOR`, or what a message says."""
    flat, is_used, has_product = program.flat, False, False
    products = products_of_parameters(flat)

    def is_of_params(eqn: core.JaxprEqn) -> bool:
        return flat.kind(eqn.outvars[0]) == "params"

    for eqn, mine in readers(flat.jaxpr.eqns, var, is_of_params):
        is_used = True
        if eqn.primitive.name in _LOOKED_UP and eqn.invars[0] in mine:
            is_embedding = is_row(eqn) or (not is_of_params(eqn) and _takes_vectors(eqn))
            return ("" if is_embedding else _multiplied(var, program)) or _TABLE
        if not is_of_params(eqn):
            axes = max(sum(size > 1 for size in shaped(v).shape) for v in mine)
            is_vector = axes < 2  # a step's slice of a stack of them, say
            if (eqn.primitive.name in _SHOWN or is_vector) and not has_product:
                if is_vector and not is_single(var):
                    return _VECTOR
                return ("" if is_vector else _multiplied(var, program)) or _TABLE
            continue
        is_sum = eqn.primitive.name in ("add", "sub")
        is_beside = not products.isdisjoint(vars_of(eqn.invars)) and is_sum and not has_product
        if is_beside and shaped(var).size < shaped(eqn.outvars[0]).size:
            return _VECTOR  # a bias of a product of parameters alone
        has_product |= eqn.primitive.name in PRODUCTS
    if is_single(var):
        return _TABLE if has_product or not is_used else _VECTOR  # a token, or a scale
    if not is_used:
        return "which does not reach the logits"
    if has_product:
        return "which meets parameters alone in a product"
    return "which meets the images in no product"


def batch_statistics(variables: Mapping[str, Any]) -> list[str]:
    """Names of statistics that a model keeps: `batch_stats`, and the floats of another state."""

    def is_statistic(leaf: Any) -> bool:
        if isinstance(leaf, nnx.Variable):
            return isinstance(leaf, nnx.BatchStat)
        return jnp.issubdtype(getattr(leaf, "dtype", bool), jnp.floating) and leaf.ndim > 0

    return [
        leaf_name((jax.tree_util.DictKey(kind), *path))
        for kind in ("batch_stats", "rest")
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            variables.get(kind, {}), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
        )
        if is_statistic(leaf)
    ]
