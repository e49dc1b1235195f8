"""The folder of a run that independent workers share, or the processes of a job.

Worker k of n takes genotypes k, k + n, ... and writes `workdir/shard-k-of-n`, an archive like any
other. A run of the whole in `workdir` takes the rows that its shards hold and evaluates the others:
it ends with the archive of a run without shards.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Self

from lswag_jax.options import Checked, Natural, typed
from lswag_jax.runs.archive import ARCHIVE, Archive, Evaluate, plain
from lswag_jax.scoring import devices as distributed
from lswag_jax.scoring.rows import Row, check_row
from lswag_jax.spaces import Space


@dataclasses.dataclass(frozen=True)
class Shard(Checked):
    """The share of worker k of n.

    Args:
        k: the worker, from 0.
        n: number of workers.

    Raises:
        ValueError: k is not in [0, n).

    Example:
        >>> shard = Shard.parse("1/3")
        >>> shard.share("abcdefgh"), shard.folder("results").name
        ('beh', 'shard-1-of-3')
    """

    k: Natural
    n: Natural

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k >= self.n:
            raise ValueError(f"a shard k/n must have 0 <= k < n, got {self.k}/{self.n}.")

    @classmethod
    @typed
    def parse(cls, text: str) -> Self:
        """A shard written as k/n."""
        if not re.fullmatch(r"[0-9]+/[0-9]+", text):
            raise ValueError(f"a shard is written k/n, such as 0/8, got {text!r}.")
        return cls(*map(int, text.split("/")))

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """The items of this worker."""
        return items[self.k :: self.n]

    def folder(self, workdir: str | os.PathLike) -> pathlib.Path:
        """The worker's own folder."""
        return pathlib.Path(workdir) / f"shard-{self.k}-of-{self.n}"


@contextlib.contextmanager
def open_archive(
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    exempt: Sequence[str] = (),
    check: Callable[[Row, str], None] = check_row,
) -> Iterator[tuple[Archive | list[Row], dict[str, Row]]]:
    """Opens the archive of a run, on the first process of a job for all of them.

    Args:
        workdir, config, exempt: as in `Archive`.
        check: raises ValueError for a row that the run does not write, which it names.

    Yields:
        The `Archive` on the first process, a list of its rows on the others; and the rows that the
        run's shards hold, by their ids.

    Raises:
        ValueError: as `Archive` does; an empty workdir; a shard is of another run, or its worker
            is still at work; or the processes differ in their config.
    """
    if not os.fspath(workdir):
        raise ValueError("workdir is empty: give the folder of the run.")
    distributed.check_same("config or data", json.dumps(plain(config)))
    archives: list[Archive] = []
    with contextlib.ExitStack() as stack:

        def read() -> tuple[list[Row], dict[str, Row]]:
            archives.append(stack.enter_context(Archive(workdir, config, exempt)))
            rows = _checked(archives[0], check)
            return rows, _read_shards(workdir, config, exempt, check)

        rows, found = distributed.on_first(read)
        yield archives[0] if archives else rows, found


def _read_shards(workdir, config, exempt, check) -> dict[str, Row]:
    """Rows of the shards of a run by their ids."""
    rows: dict[str, Row] = {}
    for path in sorted(pathlib.Path(workdir).glob(f"shard-*-of-*/{ARCHIVE}")):
        with Archive(path.parent, config, exempt) as archive:
            rows |= {row["id"]: row for row in _checked(archive, check)}
    return rows


def _checked(archive: Archive, check: Callable[[Row, str], None]) -> list[Row]:
    """The rows of an archive, none of them edited into what its run does not write."""
    for number, row in enumerate(archive, start=1):
        check(row, f"row {number} of {archive.path}")
    return list(archive)


def reuse(space: Space, found: MutableMapping[str, Row], evaluate: Evaluate) -> Evaluate:
    """`evaluate`, but rows that were found are taken as they are.

    Args:
        space: of the genotypes.
        found: rows by their ids; one that is taken is removed, so that memory holds it once.
        evaluate: yields a row for each genotype, in order.

    Example:
        >>> import numpy as np
        >>> from lswag_jax import spaces
        >>> space = spaces.get("nasbench201")
        >>> a, b = space.sample(np.random.default_rng(0), 2)
        >>> found = {space.format(b): "found"}
        >>> list(reuse(space, found, lambda genotypes: ["new" for g in genotypes])([a, b]))
        ['new', 'found']
    """

    def reusing(genotypes: Sequence[Any]) -> Iterator[Row]:
        ids = [space.format(g) for g in genotypes]
        new = iter(evaluate([g for g, i in zip(genotypes, ids, strict=True) if i not in found]))
        for i in ids:
            yield found.pop(i) if i in found else next(new)
        yield from new  # none, but `evaluate` comes to its end

    return reusing
