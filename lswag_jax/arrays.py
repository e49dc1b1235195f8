"""Array types, stacks of arrays, and helpers for traced programs."""

import functools
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend import core

Array = jax.Array
Variables = Mapping[str, Any]  # of a Flax module: collections of nested parameters
Term = TypeVar("Term")
# A context with 64-bit types; JAX before 0.8 has it elsewhere.
enable_x64: Callable[[bool], Any] = (
    jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")
).enable_x64


def bind(eqn: Any, operands: Sequence[Any], **changed: Any) -> list:
    """Outputs of an equation of a traced program for other operands.

    Args:
        eqn: a `jax.extend.core.JaxprEqn`, or any object with `primitive` and `params`.
        operands: arrays, traced or not.
        **changed: parameters that replace the equation's.
    """
    primitive = eqn.primitive
    params = primitive.get_bind_params(eqn.params)
    # JAX before 0.8 parts functions of calls from their other parameters.
    subfuns, params = params if isinstance(params, tuple) else ((), params)
    outputs = primitive.bind(*subfuns, *operands, **params | changed)
    return list(outputs) if primitive.multiple_results else [outputs]


def widened(x: Any) -> Any:
    """An array of narrow floats as float32; anything else as it is."""
    is_narrow = (
        hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    )
    return x.astype(jnp.float32) if is_narrow else x


def are_equal(outputs: Array, beside: Sequence[Array] = ()) -> Array:
    """Whether all samples have the same outputs, up to rounding; False for a single sample.

    Args:
        outputs: [B, ...].
        beside: what the outputs are made of, whose rounding may be all that they are.
    """
    if len(outputs) < 2:
        return jnp.zeros((), bool)
    scale = functools.reduce(jnp.maximum, [jnp.abs(x).max() for x in (outputs, *beside)])
    return jnp.abs(outputs - outputs[:1]).max() <= 16 * jnp.finfo(outputs.dtype).eps * scale


def total(terms: Iterable[Term]) -> Term:
    """The built-in `sum` of one term or more, so that the result is of their type.

    Example:
        >>> total([jax.numpy.ones(2), jax.numpy.ones(2)]).tolist()
        [2.0, 2.0]
    """
    return cast(Term, sum(cast(Any, terms)))


def each(function: Callable[..., Array], arguments: Sequence[tuple[Any, ...]]) -> Array:
    """`function(*arrays)` of every tuple of arrays, stacked.

    Tuples of equal shapes share one loop, so that many layers compile as one. A loop, not a `vmap`:
    two of jaxlib's batched LAPACK calls at a time, on two cores, wait for ever.

    Example:
        >>> rows = [(jnp.ones(2), 3.0), (jnp.ones(4), 1.0), (jnp.ones(2), 2.0)]
        >>> each(lambda x, y: x.sum() * y, rows).tolist()
        [6.0, 4.0, 4.0]
    """
    shapes = [tuple(jnp.shape(x) for x in arrays) for arrays in arguments]
    groups = alike(shapes, [arrays[0] for arrays in arguments])
    found = [
        _loop(function)(*map(stacked, zip(*(arguments[i] for i in group), strict=True)))
        for group in groups
    ]
    return jnp.concatenate(found)[np.argsort(np.concatenate(groups))]


@functools.lru_cache(maxsize=64)
def _loop(function: Callable[..., Array]) -> Callable[..., Array]:
    """One compiled loop for each set of shapes, also for chains of blocks."""
    return jax.jit(lambda *stacks: jax.lax.map(lambda arrays: function(*arrays), stacks))


def or_zeros(is_wanted: Array, compute: Callable[[], Any]) -> Any:
    """What `compute` returns, or zeros at no cost where a traced scalar is false.

    Example:
        >>> or_zeros(jnp.array(False), lambda: {"a": jnp.ones(2)})["a"].tolist()
        [0.0, 0.0]
    """
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(compute))
    return jax.lax.cond(is_wanted, compute, lambda: zeros)


_ROWS: dict[int, tuple[weakref.ref, Array, int]] = {}  # where an array was taken from, by its id


def rows(stack: Array) -> list[Array]:
    """The arrays of a stack [n, ...]; `stacked` of consecutive ones copies nothing."""
    found = []
    for i in range(len(stack)):
        row = stack[i]
        key = id(row)
        _ROWS[key] = (weakref.ref(row, lambda _, key=key: _ROWS.pop(key, None)), stack, i)
        found.append(row)
    return found


def _origin(array: Any) -> tuple[Array | None, int]:
    """The stack that an array is a row of, and which; None of others."""
    known = _ROWS.get(id(array))
    return known[1:] if known is not None and known[0]() is array else (None, 0)


def stack_id(array: Any) -> int:
    """Id of the stack that an array is a row of; 0 for other arrays."""
    stack, _ = _origin(array)
    return 0 if stack is None else id(stack)


def stack_or_array_id(array: Any) -> int:
    """Id of the stack that an array is a row of; that of any other array itself."""
    return stack_id(array) or id(array)


def stacked(arrays: Sequence[Any]) -> Array:
    """`jnp.stack(arrays)`; consecutive `rows` of one stack are a slice of it, copying little.

    Example:
        >>> x = jnp.arange(6.0).reshape(3, 2)
        >>> stacked(rows(x)) is x
        True
    """
    parts: list[Array] = []
    order: list[int] = []
    for places in alike(map(stack_id, arrays)):  # in the order of `arrays` where each is together
        stack, _ = _origin(arrays[places[0]])
        some = [arrays[i] for i in places]
        parts.append(jnp.stack(some) if stack is None else _taken(stack, some))
        order += places
    together = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    return together if order == sorted(order) else together[np.argsort(order)]


def _taken(stack: Array, some: Sequence[Array]) -> Array:
    """Rows of a stack as one array."""
    index = np.array([_origin(row)[1] for row in some])
    if np.array_equal(index, np.arange(len(stack))):
        return stack
    first, step = index[0], 1 if len(index) == 1 else index[1] - index[0]
    if step > 0 and np.array_equal(index, first + step * np.arange(len(index))):
        return stack[first : index[-1] + 1 : step]
    return stack[index]


def joined(pairs: Sequence[tuple[Array, Array]]) -> list[Array]:
    """`jnp.concatenate` of each pair; where both are rows of stacks, those of one longer stack.

    Example:
        >>> stacks = rows(jnp.zeros((2, 3))), rows(jnp.ones((2, 1)))
        >>> [x.tolist() for x in joined(list(zip(*stacks)))]
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    """

    def together(group: list[int]) -> list[Array]:
        stacks = [stacked(arrays) for arrays in zip(*(pairs[i] for i in group), strict=True)]
        return rows(jnp.concatenate(stacks, axis=1))

    return in_groups(together, [(stack_or_array_id(a), stack_or_array_id(b)) for a, b in pairs])


def as_rows(arrays: Sequence[Any]) -> list[Any]:
    """Makes arrays of one shape the rows of one stack.

    A short `jnp.stack` is slow to compile on a CPU, 0.1 to 1.4 seconds, and a long one is not.

    Example:
        >>> [x.shape for x in as_rows([jnp.ones(3), jnp.ones(2), jnp.ones(2)])]
        [(3,), (2,), (2,)]
    """
    found = dict(enumerate(arrays))
    own = [i for i, array in found.items() if not stack_id(array)]
    for group in alike((found[i].shape, found[i].dtype) for i in own):
        places = [own[j] for j in group]
        if len(places) > 1:
            found |= zip(places, rows(jnp.stack([found[i] for i in places])), strict=True)
    return list(found.values())


def alike(keys: Iterable[Hashable], arrays: Sequence[Any] = ()) -> list[list[int]]:
    """Places of equal keys, in the order in which they are met.

    Args:
        keys: one for each place.
        arrays: one for each place: rows of one stack are put together.

    Example:
        >>> alike("aba")
        [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    if not arrays:
        return list(groups.values())
    return [
        [group[j] for part in alike(stack_id(arrays[i]) for i in group) for j in part]
        for group in groups.values()
    ]


def in_groups(function: Callable[[list[int]], Sequence[Any]], keys: Iterable[Hashable]) -> list:
    """What a function gives for the places of equal keys, which it takes together, in their order.

    Example:
        >>> in_groups(lambda places: [len(places)] * len(places), "aba")
        [2, 1, 2]
    """
    found: dict[int, Any] = {}
    for group in alike(keys):
        found |= zip(group, function(group), strict=True)
    return [found[i] for i in range(len(found))]


def shaped(atom: core.Var | core.Literal) -> ShapedArray:
    """Shape and type of a value in a traced program, all of whose values are arrays."""
    return cast(ShapedArray, atom.aval)


REMATS = ("checkpoint", "remat", "remat2")
CUSTOM_VJP = ("custom_vjp_call", "custom_vjp_call_jaxpr")
CUSTOM = ("custom_jvp_call", *CUSTOM_VJP)
JITS = ("jit", "pjit")
CALLS = (*JITS, "closed_call", "core_call", *REMATS, *CUSTOM)  # equations that run one program


def bodies(eqn: core.JaxprEqn) -> list[core.ClosedJaxpr]:
    """Programs that an equation runs, of a call the one that it calls.

    Example:
        >>> program = jax.make_jaxpr(jax.jit(lambda x: 2 * x))(1.0)
        >>> [len(body.jaxpr.eqns) for eqn in program.jaxpr.eqns for body in bodies(eqn)]
        [1]
    """
    found = []
    for value in eqn.params.values():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                found.append(item)
            elif isinstance(item, core.Jaxpr):
                found.append(core.ClosedJaxpr(item, ()))
    return found


def needed(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
    """Equations that the outputs of a program depend on, in order.

    Example:
        >>> program = jax.make_jaxpr(lambda x: (jnp.sin(x), jnp.cos(x))[0])(1.0)
        >>> [eqn.primitive.name for eqn in needed(program.jaxpr)]
        ['sin']
    """
    wanted = set(vars_of(jaxpr.outvars))
    found = []
    for eqn in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(eqn.outvars):
            found.append(eqn)
            wanted.update(vars_of(eqn.invars))
    return found[::-1]


def vars_of(atoms: Iterable[core.Var | core.Literal]) -> list[core.Var]:
    """Leaves out the literals among a program's atoms."""
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def evaluate(
    program: core.ClosedJaxpr,
    args: Iterable[Any],
    step: Callable[[core.JaxprEqn, list], Sequence[Any]] = bind,
    constant: Callable[[Any], Any] = lambda value: value,
) -> list:
    """Outputs of a traced program, run equation by equation on values of any kind.

    Args:
        program: the program.
        args: a value for each of its inputs.
        step: gives the outputs of an equation for its operands.
        constant: makes a value of a literal, or of another constant of the program.

    Example:
        >>> program = jax.make_jaxpr(lambda x: 2 * jnp.sin(x))(1.0)
        >>> depth = lambda eqn, operands: [1 + max(operands)]
        >>> evaluate(program, [0], depth, lambda value: 0)  # how many equations are in a row
        [2]
    """
    jaxpr = program.jaxpr
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, map(constant, program.consts), strict=True))
    env |= zip(jaxpr.invars, args, strict=True)

    def read(atom: core.Var | core.Literal) -> Any:
        return constant(atom.val) if isinstance(atom, core.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, step(eqn, [read(atom) for atom in eqn.invars]), strict=True))
    return [read(atom) for atom in jaxpr.outvars]
