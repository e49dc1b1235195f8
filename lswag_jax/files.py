"""Files: written as a whole or not at all, strict JSON, and columns as CSV or Parquet."""

import csv
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.extras import extra


def dump_row(row: Mapping[str, Any]) -> str:
    """A row as strict JSON; non-finite numbers become the strings NaN, Infinity, -Infinity."""
    return json.dumps(_jsonable(row), separators=(",", ":"), allow_nan=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def write_atomically(path: str | os.PathLike, data: str | bytes) -> None:
    """Replaces a file as a whole: a reader or a crash never sees half of it."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: str | os.PathLike, columns: Mapping[str, Sequence]) -> None:
    """Writes columns of equal length as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(path, text.getvalue())


def write_parquet(path: str | os.PathLike, columns: Mapping[str, Sequence]) -> None:
    """Writes columns of equal length as Parquet."""
    with extra("analysis"):
        import pyarrow
        from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), buffer)
    write_atomically(path, buffer.getvalue())
