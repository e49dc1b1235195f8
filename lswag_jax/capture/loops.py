"""Loops of a flat program: stretches of equations that repeat, as the blocks of a network do.

A turn is a stretch whose equations are those of the stretch before it and read from the same
places: from the turn itself, from a turn before, or from outside. Turns run as one `lax.scan`, so
that a network of many like blocks compiles as one of them, however it is written.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from lswag_jax.arrays import CUSTOM, bind, rows, shaped, stacked

Array = jax.Array
Place = tuple[int, int]  # of a value in a turn: its equation, and which of the outputs
_FEWEST = 40  # equations of a turn that are worth a loop
_FURTHEST = 2  # turns back that a turn may read


@dataclasses.dataclass(frozen=True)
class Inner:
    """An operand made inside the loop: in the same turn, or `len(firsts)` turns earlier.

    `firsts` are its values before the first turn.
    """

    place: Place
    firsts: tuple = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    """An operand from outside: one for all turns, or one for each."""

    atoms: tuple

    @property
    def varies(self) -> bool:
        """Whether each turn has its own."""
        return len(self.atoms) > 1


Operand = Inner | Outer


@dataclasses.dataclass(frozen=True)
class Loop:
    """A stretch of a program that repeats.

    Attributes:
        start: index of its first equation.
        eqns: of all turns.
        turns: how many there are.
        operands: of each equation of a turn.
        recorded: values of each turn that are given back without a gradient.
        passed: values of each turn that the rest of the program reads.
    """

    start: int
    eqns: tuple[core.JaxprEqn, ...]
    turns: int
    operands: tuple[tuple[Operand, ...], ...]
    recorded: tuple[Place, ...] = ()
    passed: tuple[Place, ...] = ()

    @property
    def size(self) -> int:
        """Equations of a turn."""
        return len(self.operands)

    @property
    def stop(self) -> int:
        """Index of the first equation behind it."""
        return self.start + len(self.eqns)

    def at(self, index: int) -> tuple[int, int]:
        """Turn of an equation of the program, and its number there."""
        return divmod(index - self.start, self.size)

    def index(self, turn: int, number: int) -> int:
        """Index in the program of an equation of a turn."""
        return self.start + turn * self.size + number

    @functools.cached_property
    def made(self) -> dict[Any, tuple[int, Place]]:
        """Turn and place of each variable that it gives."""
        return {
            var: (i // self.size, (i % self.size, number))
            for i, eqn in enumerate(self.eqns)
            for number, var in enumerate(eqn.outvars)
        }

    @functools.cached_property
    def registers(self) -> tuple[Inner, ...]:
        """What later turns read."""
        found = (o for row in self.operands for o in row if isinstance(o, Inner) and o.firsts)
        return tuple(dict.fromkeys(found))

    @functools.cached_property
    def scanned(self) -> tuple[Outer, ...]:
        """What comes from outside to each turn by itself."""
        found = (o for row in self.operands for o in row if isinstance(o, Outer) and o.varies)
        return tuple(dict.fromkeys(found))

    def begin(self, read: Callable[[Any], Array]) -> list:
        """The carry before the first turn: of each register the values of the turns before.

        Args:
            read: gives the value of a variable or literal of the program.
        """
        return [tuple(map(read, reversed(register.firsts))) for register in self.registers]

    def giving(self, recorded: Iterable, read: Iterable) -> "Loop":
        """The loop that gives back what is recorded of it, and read by the rest of the program.

        Args:
            recorded, read: variables, not all of which are its own.
        """
        at_end = {(self.turns - 1, register.place) for register in self.registers}
        passed = {self.made[v] for v in read if v in self.made} - at_end
        kept = {self.made[v][1] for v in recorded if v in self.made}
        places = tuple(sorted(kept)), tuple(sorted({place for _, place in passed}))
        return dataclasses.replace(self, recorded=places[0], passed=places[1])

    def at_end(self, carry: list) -> dict[Any, Array]:
        """Variables of the last turn that the carry behind it holds."""
        turn = self.eqns[-self.size :]
        pairs = zip(self.registers, carry, strict=True)
        return {turn[r.place[0]].outvars[r.place[1]]: values[0] for r, values in pairs}

    def of_turns(self, values: Mapping[Place, Array], first: int) -> dict[Any, Array]:
        """Values [turns, ...] from turn `first` on by their variables."""
        return {
            self.eqns[(first + i) * self.size + number].outvars[output]: row
            for (number, output), value in values.items()
            for i, row in enumerate(rows(value))
        }

    def run(
        self,
        carry: list,
        span: tuple[int, int],
        read: Callable[[Any], Array],
        step: Callable[[core.JaxprEqn, list], list],
        perturbations: Mapping[int, Array],
    ) -> tuple[list, dict[Place, Array], dict[Place, Array]]:
        """Runs turns one after the other.

        Args:
            carry: before the first of them.
            span: the first turn, and the one behind the last.
            read: as in `begin`.
            step: gives an equation's outputs of its operands.
            perturbations: by number of an equation, what is added to its first output [turns, ...].

        Returns:
            The carry behind them; recorded and passed values [turns, ...] by their places.
        """
        first, stop = span
        xs = [stacked([read(atom) for atom in o.atoms[first:stop]]) for o in self.scanned]

        def turn(carry: list, now: tuple) -> tuple[list, tuple]:
            slices, deltas = now
            before: dict[Inner, tuple] = dict(zip(self.registers, carry, strict=True))
            outer = dict(zip(self.scanned, slices, strict=True))
            values: dict[Place, Array] = {}

            def operand(o: Operand) -> Array:
                if isinstance(o, Outer):
                    return outer[o] if o.varies else read(o.atoms[0])
                # Of the turns before, that which lies furthest back.
                return before[o][-1] if o.firsts else values[o.place]

            for number, operands in enumerate(self.operands):
                outputs = step(self.eqns[number], [operand(o) for o in operands])
                if number in deltas:
                    outputs[0] = outputs[0] + deltas[number]
                values.update({(number, i): value for i, value in enumerate(outputs)})
            carry = [(values[register.place], *old[:-1]) for register, old in before.items()]
            kept = {place: lax.stop_gradient(values[place]) for place in self.recorded}
            return carry, (kept, {place: values[place] for place in self.passed})

        carry, (kept, given) = lax.scan(turn, carry, (xs, dict(perturbations)), stop - first)
        return carry, kept, given


def find(
    eqns: Sequence[core.JaxprEqn], worth: Sequence[int], keys: Mapping[int, Any]
) -> list[Loop]:
    """Loops that do not overlap, in order; those that save most equations are taken first.

    Args:
        eqns: of the program.
        worth: indices of equations of which a turn must have one.
        keys: of equations that are compared by something else than what they are.
    """
    numbers: dict = {}
    key_of = Keys()
    own = [keys[i] if i in keys else key_of.equation(e) for i, e in enumerate(eqns)]
    code = np.array([numbers.setdefault(key, len(numbers)) for key in own], int)
    found: list[Loop] = []
    for start, stop, size in _repeats(code):
        for first, last in _free(start, stop, found):
            turns = (last - first) // size
            if turns > 1 and any(first <= i < first + size for i in worth):
                loop = _wired(eqns, first, size, turns)
                found += [] if loop is None else [loop]
    return sorted(found, key=lambda loop: loop.start)


def _repeats(code: np.ndarray) -> list[tuple[int, int, int]]:
    """Start, end and period of every stretch that repeats; those that save most come first."""
    found = []
    for size in range(_FEWEST, len(code) // 2 + 1):
        is_same = np.concatenate([[False], code[:-size] == code[size:], [False]])
        edges = np.flatnonzero(np.diff(is_same.astype(int))).reshape(-1, 2)
        found += [(a, b + size, size) for a, b in edges.tolist() if b - a >= size]
    # Equations that the loop saves: those of all turns but one.
    return sorted(
        found, key=lambda one: (-((one[1] - one[0]) // one[2] - 1) * one[2], one[2], one[0])
    )


def _free(start: int, stop: int, loops: Sequence[Loop]) -> list[tuple[int, int]]:
    """What is left of a stretch between loops."""
    found = []
    for loop in sorted(loops, key=lambda loop: loop.start):
        if start < min(loop.start, stop):
            found.append((start, min(loop.start, stop)))
        start = max(start, loop.stop)
    return found + ([(start, stop)] if start < stop else [])


def _wired(eqns: Sequence[core.JaxprEqn], start: int, size: int, turns: int) -> Loop | None:
    """The longest loop from `start` whose turns read from the same places; None below two turns."""
    stretch = eqns[start : start + size * turns]
    made = {v: (i, n) for i, eqn in enumerate(stretch) for n, v in enumerate(eqn.outvars)}

    def source(atom: Any, turn: int) -> tuple[int, Place] | None:
        """How many turns ago, and where, an operand was made; None outside."""
        if isinstance(atom, core.Literal) or atom not in made:
            return None
        index, number = made[atom]
        return turn - index // size, (index % size, number)

    slots = [(e, o) for e in range(size) for o in range(len(stretch[e].invars))]
    atoms = {s: [stretch[t * size + s[0]].invars[s[1]] for t in range(turns)] for s in slots}
    sources = {s: [source(atom, t) for t, atom in enumerate(atoms[s])] for s in slots}
    turns = min((_consistent(sources[s]) for s in slots), default=turns)
    if turns < 2:
        return None

    def operand(slot: tuple[int, int]) -> Operand:
        kept = sources[slot][:turns]
        last = kept[-1]
        if last is None:
            own = tuple(atoms[slot][:turns])
            return Outer(own[:1] if all(_same(atom, own[0]) for atom in own) else own)
        ago, place = last
        return Inner(place, tuple(atoms[slot][:ago]))

    operands = tuple(
        tuple(operand((e, o)) for o in range(len(stretch[e].invars))) for e in range(size)
    )
    return Loop(start, tuple(stretch[: size * turns]), turns, operands)


def _same(a: Any, b: Any) -> bool:
    """Whether two atoms are one; literals of equal equations are equal."""
    return a is b or isinstance(a, core.Literal)


def _consistent(sources: Sequence[tuple[int, Place] | None]) -> int:
    """How many turns read an operand from one place, counted from the first."""
    inside = next((t for t, found in enumerate(sources) if found is not None), len(sources))
    if inside == len(sources):
        return inside
    if sources[inside][0] != inside or inside > _FURTHEST:  # pyright: ignore[reportOptionalSubscript]
        return inside
    differs = (t for t in range(inside, len(sources)) if sources[t] != sources[inside])
    return next(differs, len(sources))


class Keys:
    """Keys of equations: equal ones compute the same, and have the same gradients."""

    def __init__(self) -> None:
        self._programs: dict[tuple[int, bool], int] = {}
        self._numbers: dict[Any, int] = {}
        self._kept: list = []  # so that no identity is given twice

    def equation(self, eqn: core.JaxprEqn, numbers: Mapping | None = None, plain: bool = False):
        """The key of an equation.

        Args:
            eqn: the equation.
            numbers: of the variables of the program that it is part of; None compares no variables.
            plain: whether custom gradients are left out.
        """
        operands = tuple(
            (str(atom.aval), repr(atom.val))
            if isinstance(atom, core.Literal)
            else (str(atom.aval), None if numbers is None else numbers[atom])
            for atom in eqn.invars
        )
        outputs = tuple(str(v.aval) for v in eqn.outvars)
        if eqn.primitive.name not in CUSTOM:
            pairs = sorted(eqn.params.items())
            own: Any = tuple((name, self._value(value, plain)) for name, value in pairs)
        elif plain:
            own = self._program(eqn.params.get("call_jaxpr") or eqn.params["fun_jaxpr"], plain)
        else:
            with_gradient = _with_gradient(eqn)
            # A rule that cannot be traced is like no other one.
            own = id(eqn) if with_gradient is None else self._program(with_gradient, plain=True)
        return eqn.primitive.name, own, operands, outputs

    def _value(self, value: Any, plain: bool) -> Any:
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            return self._program(value, plain)
        if isinstance(value, list | tuple):
            return tuple(self._value(one, plain) for one in value)
        try:
            hash(value)
        except TypeError:
            self._kept.append(value)
            return id(value)
        return value

    def _program(self, program: core.ClosedJaxpr | core.Jaxpr, plain: bool) -> int:
        """A number for programs that compute the same."""
        is_closed = isinstance(program, core.ClosedJaxpr)
        jaxpr = program.jaxpr if is_closed else program
        if (id(jaxpr), plain) not in self._programs:
            self._kept.append(jaxpr)
            numbers = {v: i for i, v in enumerate((*jaxpr.constvars, *jaxpr.invars))}
            rows = []
            for eqn in jaxpr.eqns:
                rows.append(self.equation(eqn, numbers, plain))
                numbers |= {v: len(numbers) + i for i, v in enumerate(eqn.outvars)}
            results = tuple(
                repr(v.val) if isinstance(v, core.Literal) else numbers[v] for v in jaxpr.outvars
            )
            inputs = tuple(str(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars))
            # Constants are not compared: a program that has some equals itself alone.
            consts = id(jaxpr) if is_closed and program.consts else None
            key = (tuple(rows), results, inputs, consts)
            self._programs[id(jaxpr), plain] = self._numbers.setdefault(key, len(self._numbers))
        return self._programs[id(jaxpr), plain]


def _with_gradient(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """A program of an equation's outputs and of the gradients that its rule gives.

    None where the rule has none, or does not go through: a pass forward needs no rule.
    """

    def run(*values: Any) -> Any:
        outputs, pull = jax.vjp(lambda *args: bind(eqn, args), *values)
        return outputs, pull([jnp.ones_like(y) for y in outputs])

    try:
        return jax.make_jaxpr(run)(*(shaped(v) for v in eqn.invars))
    except Exception:  # whatever the user's rule raises
        return None
