"""A traced network as one flat list of equations, without what does not reach its output.

Calls are inlined, scans with weights or an activation unrolled, and branches with a known index
taken. What a custom derivative is for stays whole, with its activations shown beside it, and so do
marks.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend import core

from lswag_jax import marks
from lswag_jax.arrays import CUSTOM, JITS, REMATS, bind, bodies, evaluate, needed, shaped, vars_of
from lswag_jax.capture.activations import find
from lswag_jax.capture.curves import is_activation_call

Array = jax.Array
MARK = "lswag_jax_mark"  # of norms and the end of what is scored
OWN_RULE = "lswag_jax_own_rule"  # where a function's own gradient is not followed
PRODUCTS = ("dot_general", "conv_general_dilated")
_LOOPS = ("scan", "while", "cond")
_MOST = 128  # turns of a scan without weights that is unrolled


@dataclasses.dataclass(frozen=True)
class Flat:
    """A flat program.

    Attributes:
        jaxpr: a function of the leaves of the parameters, of all other variables, and the inputs;
            parts taken of what does not depend on images come first.
        consts: its constants.
        kinds: what each variable depends on: "images" (and maybe parameters), or "params" alone;
            others are constants.
    """

    jaxpr: core.Jaxpr
    consts: list
    kinds: dict[Any, str]

    def kind(self, var: Any) -> str:
        """What a variable depends on: "images", "params" or "constant"."""
        return "constant" if isinstance(var, core.Literal) else self.kinds.get(var, "constant")


def flatten(
    function: Callable,
    params: Sequence[Array],
    *others: Any,
    dead: bool = False,
    for_marks: bool = False,
) -> Flat:
    """The flat program of `function(params, *others)`; the last of the others are the inputs.

    Args:
        function: pure.
        params: leaves.
        *others: trees.
        dead: whether what does not reach the output is kept.
        for_marks: whether the marks alone are wanted; calls are kept where none is inside of one.

    Raises:
        ValueError: a layer runs inside of a loop or branch that depends on images.
    """
    closed = jax.make_jaxpr(function)(params, *others)
    inputs = len(jax.tree.leaves(others[-1]))
    first_input = len(closed.jaxpr.invars) - inputs
    kinds = [
        "params" if i < len(params) else "images" if i >= first_input else "constant"
        for i in range(len(closed.jaxpr.invars))
    ]
    if for_marks and not any(_has_mark(b.jaxpr) for e in closed.jaxpr.eqns for b in bodies(e)):
        return Flat(closed.jaxpr, closed.consts, _kinds(closed.jaxpr, kinds))
    flat = _flat(closed, kinds, dead)
    eqns = _parts_first(flat.jaxpr.eqns, flat.kinds)
    return dataclasses.replace(flat, jaxpr=flat.jaxpr.replace(eqns=eqns))


def _has_mark(jaxpr: core.Jaxpr) -> bool:
    return any(
        name_of(eqn).startswith(MARK) or any(_has_mark(body.jaxpr) for body in bodies(eqn))
        for eqn in jaxpr.eqns
    )


def _flat(program: core.ClosedJaxpr, kinds: Sequence[str], dead: bool = False) -> Flat:
    """A program of inputs of these kinds, equation by equation."""

    def inlined(*args: Array) -> list:
        return [value for value, _ in _run(program, list(zip(args, kinds, strict=True)))]

    flat = jax.make_jaxpr(inlined)(*(v.aval for v in program.jaxpr.invars))
    jaxpr = flat.jaxpr if dead else flat.jaxpr.replace(eqns=needed(flat.jaxpr))
    jaxpr = _parts_once(jaxpr)
    return Flat(jaxpr, flat.consts, _kinds(jaxpr, kinds))


def hidden(flat: Flat) -> list[str]:
    """Loops and branches of a flat program that hold activations, which are not seen there."""
    found = [
        f"a '{eqn.primitive.name}' at {place_of(eqn)}"
        for eqn in flat.jaxpr.eqns
        if eqn.primitive.name in _LOOPS
        and any(map(_has_activation, _insides(eqn, [flat.kind(v) for v in eqn.invars])))
    ]
    return list(dict.fromkeys(found))


def name_of(eqn: core.JaxprEqn) -> str:
    """Name of the function that a call equation calls."""
    return eqn.params.get("name", "") if eqn.primitive.name in JITS else ""


def place_of(eqn: core.JaxprEqn) -> str:
    """Where in the model an equation comes from, as far as its trace says."""
    names = str(eqn.source_info.name_stack).split("/")
    return "/".join(n for n in names if n.strip("_") and n != OWN_RULE) or "the model"


def readers(
    eqns: Sequence[core.JaxprEqn], var: Any, passes: Callable[[core.JaxprEqn], bool]
) -> Iterator[tuple[core.JaxprEqn, set]]:
    """Equations that read a variable or what is made of it, and which of these they read.

    Args:
        eqns: in order of execution.
        var: the variable.
        passes: whether the outputs of an equation that reads it count as made of it.
    """
    made = {var}
    for eqn in eqns:
        mine = made.intersection(vars_of(eqn.invars))
        if mine:
            yield eqn, mine
            if passes(eqn):
                made.update(eqn.outvars)


def _parts_first(eqns: Sequence[core.JaxprEqn], kinds: Mapping) -> list[core.JaxprEqn]:
    """Moves slices of image-independent values, with all that they depend on, to the front.

    Like blocks slice different parts of one array of sizes or of stacked parameters; after these
    slices their equations are the same.
    """
    wanted: set = set()
    first = []
    for eqn in reversed(eqns):
        is_part = eqn.primitive.name in ("slice", "dynamic_slice")
        if kinds[eqn.outvars[0]] == "images":
            continue
        if is_part or not wanted.isdisjoint(eqn.outvars):
            first.append(eqn)
            wanted.update(vars_of(eqn.invars))
    found = set(map(id, first))
    return [*reversed(first), *(eqn for eqn in eqns if id(eqn) not in found)]


def _parts_once(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """Takes each part of an array once, so that one slice of a stack is one variable."""
    known: dict[Any, Any] = {}
    same: dict[Any, Any] = {}
    eqns = []
    for eqn in jaxpr.eqns:
        operands = [v if isinstance(v, core.Literal) else same.get(v, v) for v in eqn.invars]
        if any(a is not b for a, b in zip(operands, eqn.invars, strict=True)):
            eqn = eqn.replace(invars=operands)
        if eqn.primitive.name in ("slice", "squeeze"):
            key = eqn.primitive.name, operands[0], tuple(sorted(eqn.params.items()))
            first = known.setdefault(key, eqn)
            if first is not eqn:
                same[eqn.outvars[0]] = first.outvars[0]
                continue
        eqns.append(eqn)
    outputs = [v if isinstance(v, core.Literal) else same.get(v, v) for v in jaxpr.outvars]
    return jaxpr.replace(eqns=eqns, outvars=outputs)


def _kinds(jaxpr: core.Jaxpr, inputs: Sequence[str]) -> dict[Any, str]:
    kinds: dict[Any, str] = dict(zip(jaxpr.invars, inputs, strict=True))
    for eqn in jaxpr.eqns:
        own = _joined(kinds.get(v, "constant") for v in vars_of(eqn.invars))
        kinds.update(dict.fromkeys(eqn.outvars, own))
    return kinds


def _joined(kinds: Iterator[str]) -> str:
    found = set(kinds)
    return "images" if "images" in found else "params" if "params" in found else "constant"


def _run(program: core.ClosedJaxpr, args: Sequence[tuple]) -> list[tuple]:
    """Runs a program on (value, kind) pairs, inlining what can be."""

    def step(eqn: core.JaxprEqn, operands: list[tuple]) -> list[tuple]:
        # The names of the modules that an equation comes from are given on.
        with jax.named_scope(str(eqn.source_info.name_stack).replace("/", ".") or "_"):
            return _step(eqn, operands)

    return evaluate(program, args, step, lambda value: (value, "constant"))


def _step(eqn: core.JaxprEqn, operands: list[tuple]) -> list[tuple]:
    """The outputs of one equation, or of what it calls."""
    body = _inlined(eqn, operands)
    if body is not None:
        with jax.named_scope(OWN_RULE if eqn.primitive.name in CUSTOM else "_"):
            return _run(body, operands)
    index = _known(operands[0][0]) if eqn.primitive.name == "cond" else None
    if index is not None:
        branches = eqn.params["branches"]
        return _run(branches[min(max(index, 0), len(branches) - 1)], operands[1:])
    kind = _joined(kind for _, kind in operands)
    if eqn.primitive.name == "scan" and _is_unrolled(eqn, operands):
        return _mapped(eqn, operands) if _is_map(eqn, operands) else _unrolled(eqn, operands)
    if eqn.primitive.name in _LOOPS and kind == "images" and _holds_weights(eqn, operands):
        raise ValueError(
            f"weights are used inside of a '{eqn.primitive.name}' that depends on data, at "
            f"{place_of(eqn)}, where no layer can be captured: use a for loop, lax.scan of a known "
            "length, or a Python branch."
        )
    if eqn.primitive.name in CUSTOM and _hides_activation(eqn, operands):
        return _shown(eqn, operands)
    return [(value, kind) for value in _bound(eqn, [value for value, _ in operands], kind)]


def _bound(eqn: core.JaxprEqn, values: list, kind: str) -> list:
    """The outputs of an equation that is kept, of values of which the joined kind is known."""
    if eqn.primitive.name == "dynamic_slice" and kind == "params":
        starts = [_known(value) for value in values[1:]]
        if None not in starts:  # a part of a stack, at a known place
            return [_part(values[0], starts, eqn.params["slice_sizes"])]
    is_known = kind == "constant" and not any(isinstance(v, Tracer) for v in values)
    if is_known and all(shaped(var).ndim == 0 for var in eqn.outvars):
        with jax.ensure_compile_time_eval():  # an index that is known stays known
            return bind(eqn, values)
    return bind(eqn, values)


def _known(index: Any) -> int | None:
    """A branch's index where it does not depend on data."""
    return None if isinstance(index, Tracer) else int(index)


def _inlined(eqn: core.JaxprEqn, operands: list[tuple]) -> core.ClosedJaxpr | None:
    """The body of a call that is run equation by equation."""
    kind = eqn.primitive.name
    if kind in JITS:
        if name_of(eqn).startswith((MARK, marks.LAYER, marks.ACTIVATION)):
            return None
        return None if is_activation_call(eqn) else eqn.params["jaxpr"]
    is_called = kind in REMATS or (kind in CUSTOM and _holds_weights(eqn, operands))
    return bodies(eqn)[0] if is_called else None


def _insides(eqn: core.JaxprEqn, kinds: Sequence[str]) -> list[Flat]:
    """What an equation on images runs, flat; what a loop changes is of images, too.

    Args:
        eqn: the equation.
        kinds: of its operands.
    """
    if "images" not in kinds:
        return []
    key = {"scan": "num_consts", "while": "body_nconsts"}.get(eqn.primitive.name)
    number = len(kinds) if key is None else eqn.params[key]
    found = []
    for body in bodies(eqn):
        own = kinds[len(kinds) - len(body.jaxpr.invars) :]
        found.append(_flat(body, [k if i < number else "images" for i, k in enumerate(own)]))
    return found


def _holds_weights(eqn: core.JaxprEqn, operands: list[tuple]) -> bool:
    """Whether weights enter an equation that has products, or marks, inside."""
    enter = any(
        kind == "params" and shaped(var).ndim >= 2
        for var, (_, kind) in zip(eqn.invars, operands, strict=True)
    )
    return enter and any(_has_products(body.jaxpr) for body in bodies(eqn))


def _has_products(jaxpr: core.Jaxpr) -> bool:
    return any(
        eqn.primitive.name in PRODUCTS
        or name_of(eqn).startswith((MARK, marks.LAYER))
        or any(_has_products(body.jaxpr) for body in bodies(eqn))
        for eqn in jaxpr.eqns
    )


def _part(x: Array, starts: Sequence[Any], sizes: Sequence[int]) -> Array:
    """What `dynamic_slice` takes, which stays inside of the array."""
    starts = [min(max(i, 0), whole - n) for i, whole, n in zip(starts, x.shape, sizes, strict=True)]
    return jax.lax.slice(x, starts, [i + n for i, n in zip(starts, sizes, strict=True)])


def _shown(eqn: core.JaxprEqn, operands: list[tuple]) -> list[tuple]:
    """The outputs of a call, which keeps its gradient, with its equations shown beside it."""
    values = bind(eqn, [value for value, _ in operands])
    alike = [(jax.lax.stop_gradient(value), kind) for value, kind in operands]
    inside = _run(bodies(eqn)[0], alike)
    kept = jax.lax.optimization_barrier([*values, *(value for value, _ in inside)])
    return [(value, kind) for value, (_, kind) in zip(kept, inside, strict=False)]


def _has_activation(flat: Flat) -> bool:
    return bool(find(flat.jaxpr, flat.consts, flat.kind))


def _hides_activation(eqn: core.JaxprEqn, operands: list[tuple]) -> bool:
    """Whether a call is no activation itself, and has one inside."""
    inside = () if is_activation_call(eqn) else _insides(eqn, [kind for _, kind in operands])
    return any(map(_has_activation, inside))


def _is_unrolled(eqn: core.JaxprEqn, operands: list[tuple]) -> bool:
    """Whether a scan holds weights, or an activation in not too many turns."""
    if _holds_weights(eqn, operands):
        return True
    is_short = _is_map(eqn, operands) or eqn.params["length"] <= _MOST
    inside = _insides(eqn, [kind for _, kind in operands]) if is_short else ()
    return any(map(_has_activation, inside))


def _is_map(eqn: core.JaxprEqn, operands: list[tuple]) -> bool:
    """Whether a scan's steps do not depend on each other and are of values, not of weights."""
    scanned = {kind for _, kind in operands[eqn.params["num_consts"] :]}
    return not eqn.params["num_carry"] and "images" in scanned and "params" not in scanned


def _mapped(eqn: core.JaxprEqn, operands: list[tuple]) -> list[tuple]:
    """A scan without a carry as one `vmap` of its step."""
    number, kinds = eqn.params["num_consts"], []

    def step(*own: Array) -> list[Array]:
        pairs = [(x, kind) for x, (_, kind) in zip(own, operands[number:], strict=True)]
        outputs = _run(eqn.params["jaxpr"], [*operands[:number], *pairs])
        kinds[:] = [kind for _, kind in outputs]
        return [value for value, _ in outputs]

    values = jax.vmap(step)(*(value for value, _ in operands[number:]))
    return list(zip(values, kinds, strict=True))


def _unrolled(eqn: core.JaxprEqn, operands: list[tuple]) -> list[tuple]:
    """A scan as its steps one after the other, each on its slice of what is scanned over."""
    p = eqn.params
    consts = operands[: p["num_consts"]]
    carry = operands[p["num_consts"] : p["num_consts"] + p["num_carry"]]
    scanned = operands[p["num_consts"] + p["num_carry"] :]
    stacks: dict[int, list] = {}
    for i in reversed(range(p["length"])) if p["reverse"] else range(p["length"]):
        own = [(jax.lax.index_in_dim(x, i, keepdims=False), kind) for x, kind in scanned]
        out = _run(p["jaxpr"], [*consts, *carry, *own])
        carry, stacks[i] = out[: p["num_carry"]], out[p["num_carry"] :]
    rows = [stacks[i] for i in range(p["length"])]
    stacked = [
        (jnp.stack([value for value, _ in row]), _joined(kind for _, kind in row))
        for row in zip(*rows, strict=True)
    ]
    return [*carry, *stacked]
