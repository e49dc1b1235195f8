"""What networks are ranked by: one proxy, or several merged over a pool; and its file."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np

from lswag_jax.options import check, typed, typed_methods
from lswag_jax.proxies import named
from lswag_jax.proxies.merge import check_rule, merge
from lswag_jax.scoring.table import ScoreTable

# Merges by name: proxies and rule. `universal` is the simplest of those that were compared on
# spaces held out, where none chosen on the other spaces beat it (docs/which_proxy.md).
PRESETS: dict[str, tuple[tuple[str, ...], str]] = {"universal": (("macs", "nwot"), "log_rank_sum")}


@typed_methods
@dataclasses.dataclass(frozen=True)
class Fitness:
    """Proxies, the rule that merges them, and which of them count reversed.

    The scores of a single proxy are its fitness, without ranking.

    Args:
        proxies: names; one that is named twice counts twice.
        rule: see `lswag_jax.proxies.merge`.
        flipped: names of proxies of which smaller is better; failures still come last.

    Raises:
        ValueError: no proxy, an unknown rule, or a flipped proxy that is not among the others.

    Example:
        >>> rows = [{"id": str(n), "genotype": {}, "params": n, "macs": -n, "seconds": 0.0,
        ...          "degenerate": [False], "parts": {}} for n in (3, 7)]
        >>> from lswag_jax.proxies import resolve
        >>> table = ScoreTable(rows, resolve(("params", "macs")))
        >>> Fitness("params")(table), Fitness(("params", "macs"), "rank_sum")(table)
        (array([3., 7.]), array([3., 3.]))
    """

    proxies: tuple[str, ...]
    rule: str = "log_rank_sum"
    flipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        proxies = (self.proxies,) if isinstance(self.proxies, str) else self.proxies
        check(Fitness, {"proxies": proxies, "flipped": self.flipped}, "a fitness")
        proxies = tuple(proxies)
        object.__setattr__(self, "proxies", proxies)
        object.__setattr__(self, "flipped", tuple(self.flipped))
        if not proxies:
            raise ValueError("a fitness needs at least one proxy.")
        check_rule(self.rule)
        strange = [name for name in self.flipped if name not in proxies]
        if strange:
            raise ValueError(f"flipped proxy {strange[0]!r} is not among {', '.join(proxies)}.")

    @property
    def name(self) -> str:
        """The proxies in one word, for titles."""
        return "+".join("-" * (name in self.flipped) + name for name in self.proxies)

    @typed
    def __call__(self, table: ScoreTable) -> np.ndarray:
        """Fitness [P] of the architectures of a table, which is the pool; larger is better."""
        return self.merge({name: table.values(name) for name in self.proxies})

    def merge(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Fitness [P] of a pool.

        Args:
            values: of each proxy [P], larger is better unless flipped; -inf marks a failure.

        Raises:
            ValueError: as `lswag_jax.proxies.merge.merge`.
        """
        if missing := [name for name in self.proxies if name not in values]:
            raise ValueError(f"values of merge must have {missing[0]!r}, got {', '.join(values)}.")
        values_KxP = np.array([self._oriented(name, values[name]) for name in self.proxies])
        return values_KxP[0] if len(self.proxies) == 1 else merge(values_KxP, self.rule)

    def _oriented(self, name: str, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, np.float64)
        return np.where(np.isneginf(values), values, -values) if name in self.flipped else values

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which `from_json` makes it again."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """A fitness from plain values.

        Raises:
            ValueError: they are no fitness.
        """
        names = ("proxies", "rule", "flipped")
        if not isinstance(content, Mapping) or not {"proxies"} <= set(content) <= set(names):
            raise ValueError(f"a fitness must be an object with the keys {names}, got {content!r}.")
        for key in ("proxies", "flipped"):
            value = content.get(key, [])
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise ValueError(f"{key} of a fitness must be a list of names, got {value!r}.")
        return cls(**content)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """The fitness of a JSON file, such as `lswag-libra` writes.

        Args:
            path: of a file that holds an object with the key `fitness`.

        Raises:
            ValueError: no such file, no JSON, or no fitness in it.
        """
        try:
            content = json.loads(pathlib.Path(path).read_text())
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{path} is not a readable JSON file of a fitness: {why}.") from None
        if not isinstance(content, Mapping) or "fitness" not in content:
            raise ValueError(f"{path} must hold an object with the key 'fitness'.")
        try:
            return cls.from_json(content["fitness"])
        except ValueError as error:
            raise ValueError(f"{path} holds a bad fitness: {error}") from None

    @classmethod
    def parse(cls, spec: "str | Sequence[str] | Fitness", rule: str = "log_rank_sum") -> Self:
        """A fitness from a config's entry or a function's argument.

        Args:
            spec: a fitness; names of proxies (`proxies.named`), in a sequence or with commas
                between them; the name of one of `PRESETS`; or the path of a `.json` file that
                `load` reads. The last two bring their own rule.
            rule: that merges named proxies.

        Raises:
            ValueError: as `Fitness` and `load`, or a preset that is not named alone.

        Example:
            >>> Fitness.parse("synflow, jacov", "rank_sum")
            Fitness(proxies=('synflow', 'jacov'), rule='rank_sum', flipped=())
            >>> Fitness.parse("universal").proxies
            ('macs', 'nwot')
        """
        if isinstance(spec, Fitness):
            return cast(Self, spec)
        if isinstance(spec, str):
            if spec.endswith(".json"):
                return cls.load(spec)
            spec = [name.strip() for name in spec.split(",") if name.strip()]
        presets = [name for name in spec if name in PRESETS]
        if presets and len(spec) > 1:
            raise ValueError(
                f"the fitness {presets[0]!r} is a merge already, name it alone, got "
                f"{', '.join(spec)}."
            )
        if presets:
            return cls(*PRESETS[presets[0]])
        return cls(tuple(map(named, spec)), rule)
