"""The archive of a search: one row an evaluated genotype, kept in a file that survives any crash.

A search has no other state. Its proposals depend on the seed, the epoch and the rows before them,
so a resumed search proposes the same genotypes again and takes from the archive what is there.
"""

import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Self

import jax

from lswag_jax.files import check_folder, dump_row, naming, write_atomically
from lswag_jax.options import check_value
from lswag_jax.runs.compare import CONFIG, VERSIONS, check_same, read_config
from lswag_jax.scoring.rows import Row, parsed
from lswag_jax.spaces import Space

ARCHIVE = "archive.jsonl"
_JAX = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}
Evaluate = Callable[[Sequence[Any]], Iterable[Row]]


class Archive(Sequence[Any]):
    """Rows in `workdir/archive.jsonl`, a sequence to which rows can be appended.

    An archive that holds rows is continued if `workdir/config.json` agrees with the config in all
    that decides its rows (`runs.compare`); so a run is extended, and its config with it. The config
    of one without rows is replaced, unless a run of another kind keeps its rows in the folder. A
    last line that a crash left unfinished is cut away.

    `config.json` also has `versions`: for each version of this package that wrote rows, how many
    there were before; and the settings of JAX that change numbers, where they are not its defaults.

    Args:
        workdir: folder of the run; made if absent.
        config: what the run is; plain values that JSON can hold, nested at will.
        exempt: keys, dotted where nested, that may differ because they do not affect the result.
        name: of the file.

    Raises:
        ValueError: the folder holds a run of another config or kind, or a line before the last is
            no row.

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
        self._workdir, self._config = pathlib.Path(workdir), plain(config) | _numbers()
        self.path = self._workdir / name
        self._rows, size = read_rows(self.path) if self.path.exists() else ([], 0)
        if self._rows:
            check_same(self._workdir, self._config, exempt)
            versions = read_config(self._workdir).get(VERSIONS, {})
            check_value(dict[str, Any], VERSIONS, versions, f"{CONFIG} of {self._workdir}")
            self._config[VERSIONS] = versions
        else:
            _check_no_other(self.path)
            check_folder(self._workdir, "workdir")
            self._workdir.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab")  # noqa: SIM115, closed by `close`
        _lock(self._file)
        self._file.truncate(size)
        os.fsync(self._file.fileno())
        self._write_config()

    def _write_config(self) -> None:
        """Writes the config, unless it is there."""
        text = json.dumps(self._config, indent=2) + "\n"
        path = self._workdir / CONFIG
        if not path.is_file() or path.read_text() != text:
            write_atomically(path, text)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a row; when this returns, the row is on the disk."""
        from lswag_jax import __version__

        line, versions = dump_row(row), self._config.setdefault(VERSIONS, {})
        if __version__ not in versions:
            versions[__version__] = len(self._rows)
            self._write_config()
        with naming(self.path):
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

    A network that is there twice is counted once, with a warning.

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
        row = parsed(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines) or rest:
            raise ValueError(f"line {number} of {path} is not a row of an archive.")
    size = sum(len(line) + 1 for line in lines[: len(rows)])
    return _once(rows, path), size


def _check_no_other(path: pathlib.Path) -> None:
    """Raise ValueError where rows beside an archive's own file are those of the folder's config."""
    if not (path.parent / CONFIG).is_file():
        return
    for other in sorted(path.parent.glob("*.jsonl")):
        with other.open("rb") as file:
            has_rows = parsed(file.readline()) is not None
        if other != path and has_rows:
            raise ValueError(
                f"workdir {path.parent} holds a run of another kind, whose rows are in "
                f"{other.name}: give another workdir."
            )


def _numbers() -> dict[str, Any]:
    """Settings of JAX that change numbers, where they are not its defaults."""
    values = {name: getattr(jax.config, name) for name in _JAX}
    return {name: value for name, value in values.items() if value != _JAX[name]}


def _once(rows: list[Row], path: str | os.PathLike) -> list[Row]:
    """The rows, each network's first alone."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["id"], row)
    if len(first) < len(rows):
        warnings.warn(
            f"{len(rows) - len(first)} of {len(rows)} rows of {path} are of networks that it has "
            "already: each is counted once.",
            stacklevel=4,
        )
    return list(first.values())


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
        raise ValueError(f"{what} is of {row['id']!r}, but this run has {expected!r} here.")


def check_complete(archive: Sequence[Row], size: int) -> None:
    """Raise ValueError if an archive holds more than the `size` rows of its search."""
    if len(archive) > size:
        raise ValueError(
            f"the archive holds {len(archive)} rows, but this run has only {size} networks: ask "
            "for as many, or give another workdir."
        )
