"""Files: written as a whole or not at all, strict JSON, and columns as CSV or Parquet."""

import contextlib
import csv
import difflib
import io
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lswag_jax.extras import extra

JsonNumber = float | Literal["NaN", "Infinity", "-Infinity"]  # as `dump_row` writes a number


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
    """Replaces a file as a whole: a reader or a crash never sees half of it.

    Raises:
        ValueError: the path is empty.
        OSError: the file cannot be written, for example on a full disk; the error names this file,
            and not the temporary one.
    """
    path = pathlib.Path(path)
    if not path.name:
        raise ValueError(f"a file needs a name, got {str(path)!r}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def nearest_first(name: Any, known: Iterable[str]) -> str:
    """Known names for a message, those most like `name` first.

    Example:
        >>> nearest_first("zio", ["swap", "zico"])
        'zico, swap'
    """
    known = list(known)
    return ", ".join(difflib.get_close_matches(str(name), known, n=len(known), cutoff=0.0))


def check_folder(folder: str | os.PathLike, name: str) -> None:
    """Raises ValueError for what can be no folder of results, before any work is done.

    Args:
        folder: that is wanted; it need not exist.
        name: what the user calls it.

    Example:
        >>> check_folder(" ", "--workdir")
        Traceback (most recent call last):
        ValueError: --workdir is empty: give the folder of the results.
    """
    path = pathlib.Path(folder)
    if not str(folder).strip():
        raise ValueError(f"{name} is empty: give the folder of the results.")
    if "\0" in str(folder):
        raise ValueError(f"{name} {str(folder)!r} holds a null character.")
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise ValueError(f"{name} {folder}: {place} is a link to nothing.")
        if place.exists() and not place.is_dir():
            raise ValueError(f"{name} {folder}: {place} is a file, not a folder.")


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Lets an error of the disk name a file; that of a full disk names none by itself.

    Example:
        >>> with naming("rows.jsonl"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'rows.jsonl'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file; never unpickles.

    Raises:
        ValueError: it is none, or a damaged one.
        OSError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
        raise ValueError(f"{path} is not an .npz file of arrays, or a damaged one.") from None


def one_line(text: Any, longest: int = 300) -> str:
    """A text for a message: on one line, without what a terminal cannot show, not too long.

    Example:
        >>> one_line("a\\x00b\\nc")
        'a?b c'
    """
    words = " ".join(str(text).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= longest else f"{shown[: longest - 4]} ..."


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
