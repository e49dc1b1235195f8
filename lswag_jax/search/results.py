"""What a search found, and the files that say so."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import scipy

from lswag_jax.files import dump_row, write_atomically, write_csv, write_parquet
from lswag_jax.scoring.table import ScoreTable


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        table: every evaluated architecture, in order of evaluation; `table.timing` holds the
            seconds of this process, `compile` and `score`.
        fitness: of each [P], larger is better, ranked over all of them.
    """

    table: ScoreTable
    fitness: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Indices, best first; of equals the one evaluated first."""
        return np.argsort(-self.fitness, kind="stable")

    @property
    def best(self) -> int:
        """Index of the best."""
        return int(self.order[0])


def write_results(result: SearchResult, workdir: str | os.PathLike) -> None:
    """Writes `ranking.csv`, `ranking.parquet` (best first) and `best.json`, each atomically.

    Args:
        result: of a search.
        workdir: an existing folder.
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
    write_atomically(workdir / "best.json", json.dumps(describe_best(result), indent=2) + "\n")


def describe_best(result: SearchResult) -> dict[str, Any]:
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
    return json.loads(dump_row(values))
