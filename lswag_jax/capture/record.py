"""A traced network with a plan of what to record, ready to be run with perturbations."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from lswag_jax.arrays import as_rows, bind, rows, shaped, vars_of, widened
from lswag_jax.capture import activations, loops, products
from lswag_jax.capture.batch_norm import BatchStatistics
from lswag_jax.capture.calls import Activation, Call
from lswag_jax.capture.lookups import Lookups
from lswag_jax.capture.loops import Loop
from lswag_jax.capture.network import Network, leaves
from lswag_jax.capture.program import MARK, Flat, flatten, name_of
from lswag_jax.capture.rows import Place, Rows
from lswag_jax.capture.sample_calls import call_of_samples, of_samples
from lswag_jax.capture.uses import Use

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Mark:
    """A call of a module that the adapter told of: its normalisations and the end."""

    eqn: int
    atoms: Sequence  # of the equation
    name: str
    kind: str
    apply: Callable | None
    structure: Any  # of the parameters, inputs and further arrays that were captured
    shapes: Any  # of those and of the output
    is_batch_norm: bool = False

    def recorded(self, read: Callable, params: dict, before: int, batch: int) -> Call:
        """The call, as `Use.recorded` gives it."""
        del params
        *captured, output = map(read, self.atoms)
        own, inputs, extra = jax.tree.unflatten(self.structure, captured)
        apply = self.apply
        if apply is not None:  # of a normalisation
            now = (own, inputs, extra, output)
            apply, inputs = call_of_samples(self.name, apply, self.shapes, now, batch)
        size = output.size // batch
        return Call(self.name, self.kind, apply, own, inputs, extra, size, before)

    def cotangent(self, cotangent: Array, batch: int) -> Array:
        """Cotangents of the output, those of a sample together."""
        return of_samples(cotangent, batch)


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced network.

    Attributes:
        flat: what it computes.
        names: of its parameters.
        calls: weights' uses and marks, in order of execution.
        activations: equations whose outputs are activations', with the samples in them.
        batch: number of samples.
        network: what was traced.
        loops: stretches that repeat.
        partly: weights whose gradients leave something out, and where (`products.find`).
    """

    flat: Flat
    names: tuple[str, ...]
    calls: tuple[Use | Mark, ...]
    activations: dict[int, Rows]
    batch: int
    network: Network
    loops: tuple[Loop, ...] = ()
    partly: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def trace(cls, network: Network, images: Any, is_scored: bool = True) -> "Program":
        """Traces a network on images or what else it takes; records nothing if not scored."""
        flat, names, applies = traced(network, images, ("norm", "end"))
        batch = jax.tree.leaves(images)[0].shape[0]
        if not is_scored:
            return cls(flat, names, (), {}, batch, network)
        calls, posts, partly = _plan(flat, names, applies, batch)
        loops_of = _loops(flat, calls, posts)
        return cls(flat, names, calls, posts, batch, network, loops_of, partly)

    @functools.cached_property
    def layers(self) -> dict[str, int]:
        """Equation of the first use of each weight layer, by its name, in order."""
        found: dict[str, int] = {}
        for call in self.calls:
            if call.kind == "weight":
                found.setdefault(call.name, call.eqn)
        return found

    def before(self, eqn: int) -> int:
        """How many weight layers ran before an equation."""
        return bisect.bisect_left(list(self.layers.values()), eqn)

    def _is_wanted(self, call: Use | Mark, first_layer: int) -> bool:
        """Whether a call has a cotangent: as a weight layer from `first_layer` on, or a norm."""
        if call.kind == "weight":
            return list(self.layers).index(call.name) >= first_layer
        return call.kind == "norm" and self.before(call.eqn) >= first_layer

    def zeros(self, first_layer: int) -> dict[int, Array]:
        """Zero perturbations for the outputs of layers from weight layer `first_layer` on.

        Keyed by equation. For a loop, the key is the equation of the first turn with a wanted
        output, and the array [turns, ...] covers that turn and all later ones.
        """
        eqns = {call.eqn for call in self.calls if self._is_wanted(call, first_layer)}
        turns: dict[int, tuple[int, ...]] = {}
        for loop in self.loops:
            inside = [i for i in eqns if loop.start <= i < loop.stop]
            first = min((loop.at(i)[0] for i in inside), default=0)
            eqns -= set(inside)
            numbers = {loop.at(i)[1] for i in inside}
            turns |= {loop.index(first, number): (loop.turns - first,) for number in numbers}
        turns |= dict.fromkeys(eqns, ())
        shapes = {i: shaped(self.flat.jaxpr.eqns[i].outvars[0]) for i in sorted(turns)}
        return {i: jnp.zeros(turns[i] + aval.shape, aval.dtype) for i, aval in shapes.items()}

    def run(
        self, perturbations: dict[int, Array], images: Any
    ) -> tuple[Array, list[Call], list[Activation]]:
        """The output, and what was recorded on the way; no gradient passes through the latter."""
        params, _, _ = leaves(self.network.variables)
        if self.loops:
            params = dict(zip(params, as_rows(list(params.values())), strict=True))
        jaxpr, env = self.flat.jaxpr, start(self.flat, self.network, images)
        env |= dict(zip(jaxpr.invars, params.values(), strict=False))  # they come first
        kept: dict = {}  # what is recorded of loops

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else env[atom]

        def recorded(atom: Any) -> Any:
            if isinstance(atom, core.Literal):
                return atom.val
            if atom in kept:
                return kept[atom]
            is_of_samples = self.flat.kind(atom) == "images"
            return jax.lax.stop_gradient(env[atom]) if is_of_samples else env[atom]

        inside = {i: loop for loop in self.loops for i in range(loop.start, loop.stop)}
        for i, eqn in enumerate(jaxpr.eqns):
            loop = inside.get(i)
            if loop is None:
                outputs = _step(eqn, [read(atom) for atom in eqn.invars])
                if i in perturbations:
                    outputs[0] = outputs[0] + perturbations[i]
                env.update(zip(eqn.outvars, outputs, strict=True))
            elif i == loop.start:  # all of its turns
                self._run_loop(loop, perturbations, read, env, kept)
        calls = [
            call.recorded(recorded, params, self.before(call.eqn), self.batch)
            for call in self.calls
        ]
        posts = [
            Activation(
                widened(of.first(recorded(jaxpr.eqns[i].outvars[0]), self.batch)),
                self.before(i + 1),
            )
            for i, of in self.activations.items()
        ]
        return read(jaxpr.outvars[0]), calls, posts

    def _run_loop(
        self, loop: Loop, perturbations: dict[int, Array], read: Callable, env: dict, kept: dict
    ) -> None:
        """Runs a loop, its turns without perturbations apart, and puts down what it gives."""
        own = {i: delta for i, delta in perturbations.items() if loop.start <= i < loop.stop}
        first = loop.at(min(own))[0] if own else loop.turns
        deltas = {loop.at(i)[1]: delta for i, delta in own.items()}
        carry = loop.begin(read)
        for span, some in (((0, first), {}), ((first, loop.turns), deltas)):
            if span[0] < span[1]:
                carry, recorded, passed = loop.run(carry, span, read, _step, some)
                kept.update(loop.of_turns(recorded, span[0]))
                env.update(loop.of_turns(passed, span[0]))
        env.update(loop.at_end(carry))

    def with_cotangents(
        self, calls: Sequence[Call], found: dict[int, Array], first_layer: int
    ) -> list[Call]:
        """Calls with the cotangents of their outputs, a sample's together as its inputs.

        Args:
            calls: of `run`.
            found: cotangents of the perturbations.
            first_layer: as in `zeros`.
        """
        found = found | self._cotangents_of_loops(found)
        return [
            dataclasses.replace(call, cotangent=own.cotangent(found[own.eqn], self.batch))
            if self._is_wanted(own, first_layer)
            else call
            for own, call in zip(self.calls, calls, strict=True)
        ]

    def _cotangents_of_loops(self, found: dict[int, Array]) -> dict[int, Array]:
        """Cotangents of each turn by its equation, from those of all turns; see `zeros`."""
        return {
            loop.index(first + turn, number): cotangent
            for loop in self.loops
            for i, cotangents in found.items()
            if loop.start <= i < loop.stop
            for first, number in [loop.at(i)]
            for turn, cotangent in enumerate(rows(cotangents))
        }


def _step(eqn: core.JaxprEqn, values: Sequence[Any]) -> list:
    """An equation's outputs; a mark gives its last operand."""
    return [values[-1]] if name_of(eqn).startswith(MARK) else bind(eqn, values)


def traced(
    network: Network, images: Any, kinds: Sequence[str], for_marks: bool = False
) -> tuple[Flat, tuple[str, ...], list[tuple]]:
    """What a network computes, with marks for the calls of these kinds that its hook is told of.

    Weights and activations need it equation by equation; `for_marks` alone is cheaper to compile.

    Returns:
        The flat program, the names of its parameters, and for the number in a mark's name what
        makes a `Mark` of it.
    """
    applies: list[tuple] = []

    def hook(name, kind, apply, params, inputs, extra, output):
        if kind not in kinds:
            return output
        captured = (params, inputs, extra)
        shapes = jax.tree.map(jnp.shape, (*captured, output))
        is_batch_norm = isinstance(extra, BatchStatistics)
        structure = jax.tree.structure(captured)
        applies.append((name, kind, apply, structure, shapes, is_batch_norm))
        return _marked(len(applies) - 1)(captured, output)

    params, others, join = leaves(network.variables)
    names = tuple(params)

    def forward(params: Sequence, others: list, inputs: tuple) -> Array:
        applies.clear()
        variables = join(dict(zip(names, params, strict=True)), others)
        return network.run(variables, inputs, hook)

    inputs = network.inputs(images)
    args = list(params.values()), others, inputs
    flat = flatten(forward, *args, dead=network.dead, for_marks=for_marks)
    return flat, names, applies


def start(flat: Flat, network: Network, images: Any) -> dict[Any, Any]:
    """The values that a flat program of `traced` starts from, by variable."""
    params, others, _ = leaves(network.variables)
    args = [*params.values(), *jax.tree.leaves(others), *jax.tree.leaves(network.inputs(images))]
    env = dict(zip(flat.jaxpr.constvars, flat.consts, strict=True))
    return env | dict(zip(flat.jaxpr.invars, args, strict=True))


def mark_of(index: int, eqn: core.JaxprEqn, applies: Sequence[tuple]) -> Mark | None:
    """The mark that an equation of a flat program is, or None."""
    if not name_of(eqn).startswith(MARK):
        return None
    return Mark(index, eqn.invars, *applies[int(name_of(eqn).rpartition("_")[2])])


def _marked(index: int) -> Callable:
    """An identity on `output` that keeps `captured` visible in the traced program."""

    def mark(captured, output):
        del captured
        return output

    mark.__name__ = f"{MARK}_{index}"
    return jax.jit(mark)


def _plan(
    flat: Flat, names: Sequence[str], applies: Sequence[tuple], batch: int
) -> tuple[tuple, dict, dict]:
    """Calls, activations and what is left out of a program, up to the end of what is scored."""
    found = places_of(flat, batch)
    calls: list = []
    end = len(flat.jaxpr.eqns)
    steps: dict[str, list] = {}  # parameters of a mark, of each step of a scan its own
    for i, eqn in enumerate(flat.jaxpr.eqns):
        mark = mark_of(i, eqn, applies)
        if mark is not None:
            own = [v for v in eqn.invars if flat.kind(v) == "params"]
            known = steps.setdefault(name_of(eqn), [])
            if own not in known:
                known.append(own)
            if own != known[0]:
                mark = dataclasses.replace(mark, name=f"{mark.name}[{known.index(own)}]")
            end = i if mark.kind == "end" else end
            calls.append(mark)
    uses, partly = products.find(flat, found, names, batch, end)
    calls += uses
    calls.sort(key=lambda call: call.eqn)
    posts = {
        i: _rows_of(flat.jaxpr.eqns[i], found, batch)
        for i in activations.find(flat.jaxpr, flat.consts, flat.kind)
        if i < end
    }
    return tuple(calls), posts, partly


def _loops(flat: Flat, calls: Sequence, posts: Mapping[int, Rows]) -> tuple[Loop, ...]:
    """Loops of a program that hold layers, and what each gives back."""
    eqns = flat.jaxpr.eqns
    marks = [call for call in calls if isinstance(call, Mark)]
    keys = {mark.eqn: _key(mark) for mark in marks}
    uses = [call for call in calls if not isinstance(call, Mark)]
    wanted = [v for use in uses for v in (use.inputs, *itertools.chain(*use.extra))]
    wanted += [v for mark in marks for v in mark.atoms]
    wanted += [eqns[i].outvars[0] for i in posts]

    def read_outside(loop: Loop) -> list:
        others = [*eqns[: loop.start], *eqns[loop.stop :]]
        return vars_of([*flat.jaxpr.outvars, *(atom for eqn in others for atom in eqn.invars)])

    found = loops.find(eqns, [use.eqn for use in uses], keys)
    return tuple(loop.giving(vars_of(wanted), read_outside(loop)) for loop in found)


def _key(mark: Mark) -> tuple:
    """What two marks of a program have in common that can be turns of a loop."""
    shapes = tuple(str(v.aval) for v in mark.atoms)
    return mark.kind, mark.structure, str(mark.shapes), mark.is_batch_norm, shapes


def _rows_of(eqn: core.JaxprEqn, found: dict, batch: int) -> Rows:
    (var,) = eqn.outvars
    if found.get(var) is None:
        raise ValueError(
            f"the output of an activation function has the shape {shaped(var).shape}, in which no "
            "axis is that of the samples: the network mixes the samples of a batch."
        )
    return Rows.of(shaped(var).shape, found[var], batch)


def places_of(flat: Flat, batch: int) -> dict[Any, Place | None]:
    """Where the samples are in each variable that depends on the images.

    None for a variable that has no axis of samples, though it may depend on them.
    """
    found: dict[Any, Place | None] = {
        v: Place(0) for v in flat.jaxpr.invars if flat.kind(v) == "images" and shaped(v).ndim
    }
    lookups = Lookups(flat)
    for eqn in flat.jaxpr.eqns:
        known = [None if isinstance(v, core.Literal) else found.get(v) for v in eqn.invars]
        if name_of(eqn).startswith(MARK):  # an identity on its last operand
            found[eqn.outvars[0]] = known[-1]
        else:
            found.update(zip(eqn.outvars, lookups.places(eqn, known, batch), strict=True))
    return found
