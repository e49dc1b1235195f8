"""Ground truth: what is known of architectures, accuracies and published proxy values alike.

The file of a table (`read`, `GroundTruth.write`) is CSV, compressed or not, or Parquet, of columns

    genotype    the space's own text (`Space.format`)
    dataset     data set or task
    metric      what was measured, an accuracy or a proxy
    value       number; empty where it was tried and failed
    provenance  where the value comes from

A missing row was never tried. `lswag_jax.analysis.converters` makes tables of what benchmarks
publish. Nothing here unpickles.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, Self

import numpy as np

from lswag_jax.analysis import correlation, table_files
from lswag_jax.analysis.genotype_texts import find, own_texts
from lswag_jax.options import typed, typed_methods
from lswag_jax.scoring.table import FILL, replace_failures
from lswag_jax.spaces import Space

AGREEMENT = 0.85  # Spearman's rho above which accuracies are of the same networks
MIN_COMMON = 50  # networks below which that is not tested
_ACCURACY = re.compile(r"(^|_)(acc|accuracy|top1)($|_)")
Key = tuple[str, str]


class Records(NamedTuple):
    """Values of one metric on one data set, as a source lists them.

    Attributes:
        dataset, metric: their names.
        genotypes: texts, one a value.
        values: [N]; NaN where never tried, -1e8 or infinite where failed.
        provenance: where they come from.
    """

    dataset: str
    metric: str
    genotypes: Sequence[str]
    values: np.ndarray
    provenance: str


@dataclasses.dataclass(frozen=True)
class Column:
    """One metric on one data set.

    Attributes:
        values: float64 [P], NaN where failed or never tried.
        failed: bool [P].
        provenance: where they come from.
    """

    values: np.ndarray
    failed: np.ndarray
    provenance: str

    @property
    def tried(self) -> np.ndarray:
        """Whether there is a value or a failure, bool [P]."""
        return self.failed | ~np.isnan(self.values)


class Match(NamedTuple):
    """Where genotypes are in a table.

    Attributes:
        index: row of each, [N]; -1 where the table does not have it.
        unmatched: texts that it does not have.
        duplicates: texts of which an earlier one is in the same row.
    """

    index: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]  # tuple.index is not used
    unmatched: tuple[str, ...]
    duplicates: tuple[str, ...]

    def __str__(self) -> str:
        found = len(self.index) - len(self.unmatched)
        text = f"{found} of {len(self.index)} genotypes matched"
        for what, names in (("unmatched", self.unmatched), ("duplicate", self.duplicates)):
            text += f"; {what} {name_some(names)}" if names else ""
        return text


@typed_methods
@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """A table of architectures and what is known of them.

    Attributes:
        genotypes: their texts, P distinct ones.
        columns: by (data set, metric).
        duplicates: genotypes that a source listed twice for a metric; the first value counts.

    Example:
        >>> records = Records("cifar10", "nwot", ["a", "b", "c"], [1.0, -1e8, np.nan], "paper")
        >>> table = GroundTruth.from_records([records])
        >>> table.values("cifar10", "nwot"), table.failures
        (array([  1., -inf,  nan]), {('cifar10', 'nwot'): 1})
    """

    genotypes: Sequence[str]
    columns: Mapping[Key, Column]
    duplicates: Sequence[str] = ()

    @classmethod
    def from_records(cls, records: Iterable[Records]) -> Self:
        """The table of all records; genotypes in the order in which they come.

        Raises:
            ValueError: two provenances of a column, or genotypes that are no texts with numbers.
        """
        records = list(records)
        for r in records:
            _check(r)
        place: dict[str, int] = {}
        for text in itertools.chain.from_iterable(r.genotypes for r in records):
            place.setdefault(text, len(place))
        columns, repeated = {}, {}
        for r in records:
            empty = Column(np.full(len(place), np.nan), np.zeros(len(place), bool), r.provenance)
            column = columns.setdefault((r.dataset, r.metric), empty)
            if column.provenance != r.provenance:
                raise ValueError(
                    f"{r.metric!r} on {r.dataset!r} is of {column.provenance!r} and of "
                    f"{r.provenance!r}: values of two sources are not mixed, name them apart."
                )
            index = np.array([place[text] for text in r.genotypes], int)
            again = _fill(column, index, r.values)
            repeated |= dict.fromkeys(r.genotypes[int(i)] for i in again)
        if not place:
            raise ValueError("a table needs at least one genotype, got none.")
        return cls(list(place), columns, tuple(repeated))

    def __len__(self) -> int:
        return len(self.genotypes)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of data sets."""
        return tuple(dict.fromkeys(dataset for dataset, _ in self.columns))

    def metrics(self, dataset: str) -> tuple[str, ...]:
        """Names of what is known on a data set.

        Raises:
            ValueError: the table does not have it.
        """
        if dataset not in self.datasets:
            known = ", ".join(self.datasets)
            raise ValueError(f"the table has no data set {dataset!r}, it has {known}.")
        return tuple(metric for of, metric in self.columns if of == dataset)

    @property
    def failures(self) -> dict[Key, int]:
        """Failed values of each column that has any: fills of -1e8 and infinities."""
        counts = {key: int(column.failed.sum()) for key, column in self.columns.items()}
        return {key: count for key, count in counts.items() if count}

    def column(self, dataset: str, metric: str) -> Column:
        """One column.

        Raises:
            ValueError: the table does not have it.
        """
        known = self.metrics(dataset)
        if metric not in known:
            raise ValueError(
                f"the table has no {metric!r} on {dataset}, it has {', '.join(known)}."
            )
        return self.columns[dataset, metric]

    def values(self, dataset: str, metric: str, nan_policy: str = "worst_rank") -> np.ndarray:
        """A column as float64 [P]; NaN where never tried.

        Args:
            dataset, metric: the column.
            nan_policy: of what failed: "worst_rank" is -inf, "fill" -1e8, "drop" NaN.
        """
        column = self.column(dataset, metric)
        return replace_failures(column.values, column.failed, nan_policy)

    def select(self, dataset: str, nan_policy: str = "worst_rank") -> dict[str, np.ndarray]:
        """All columns of a data set as `values` gives them, by metric."""
        return {m: self.values(dataset, m, nan_policy) for m in self.metrics(dataset)}

    def align(self, genotypes: Sequence[str], space: Space | None = None) -> Match:
        """The rows of genotypes.

        Args:
            genotypes: texts.
            space: finds genotypes that the table has in another spelling, as isomorphic cells of
                NAS-Bench-101; None compares texts.
        """
        place = {text: i for i, text in enumerate(self.genotypes)}
        index = np.array([find(place, text, space) for text in genotypes], int)
        seen, duplicates = set(), []
        for text, row in zip(genotypes, index.tolist(), strict=True):
            if row >= 0 and row in seen:
                duplicates.append(text)
            seen.add(row)
        unmatched = tuple(t for t, row in zip(genotypes, index, strict=True) if row < 0)
        return Match(index, unmatched, tuple(duplicates))

    def join(self, other: "GroundTruth", space: Space | None = None) -> tuple[Self, Match]:
        """This table with the columns of another at its genotypes; the other may be much larger.

        The edges of one table being in another order than thought leaves every count right. So
        where both have accuracies on a data set, they must agree (NAS-Bench-201: rho .99 with the
        right order, .73 with a wrong one).

        Args:
            other: its genotypes that this table does not have are left out.
            space: see `align`.

        Raises:
            ValueError: a column is in both, or no two accuracies of a data set agree.
        """
        match = other.align(self.genotypes, space)
        there = match.index >= 0
        columns = dict(self.columns)
        for (dataset, metric), column in other.columns.items():
            if (dataset, metric) in columns:
                raise ValueError(f"both tables have {metric!r} on {dataset}: rename one.")
            values = np.where(there, column.values[match.index], np.nan)
            failed = there & column.failed[match.index]
            columns[dataset, metric] = Column(values, failed, column.provenance)
        joined = dataclasses.replace(self, columns=columns)
        for dataset in set(self.datasets) & set(other.datasets):
            joined._check_agreement(dataset, self.metrics(dataset), other.metrics(dataset))
        return joined, match

    def _check_agreement(self, dataset: str, first: Iterable[str], second: Iterable[str]) -> None:
        """Raise ValueError if no accuracy of the first metrics agrees with one of the second."""
        found = []
        for pair in itertools.product(filter(is_accuracy, first), filter(is_accuracy, second)):
            a, b = (self.values(dataset, metric, "drop") for metric in pair)
            both = ~np.isnan(a) & ~np.isnan(b)
            if both.sum() >= MIN_COMMON:
                found.append((correlation.spearman(a[both], b[both]), pair, int(both.sum())))
        if found and max(found)[0] < AGREEMENT:
            rho, pair, n = max(found)
            raise ValueError(
                f"accuracies of the two tables on {dataset} do not agree over {n} common networks "
                f"({' and '.join(pair)}: rho {rho:.2f}): is the order of edges of one wrong?"
            )

    def only(self, metrics: Iterable[str]) -> Self:
        """This table without other metrics than these."""
        kept = set(metrics)
        columns = {key: column for key, column in self.columns.items() if key[1] in kept}
        return dataclasses.replace(self, columns=columns)

    def rename(self, names: Mapping[str, str]) -> Self:
        """This table with other names of metrics, for example of those that a join has twice."""
        columns = {(of, names.get(m, m)): column for (of, m), column in self.columns.items()}
        return dataclasses.replace(self, columns=columns)

    def with_params(self, space: Space) -> Self:
        """This table with the exact `params` of the space on data sets that have none."""
        missing = [d for d in self.datasets if "params" not in self.metrics(d)]
        if not missing:
            return self
        counts = [float(space.num_params(space.parse(text))) for text in self.genotypes]
        own = Column(np.array(counts), np.zeros(len(self), bool), f"lswag_jax: {space.name}")
        columns = {**self.columns, **{(d, "params"): own for d in missing}}
        return dataclasses.replace(self, columns=columns)

    def records(self) -> Iterator[Records]:
        """The columns as records, of what was tried."""
        for (dataset, metric), column in self.columns.items():
            rows = np.flatnonzero(column.tried).tolist()
            values = replace_failures(column.values, column.failed, "worst_rank")[rows]
            texts = [self.genotypes[i] for i in rows]
            yield Records(dataset, metric, texts, values, column.provenance)

    def write(self, path: str | os.PathLike) -> None:
        """Writes the table as CSV (`.csv`, `.csv.gz`) or Parquet, replacing the file as a whole."""
        table_files.write_long(path, self.records())


@typed
def read(path: str | os.PathLike, space: Space | None = None) -> GroundTruth:
    """The table of a file that `GroundTruth.write` or somebody else wrote.

    Args:
        path: `.csv`, `.csv.gz` or `.parquet`.
        space: parses every genotype and spells it as its own text; None takes them as they are.

    Raises:
        ValueError: a column is missing, a value is no number, a genotype is not of the space, or
            two sources are mixed.
        OSError: the file cannot be read.
    """
    groups = [Records(*group) for group in table_files.read_long(path)]
    if space is not None:
        texts = dict.fromkeys(itertools.chain.from_iterable(r.genotypes for r in groups))
        own = dict(zip(texts, own_texts(texts, space, path), strict=True))
        groups = [r._replace(genotypes=[own[text] for text in r.genotypes]) for r in groups]
    return GroundTruth.from_records(groups)


@typed
def load(name: str) -> GroundTruth:
    """A table that comes with the package.

    "vit_tasks": vision transformers of `autoformer_mini` on six tasks (docs/vit_tasks.md); what is
    trained so far, its provenance says how many networks. "toy_nasbench201": 48 small cells.

    Raises:
        ValueError: there is no such table.

    Example:
        >>> load("toy_nasbench201").datasets
        ('fashion_mnist',)
    """
    folder = resources.files("lswag_jax") / "assets"
    files = {f.name.partition(".")[0]: f for f in folder.iterdir() if ".csv" in f.name}
    if name not in files:
        raise ValueError(f"no table {name!r} comes with the package, {sorted(files)} do.")
    with resources.as_file(files[name]) as path:
        return read(path)


@typed
def union(tables: Iterable[GroundTruth]) -> GroundTruth:
    """One table of several; each value is kept.

    A column that two of them have with the same values, as `params` of several runs, counts once.

    Raises:
        ValueError: two of them have the same column with other values, from other sources.
    """
    first: dict[Key, Records] = {}
    records = [r for table in tables for r in table.records()]
    return GroundTruth.from_records(
        r for r in records if (known := first.setdefault(r[:2], r)) is r or not _same(known, r)
    )


def _check(r: Records) -> None:
    """Raises ValueError unless there is a number for each genotype, and each is a text."""
    values, what = np.asarray(r.values), f"{r.metric!r} on {r.dataset!r}"
    if values.shape != (len(r.genotypes),) or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} must have a number for each of {len(r.genotypes)} genotypes, got values of "
            f"shape {values.shape} and type {values.dtype}."
        )
    if not all(isinstance(text, str) for text in r.genotypes):
        raise ValueError(f"genotypes of {what} must be texts.")


def _same(a: Records, b: Records) -> bool:
    """Whether two columns hold the same values."""
    return list(a.genotypes) == list(b.genotypes) and np.array_equal(a.values, b.values, True)


@typed
def is_accuracy(metric: str) -> bool:
    """Whether the name of a metric says that it is an accuracy.

    Example:
        >>> [is_accuracy(name) for name in ("val_accuracy", "c100_kd_acc", "jacov")]
        [True, True, False]
    """
    return bool(_ACCURACY.search(metric))


def name_some(names: Sequence[str], most: int = 3) -> str:
    """A count and the first few names.

    Example:
        >>> name_some(["a", "b", "c", "d"])
        '4 (a, b, c, ...)'
    """
    return f"{len(names)} ({', '.join(names[:most])}{', ...' * (len(names) > most)})"


def _fill(column: Column, index: np.ndarray, values: Any) -> np.ndarray:
    """Writes values into a new column; returns the places of those that were there before."""
    values = np.asarray(values, np.float64)
    tried = np.flatnonzero(~np.isnan(values))
    first = np.full(len(column.values), -1)
    first[index[tried[::-1]]] = tried[::-1]  # of equal places the last written stays
    is_new = (first[index[tried]] == tried) & ~column.tried[index[tried]]
    new = tried[is_new]
    failed = ~np.isfinite(values[new]) | (values[new] == FILL)
    column.failed[index[new]] = failed
    column.values[index[new]] = np.where(failed, np.nan, values[new])
    return tried[~is_new]
