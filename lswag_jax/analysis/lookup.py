"""Looks up in a tabular benchmark the networks that a search found."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lswag_jax.analysis import genotype_texts, table_files, tables
from lswag_jax.options import typed
from lswag_jax.scoring.rows import Row
from lswag_jax.spaces import Space


class Found(NamedTuple):
    """Accuracy of a search's result in a benchmark.

    Attributes:
        accuracy: of the best by fitness that the benchmark has.
        rank: 1 + the number of benchmark networks with a higher accuracy.
        total: networks of the benchmark.
        top: mean accuracy of the `top` best by fitness (ten by default) that it has.
        missing: evaluated networks that the benchmark does not have.
        id: of the network whose accuracy it is.
        better: networks of a higher fitness that the benchmark does not have.
    """

    accuracy: float
    rank: int
    total: int
    top: float
    missing: int
    id: str
    better: int


@typed
def read(path: str, space: Space, column: str, metric: str) -> dict[str, float]:
    """A benchmark's accuracies by the text of their genotypes in the space.

    Args:
        path: a table (`lswag_jax.analysis.tables`), or another CSV or Parquet file with a column a
            metric.
        space: whose `parse` reads the genotypes.
        column: of the genotypes; of a table its data set.
        metric: column of the accuracies, or metric of the table; missing ones are left out.

    Raises:
        ValueError: a column is missing, a genotype is not of the space, or nothing is left.
        OSError: the file cannot be read.
    """
    columns = table_files.read_wide(path)
    if set(table_files.COLUMNS) <= set(columns):
        table = tables.read(path, space)
        texts, values = table.genotypes, table.values(column, metric, "drop")
    else:
        columns = table_files.read_wide(path, (column, metric))
        texts, values = genotype_texts.own_texts(columns[column], space, path), columns[metric]
    found = {t: float(v) for t, v in zip(texts, values, strict=True) if v is not None}
    found = {text: value for text, value in found.items() if np.isfinite(value)}
    if not found:
        raise ValueError(f"column {metric!r} of {path} has no values.")
    return found


@typed
def look_up(
    rows: list[Row],
    fitness: np.ndarray,
    accuracies: Mapping[str, float],
    top: int = 10,
    space: Space | None = None,
) -> Found | None:
    """What the benchmark says of the evaluated networks; None where it has none of them.

    Args:
        rows: evaluated networks.
        fitness: of each, larger is better.
        accuracies: of the benchmark, by genotype text.
        top: how many of the best are averaged.
        space: finds networks that the benchmark has in another spelling, as isomorphic cells.

    Example:
        >>> rows = [{"id": "a"}, {"id": "b"}]
        >>> look_up(rows, np.array([1.0, 2.0]), {"a": 90.0, "b": 94.0, "c": 95.0}).rank
        2
    """
    order = np.argsort(-np.asarray(fitness, float), kind="stable")
    place = {text: i for i, text in enumerate(accuracies)}
    everything = np.array(list(accuracies.values()))
    ids: dict[str, None] = dict.fromkeys(rows[i]["id"] for i in order)
    found = [(text, genotype_texts.find(place, text, space)) for text in ids]
    known = [(text, float(everything[i])) for text, i in found if i >= 0]
    if not known:
        return None
    name, accuracy = known[0]
    return Found(
        accuracy,
        rank=int((everything > accuracy).sum()) + 1,
        total=len(everything),
        top=float(np.mean([value for _, value in known[:top]])),
        missing=len(ids) - len(known),
        id=name,
        better=list(ids).index(name),
    )
