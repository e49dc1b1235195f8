"""Files of tables: the long format of `analysis.tables`, and wide ones with a column a metric."""

import gzip
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lswag_jax.extras import extra
from lswag_jax.files import one_line, write_atomically

COLUMNS = ("genotype", "dataset", "metric", "value", "provenance")
SUFFIXES = (".csv", ".csv.gz", ".parquet")
Group = tuple[str, str, Sequence[str], np.ndarray, str]


def read_wide(path: str | os.PathLike, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Columns of a CSV or Parquet file by name: numbers, NaN where empty, or objects.

    Args:
        path: of the file.
        needed: columns that must be there.

    Raises:
        ValueError: another kind of file, or a needed column is missing.
        OSError: the file cannot be read.
    """
    table = _load(path, {})
    _need(table.column_names, needed, path)
    return {name: table[name].to_numpy() for name in table.column_names}


def read_long(path: str | os.PathLike) -> Iterator[Group]:
    """Rows of a file in the long format, grouped by data set, metric and provenance.

    Yields:
        Data set, metric, genotypes, values (-inf where empty) and provenance of each group.

    Raises:
        ValueError: a column is missing, or a value is no number.
        OSError: the file cannot be read.
    """
    table = _load(path, {name: "double" if name == "value" else "string" for name in COLUMNS})
    _need(table.column_names, COLUMNS, path)
    if not table.num_rows:
        raise ValueError(f"{path} holds no rows.")
    texts, codes = {}, {}
    for name in COLUMNS:
        if name != "value":
            encoded = _cast(table, name, "string", path).combine_chunks().dictionary_encode()
            if encoded.null_count:
                raise ValueError(f"column {name!r} of {path} has {encoded.null_count} empty rows.")
            texts[name], codes[name] = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    values = _cast(table, "value", "double", path).to_numpy()
    values = np.where(np.isnan(values), -np.inf, values)
    kinds = np.stack([codes[name] for name in ("dataset", "metric", "provenance")])
    unique, group, counts = np.unique(kinds, axis=1, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(group.ravel(), kind="stable"), np.cumsum(counts)[:-1])
    for (dataset, metric, provenance), own in sorted(
        zip(unique.T.tolist(), rows, strict=True), key=lambda pair: pair[1][0]
    ):
        genotypes = [texts["genotype"][i] for i in codes["genotype"][own].tolist()]
        source = texts["provenance"][provenance]
        yield texts["dataset"][dataset], texts["metric"][metric], genotypes, values[own], source


def write_long(path: str | os.PathLike, groups: Iterable[Group]) -> None:
    """Writes groups as the long format, replacing the file as a whole.

    Args:
        path: `.csv`, `.csv.gz` or `.parquet`.
        groups: as `read_long` yields them; infinite values are left empty.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
    """
    with extra("analysis"):
        import pyarrow
        from pyarrow import csv, parquet

    suffix, parts = _suffix(path), []
    for dataset, metric, genotypes, values, provenance in groups:
        size = len(genotypes)
        numbers = pyarrow.array(values, mask=~np.isfinite(values))
        same = [pyarrow.repeat(text, size) for text in (dataset, metric, provenance)]
        arrays = [pyarrow.array(genotypes, "string"), same[0], same[1], numbers, same[2]]
        parts.append(pyarrow.table(arrays, names=COLUMNS))
    whole, buffer = pyarrow.concat_tables(parts), io.BytesIO()
    (parquet.write_table if suffix == ".parquet" else csv.write_csv)(whole, buffer)
    data = buffer.getvalue()
    write_atomically(path, gzip.compress(data, mtime=0) if suffix == ".csv.gz" else data)


def _load(path: str | os.PathLike, types: dict[str, str]) -> Any:
    """An Arrow table of a file; columns named in `types` are read as such from CSV."""
    with extra("analysis"):
        from pyarrow import csv, parquet

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"there is no table {path}.")
    suffix = _suffix(path)
    try:
        if suffix == ".parquet":
            table = parquet.read_table(path)
        else:
            table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))
        names = list(table.column_names)  # decodes them: a header that is no text is an error here
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"the column {twice[0]!r} is there more than once.")
        return table
    except (ValueError, OSError) as error:  # Arrow's own do not name the file
        if isinstance(error, OSError) and error.errno:
            raise
        why = one_line(error, 120)  # which may quote what is no text
        raise ValueError(f"{path} cannot be read as a table: {why}") from None


def _cast(table: Any, name: str, kind: str, path: str | os.PathLike) -> Any:
    """A column as texts or numbers."""
    with extra("analysis"):
        from pyarrow import ArrowException

    try:
        return table[name].cast(kind)
    except ArrowException as error:
        raise ValueError(
            f"column {name!r} of {path} is no {kind}: {one_line(error, 120)}"
        ) from None


def _suffix(path: str | os.PathLike) -> str:
    for suffix in SUFFIXES:
        if str(path).endswith(suffix):
            return suffix
    raise ValueError(f"a table is a file of kind {', '.join(SUFFIXES)}, got {path}.")


def _need(names: Iterable[str], needed: Iterable[str], path: Any) -> None:
    names = list(names)
    for name in needed:
        if name not in names:
            raise ValueError(f"{path} has no column {name!r}, it has {', '.join(names)}.")
