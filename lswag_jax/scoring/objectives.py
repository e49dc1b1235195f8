"""Several objectives: what networks are searched by where no single number decides."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from lswag_jax.options import typed
from lswag_jax.proxies import named
from lswag_jax.scoring.nsga2 import crowded_fitness, front_numbers
from lswag_jax.scoring.table import ScoreTable

MINIMISED = ("params", "macs", "latency", "memory")  # unless a sign says otherwise


def direction(text: str) -> tuple[str, bool]:
    """The name in an objective, and whether it is minimised.

    A sign says it: `-NAME` is minimised and `+NAME` is maximised. Without one `params`, `macs`,
    `latency` and `memory` are minimised, and all others maximised.

    Example:
        >>> direction("lswag"), direction("macs"), direction("+macs"), direction("-zen")
        (('lswag', False), ('macs', True), ('macs', False), ('zen', True))
    """
    name = _without_sign(text)
    return name, text.startswith("-") if name != text else name in MINIMISED


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Two or more proxies or costs, each with its direction, in the place of a `Fitness`.

    Called with a table it returns NSGA-II's crowded comparison as one number, so that whatever
    selects by a fitness selects by it.

    Args:
        names: of proxies, costs among them; a sign says the direction, see `direction`.

    Raises:
        ValueError: fewer than two, one twice, or an empty name.

    Example:
        >>> rows = [{"id": str(n), "genotype": {}, "params": n, "macs": n, "seconds": 0.0,
        ...          "degenerate": [False], "parts": {"swap": {"score": [score]}}}
        ...         for n, score in ((3, 5.0), (7, 9.0), (8, 8.0))]
        >>> from lswag_jax.proxies import resolve
        >>> table = ScoreTable(rows, resolve(("swap", "macs")))
        >>> Objectives(("swap", "macs")).front(table)
        array([1, 0])
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        shown = ",".join(self.names)
        if len(self.names) < 2:
            raise ValueError(
                f"objectives must be two or more, got {shown!r}: for one give a fitness."
            )
        if len(set(self.proxies)) < len(self.names) or not all(self.proxies):
            raise ValueError(f"objectives must be names, none twice, got {shown!r}.")

    @property
    def proxies(self) -> tuple[str, ...]:
        """Names of the proxies, without signs."""
        return tuple(direction(text)[0] for text in self.names)

    @property
    def name(self) -> str:
        """The objectives in one word, for titles."""
        return ",".join(self.names)

    def values(self, table: ScoreTable) -> np.ndarray:
        """Values [P, K] of a table's networks, larger is better; -inf marks a failure."""
        columns = []
        for name, minimised in map(direction, self.names):
            values = table.values(name)
            # A failure is the worst in either direction.
            columns.append(np.where(np.isneginf(values), values, -values if minimised else values))
        return np.stack(columns, axis=1)

    def __call__(self, table: ScoreTable) -> np.ndarray:
        """Fitness [P] of the architectures of a table, which is the pool; larger is better."""
        return crowded_fitness(self.values(table))

    def front(self, table: ScoreTable) -> np.ndarray:
        """Indices of the networks that no other one dominates, best of the first objective first.

        One that failed in any objective is not among them; of equals the earlier is first.
        """
        values = self.values(table)
        found = np.flatnonzero(front_numbers(values) == 1)
        return found[np.lexsort((found, *-values[found].T[::-1]))]

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which `from_json` makes it again."""
        return {"objectives": list(self.names)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Objectives from plain values."""
        return cls(tuple(content["objectives"]))

    @classmethod
    @typed
    def parse(cls, spec: str | Sequence[str]) -> Self:
        """Objectives from a config's entry.

        Args:
            spec: names with their signs, in a sequence or with commas between them; `module:NAME`
                imports a proxy of your own.

        Example:
            >>> Objectives.parse("lswag, macs").names
            ('lswag', 'macs')
        """
        if isinstance(spec, str):
            spec = [text.strip() for text in spec.split(",") if text.strip()]
        return cls(tuple(_named(text) for text in spec))


def _without_sign(text: str) -> str:
    return text[1:] if text[:1] in ("+", "-") else text


def _named(text: str) -> str:
    """An objective whose proxy, if it is a user's own, is imported."""
    name = _without_sign(text)
    return text[: len(text) - len(name)] + named(name)
