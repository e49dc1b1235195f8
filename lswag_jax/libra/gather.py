"""From a table of ground truth to the arrays of LIBRA."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lswag_jax.spaces import Space
from lswag_jax.tables import GroundTruth, is_accuracy


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
    space: Space,
    proxies: Mapping[str, str] | None = None,
) -> Benchmark:
    """What LIBRA needs of a table.

    Args:
        table: of accuracies and scores.
        dataset: of the table.
        target: metric of the accuracies; larger is better.
        space: counts `params` and `macs` where the table does not have them.
        proxies: the candidates and their metrics; None for all metrics that are no accuracies.

    Raises:
        ValueError: the table lacks the data set or a metric, a metric was never measured, or no
            architecture has them all.

    Example:
        >>> from lswag_jax import spaces, tables
        >>> space = spaces.get("nasbench201")
        >>> texts = [space.format(g) for g in space.sample(np.random.default_rng(0), 3)]
        >>> table = tables.GroundTruth.from_records([
        ...     tables.Records("cifar10", "val_accuracy", texts, [90.0, 80.0, 70.0], "made up"),
        ...     tables.Records("cifar10", "nwot", texts[:2], [3.0, -1e8], "made up")])
        >>> gather(table, "cifar10", "val_accuracy", space).scores
        {'nwot': array([  3., -inf])}
    """
    if proxies is None:
        metrics = table.metrics(dataset)
        proxies = {m: m for m in metrics if m != target and not is_accuracy(m)}
    columns = {name: _values(table, dataset, metric, space) for name, metric in proxies.items()}
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
        _values(table, dataset, proxies.get("params", "params"), space)[known],
        [table.genotypes[i] for i in np.flatnonzero(known)],
        int((tried & ~known).sum()),
    )


def _values(table: GroundTruth, dataset: str, metric: str, space: Space) -> np.ndarray:
    """A metric of the table, or the space's count of that name."""
    counts = {"params": space.num_params, "macs": space.macs}
    if metric in counts and metric not in table.metrics(dataset):
        return np.array([counts[metric](space.parse(text)) for text in table.genotypes], float)
    return table.values(dataset, metric)
