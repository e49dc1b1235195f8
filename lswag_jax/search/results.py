"""The result of a search, and the files it is written to."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from lswag_jax.files import dump_row, write_atomically, write_csv, write_parquet
from lswag_jax.options import typed
from lswag_jax.scoring.objectives import Objectives
from lswag_jax.scoring.table import STATUSES, ScoreTable
from lswag_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Holds what a search evaluated.

    Args:
        table: every evaluated architecture, in order of evaluation; `table.timing` holds the
            seconds of this process, `compile` and `score`.
        fitness: of each [P], larger is better, ranked over all of them.
        by: the proxies that the fitness is made of.
        objectives: that the fitness compares by, where there are several.
    """

    table: ScoreTable
    fitness: np.ndarray
    by: tuple[str, ...] = ()
    objectives: Objectives | None = None

    @functools.cached_property
    def front(self) -> np.ndarray:
        """Indices of the networks that no other one dominates, best of the first objective first.

        Without objectives there are none.
        """
        return self.objectives.front(self.table) if self.objectives else np.zeros(0, int)

    @property
    def preference(self) -> np.ndarray:
        """What networks are listed by [P], larger is better.

        That is the fitness; of several objectives the front comes first, in its own order.
        """
        front, values = self.front, np.array(self.fitness)
        values[front] = np.arange(len(front), 0, -1)  # the fitness of all others is negative
        return values

    @property
    def order(self) -> np.ndarray:
        """Indices, best first; of equals the one evaluated first."""
        return np.argsort(-self.preference, kind="stable")

    @property
    def best(self) -> int:
        """Index of the best, of several objectives by the first of them on the front."""
        return int(self.order[0])

    @property
    def refusal(self) -> str:
        """Why no network is the best: none has a usable score; empty where one has."""
        return unusable(self.table, self.by, together=self.objectives is not None)


def unusable(table: ScoreTable, proxies: Sequence[str], together: bool = False) -> str:
    """What to say where every network failed by every one of some proxies; else empty.

    Args:
        table: of the networks.
        proxies: that they are ranked by; none says nothing.
        together: whether a network needs a score by all of them, as one of several objectives.
    """
    failed_KxP = [np.isin(table.statuses[name], STATUSES[2:]) for name in proxies]
    if not len(table) or not failed_KxP:
        return ""
    if not (np.any if together else np.all)(failed_KxP, axis=0).all():
        return ""
    counts = "; ".join(f"{name} {count_statuses(table, name)}" for name in proxies)
    errors = [row["error"].rstrip(".") for row in table.rows if "error" in row]
    why = f", the first error being: {errors[0]}" if errors else ""
    return f"none of the {len(table)} networks has a usable score ({counts}){why}."


def first_usable(table: ScoreTable) -> str:
    """The first proxy by which a network has a usable score; of none that has, the first."""
    names = list(table)
    return next((name for name in names if not unusable(table, (name,))), names[0])


def count_statuses(table: ScoreTable, proxy: str) -> str:
    """How many networks have which status by a proxy, such as "11 ok, 1 degenerate"."""
    found = table.statuses[proxy].tolist()
    return ", ".join(f"{found.count(s)} {s}" for s in STATUSES if s in found)


@typed
def write_results(
    result: SearchResult,
    workdir: str | os.PathLike,
    space: Space | Mapping[str, Any] | None = None,
) -> None:
    """Writes `ranking.csv`, `ranking.parquet` (best first) and `best.json`, each atomically.

    Of several objectives it also writes `front.csv`, in which the front's networks are as in
    the ranking. Where no network has a usable score there is no `best.json`, and an older one goes.

    Args:
        result: of a search.
        workdir: an existing folder.
        space: of the networks, or its arguments, which `best.json` then tells.

    Raises:
        OSError: a file cannot be written.
        ModuleNotFoundError: pyarrow is missing (the extra "analysis").
    """
    workdir, order = pathlib.Path(workdir), result.order
    columns = {
        "rank": scipy.stats.rankdata(-result.preference)[order],
        "fitness": result.fitness[order],
    }
    for name, values in result.table.flat().items():
        columns[name] = [values[i] for i in order]
    write_csv(workdir / "ranking.csv", columns)
    write_parquet(workdir / "ranking.parquet", columns)
    if result.objectives:
        size = len(result.front)
        write_csv(workdir / "front.csv", {key: values[:size] for key, values in columns.items()})
    if result.refusal:
        (workdir / "best.json").unlink(missing_ok=True)
        return
    best = json.dumps(describe_best(result, space), indent=2)
    write_atomically(workdir / "best.json", best + "\n")


@typed
def describe_best(
    result: SearchResult, space: Space | Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The best architecture as plain values: what `best.json` holds."""
    best, table = result.best, result.table
    row = table.rows[best]
    values = {
        "id": row["id"],
        "genotype": row["genotype"],
        "score": result.fitness[best],
        "status": table.status[best],
        "params": row["params"],
        "macs": row["macs"],
        "proxies": {name: scores[best] for name, scores in table.scores.items()},
    }
    if space is not None:
        values["space"] = space if isinstance(space, Mapping) else space.describe()
    return json.loads(dump_row(values))
