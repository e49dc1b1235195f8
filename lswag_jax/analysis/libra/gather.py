"""From a table of ground truth to the arrays of LIBRA."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lswag_jax.analysis.tables import GroundTruth, is_accuracy


class Benchmark(NamedTuple):
    """The architectures of a benchmark of which the target and every candidate are known.

    Attributes:
        scores: of each candidate [P]; -inf where it failed.
        accuracy: the target [P].
        params: number of parameters [P].
        genotypes: texts, P of them.
        left_out: architectures of which something was never measured.
    """

    scores: dict[str, np.ndarray]
    accuracy: np.ndarray
    params: np.ndarray
    genotypes: list[str]
    left_out: int


def gather(
    table: GroundTruth,
    dataset: str,
    target: str,
    proxies: Mapping[str, str] | None = None,
) -> Benchmark:
    """What LIBRA needs of a table.

    Args:
        table: of accuracies, scores and `params` (see `GroundTruth.with_params`).
        dataset: of the table.
        target: metric of the accuracies; larger is better.
        proxies: the candidates and their metrics, none twice; None for all metrics that are no
            accuracies.

    Raises:
        ValueError: the table lacks the data set or a metric, a metric was never measured or is
            that of two candidates, or no architecture has them all.

    Example:
        >>> from lswag_jax.analysis.tables import Records
        >>> table = GroundTruth.from_records([
        ...     Records("cifar10", "val_accuracy", "abc", [90.0, 80.0, 70.0], "made up"),
        ...     Records("cifar10", "params", "abc", [7, 8, 9], "made up"),
        ...     Records("cifar10", "nwot", "ab", [3.0, -1e8], "made up")])
        >>> gather(table, "cifar10", "val_accuracy", {"nwot": "nwot"}).scores
        {'nwot': array([  3., -inf])}
    """
    if proxies is None:
        metrics = table.metrics(dataset)
        proxies = {m: m for m in metrics if m != target and not is_accuracy(m)}
    first: dict[str, str] = {}
    for name, metric in proxies.items():
        if first.setdefault(metric, name) != name:
            raise ValueError(f"{first[metric]!r} and {name!r} are both {metric!r}: name it once.")
    columns = {name: table.values(dataset, metric) for name, metric in proxies.items()}
    columns |= {target: table.values(dataset, target, "drop")}
    for name, values in columns.items():
        if np.isnan(values).all():
            raise ValueError(f"the table has no value of {name!r} on {dataset}.")
    tried = ~np.isnan(columns[target])
    known = ~np.any([np.isnan(values) for values in columns.values()], 0)
    if not known.any():
        raise ValueError(f"no architecture has all of {', '.join(columns)} on {dataset}.")
    return Benchmark(
        {name: columns[name][known] for name in proxies},
        columns[target][known],
        table.values(dataset, proxies.get("params", "params"))[known],
        [table.genotypes[i] for i in np.flatnonzero(known).tolist()],
        int((tried & ~known).sum()),
    )
