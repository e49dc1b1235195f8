"""The result of a search, and the files it is written to."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from lswag_jax.files import dump_row, write_atomically, write_csv, write_parquet
from lswag_jax.options import typed
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
    """

    table: ScoreTable
    fitness: np.ndarray
    by: tuple[str, ...] = ()

    @property
    def order(self) -> np.ndarray:
        """Indices, best first; of equals the one evaluated first."""
        return np.argsort(-self.fitness, kind="stable")

    @property
    def best(self) -> int:
        """Index of the best."""
        return int(self.order[0])

    @property
    def refusal(self) -> str:
        """Why no network is the best: none has a usable score; empty where one has."""
        return unusable(self.table, self.by)


def unusable(table: ScoreTable, proxies: Sequence[str]) -> str:
    """What to say where every network failed by every one of some proxies; else empty.

    Args:
        table: of the networks.
        proxies: that they are ranked by; none says nothing.
    """
    failed = [np.isin(table.statuses[name], STATUSES[2:]).all() for name in proxies]
    if not len(table) or not failed or not all(failed):
        return ""
    counts = "; ".join(f"{name} {count_statuses(table, name)}" for name in proxies)
    errors = [row["error"] for row in table.rows if "error" in row]
    why = f", the first error being: {errors[0]}" if errors else ""
    return f"none of the {len(table)} networks has a usable score ({counts}){why}."


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

    Where no network has a usable score there is no `best.json`, and an older one goes.

    Args:
        result: of a search.
        workdir: an existing folder.
        space: of the networks, or its arguments, which `best.json` then tells.
    """
    workdir, order = pathlib.Path(workdir), result.order
    columns = {
        "rank": scipy.stats.rankdata(-result.fitness)[order],
        "fitness": result.fitness[order],
    }
    for name, values in result.table.flat().items():
        columns[name] = [values[i] for i in order]
    write_csv(workdir / "ranking.csv", columns)
    write_parquet(workdir / "ranking.parquet", columns)
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
