"""The archive of a search: one row an evaluated genotype, kept in a file that survives any crash.

A search has no other state. Its proposals depend on the seed, the epoch and the rows before them,
so a resumed search proposes the same genotypes again and takes from the archive what is there.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Self

from lswag_jax.files import dump_row, write_atomically
from lswag_jax.scoring.rows import Row
from lswag_jax.spaces import Space

ARCHIVE = "archive.jsonl"
CONFIG = "config.json"
ABSENT = object()
SHOWN = 5  # differences between two configs that an error names
Evaluate = Callable[[Sequence[Any]], Iterable[Row]]


class Archive(Sequence[Any]):
    """Rows in `workdir/archive.jsonl`, a sequence to which rows can be appended.

    An archive that holds rows is continued if `workdir/config.json` agrees with the config; the
    config of one without rows is replaced. A last line that a crash left unfinished is cut away.

    Args:
        workdir: folder of the run; made if absent.
        config: what the run is; plain values that JSON can hold, nested at will.
        exempt: keys, dotted where nested, that may differ because they do not affect the result.
        name: of the file.

    Raises:
        ValueError: the folder holds a run of another config, or a line before the last is no row.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Archive(folder, {"seed": 0}) as archive:
        ...     archive.append({"id": "a"})
        >>> with Archive(folder, {"seed": 0}) as archive:
        ...     list(archive)
        [{'id': 'a'}]
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        config: Mapping[str, Any],
        exempt: Sequence[str] = (),
        name: str = ARCHIVE,
    ) -> None:
        workdir = pathlib.Path(workdir)
        new = plain(config)
        self.path = workdir / name
        self._rows, size = read_rows(self.path) if self.path.exists() else ([], 0)
        if self._rows:
            _compare(workdir, new, exempt)
        else:
            workdir.mkdir(parents=True, exist_ok=True)
            write_atomically(workdir / CONFIG, json.dumps(new, indent=2) + "\n")
        self._file = open(self.path, "ab")  # noqa: SIM115, closed by `close`
        _lock(self._file)
        self._file.truncate(size)
        os.fsync(self._file.fileno())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a row; when this returns, the row is on the disk."""
        line = dump_row(row)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._rows.append(json.loads(line))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_rows(path: str | os.PathLike) -> tuple[list[Any], int]:
    """Rows of an archive, of a running search too; changes nothing.

    Args:
        path: of `archive.jsonl`.

    Returns:
        The rows, and the bytes they take: less than the file's size if its last line is unfinished.

    Raises:
        ValueError: a line before the last is no row.
    """
    *lines, rest = pathlib.Path(path).read_bytes().split(b"\n")
    rows: list[Any] = []
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines) or rest:
            raise ValueError(f"line {number} of {path} is not a row of an archive.")
    return rows, sum(len(line) + 1 for line in lines[: len(rows)])


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # also bytes that are not UTF-8
        return None
    return row if isinstance(row, dict) and "id" in row else None


def _lock(file: IO) -> None:
    """Refuses a second process on one archive, closing the file; a lock ends with its process.

    The archive itself is locked: filelock would leave a second file in every folder of results.

    Raises:
        ValueError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ValueError(f"another process is writing {file.name}.") from None


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON gives it back.

    Raises:
        ValueError: it holds something that JSON cannot.
    """
    try:
        return json.loads(dump_row(dict(config)))
    except TypeError as error:
        raise ValueError(f"a config must hold plain values only ({error}).") from None


def _compare(workdir: pathlib.Path, config: Mapping[str, Any], exempt: Sequence[str]) -> None:
    """Raise ValueError unless the config of the run in `workdir` is this one."""
    path = workdir / CONFIG
    try:
        there = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        raise ValueError(f"{workdir} holds a run but no readable {CONFIG}.") from None
    differing = [
        f"{key} ({what})"
        for key, what in _differences(there, config)
        if not any(f"{key}.".startswith(f"{free}.") for free in exempt)
    ]
    if differing:
        more = [f"{len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
        raise ValueError(
            f"workdir {workdir} holds a run of another config, which differs in "
            f"{', '.join(differing[:SHOWN] + more)}: give another workdir."
        )


def _differences(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys at which two configs differ, and how."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in there | here:
            inner = f"{key}.{name}" if key else name
            yield from _differences(there.get(name, ABSENT), here.get(name, ABSENT), inner)
    elif ABSENT in (there, here) and isinstance(there if here is ABSENT else here, dict):
        yield key, "only there" if here is ABSENT else "only here"
    elif there is ABSENT or here is ABSENT or json.dumps(there) != json.dumps(here):
        yield key, f"{_show(there)} there, {_show(here)} here"


def _show(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value)


def extend(
    archive: list[Row] | Archive,
    start: int,
    space: Space,
    genotypes: Sequence[Any],
    evaluate: Evaluate,
) -> int:
    """Brings an archive to hold the rows of these genotypes from row `start` on.

    Rows that are there are kept, the genotypes of the others evaluated and appended as they come.

    Args:
        archive: a list, or an `Archive`.
        start: number of rows before these.
        space: of the genotypes.
        genotypes: proposed, none twice.
        evaluate: yields a row for each genotype, in order (`lswag_jax.scoring.stream`).

    Returns:
        `start + len(genotypes)`.

    Raises:
        ValueError: a row of the archive, or one that was yielded, is of another genotype.
    """
    stop = start + len(genotypes)
    known = archive[start:stop]
    for number, (row, genotype) in enumerate(zip(known, genotypes, strict=False), start + 1):
        _check_id(row, space.format(genotype), f"row {number} of the archive")
    missing = list(genotypes[len(known) :])
    if missing:
        for genotype, row in zip(missing, evaluate(missing), strict=True):
            _check_id(row, space.format(genotype), "an evaluated row")
            archive.append(row)
    return stop


def _check_id(row: Row, expected: str, what: str) -> None:
    if row["id"] != expected:
        raise ValueError(f"{what} is of {row['id']!r}, but this search proposes {expected!r} here.")


def check_complete(archive: Sequence[Row], size: int) -> None:
    """Raise ValueError if an archive holds more than the `size` rows of its search."""
    if len(archive) > size:
        raise ValueError(
            f"the archive holds {len(archive)} rows, but this search proposes only {size}."
        )
