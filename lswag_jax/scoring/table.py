"""ScoreTable: what scoring leaves behind, one row an architecture."""

import functools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import scipy

from lswag_jax.files import dump_row, write_atomically, write_csv, write_parquet
from lswag_jax.options import typed, typed_methods
from lswag_jax.proxies import Cost, Proxy
from lswag_jax.proxies.base import blamed
from lswag_jax.scoring.diagnosis import Diagnosis, diagnose
from lswag_jax.scoring.rows import Row, read_row

# Mildest first; all but the first two are failures.
STATUSES = ("ok", "negative_lambda", "not_applicable", "degenerate", "nan", "inf", "error")
NAN_POLICIES = ("worst_rank", "fill", "drop")
FILL = -1e8  # NAS-Bench-Suite-Zero's value of a failed proxy, only for replaying its tables


def _stacked(values: list) -> np.ndarray:
    """Arrays [R, ...] as one [P, R, ...]; shorter vectors are filled up with NaN.

    Networks of a space without an elastic one differ in their number of layers.
    """
    arrays = [np.asarray(value, np.float64) for value in values]
    longest = np.max([array.shape for array in arrays], axis=0)
    whole = np.full((len(arrays), *longest), np.nan)
    for i, array in enumerate(arrays):
        whole[(i, *map(slice, array.shape))] = array
    return whole


def _applies(row: Any, proxy: str) -> bool:
    """Whether a row has parts of a proxy that has something to measure there."""
    parts = row.get("parts", {}).get(proxy)
    return parts is not None and "not_applicable" not in parts


def _part(row: Any, proxy: str, key: str) -> list:
    """A part of a proxy in a row; ValueError where the row lacks it, as others do not."""
    if key not in row["parts"][proxy]:
        raise ValueError(f"row {row['id']!r} of scores lacks parts.{proxy}.{key}.")
    return row["parts"][proxy][key]


def _check_pool(proxy: Proxy, scores: Any, status: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless a proxy's scores and statuses have this shape."""
    shapes = np.shape(scores), np.shape(status)
    if shapes != (shape, shape) or not np.isin(status, STATUSES).all():
        raise ValueError(
            f"pool of the proxy {proxy.key} must return scores and statuses of shape {shape}, each "
            f"of the latter one of {', '.join(STATUSES)}; got shapes {shapes[0]} and {shapes[1]}."
        )


@typed_methods
class ScoreTable:
    """Scores of a population; every score is oriented so that larger is predicted better.

    `table["lswag"]` is the float64 array [P] of scores, the mean over the repeats, `table.std` its
    standard deviation and `table.raw` the quantity as measured, before any rule over the pool.

    Args:
        rows: one an architecture, see `Row`.
        proxies: the configured proxies.
        timing: seconds of the run, split as `compile` and `score`.

    Example:
        >>> from lswag_jax import proxies
        >>> row = {"id": "a", "genotype": {}, "params": 7, "macs": 9, "seconds": 0.0,
        ...        "degenerate": [False], "parts": {"params": {}}}
        >>> ScoreTable([row], proxies.resolve("params"))["params"]
        array([7.])
    """

    @typed
    def __init__(
        self,
        rows: Iterable[Row],
        proxies: Sequence[Proxy],
        timing: Mapping[str, float] | None = None,
    ) -> None:
        self.rows = list(rows)
        self.proxies = tuple(proxies)
        self.timing = dict(timing or {})
        self.scores: dict[str, np.ndarray] = {}
        self.std: dict[str, np.ndarray] = {}
        self.raw: dict[str, np.ndarray] = {}
        self.per_repeat: dict[str, np.ndarray] = {}
        self.statuses: dict[str, np.ndarray] = {}
        self.rules: dict[str, str] = {}
        self._check_rows()
        for proxy in self.proxies:
            self._score(proxy)

    def _check_rows(self) -> None:
        """Raises ValueError where a row lacks what its scores are made of."""
        probed = [proxy.key for proxy in self.proxies if proxy.passes]
        costs = [proxy.key for proxy in self.proxies if isinstance(proxy, Cost)]
        for row in self.rows:
            missing = [key for key in ("id", "params", "macs") if key not in row]
            missing += [key for key in costs if key not in row.get("costs", ())]
            if probed and "error" not in row:
                missing += [key for key in ("degenerate", "parts") if key not in row]
                missing += [name for name in probed if name not in row.get("parts", {name: 0})]
            if missing:
                raise ValueError(f"row {row.get('id')!r} of scores lacks {', '.join(missing)}.")

    def _score(self, proxy: Proxy) -> None:
        name, failed = proxy.key, np.array(["error" in row for row in self.rows], bool)
        if not proxy.passes:
            raw = self._sizes(proxy)[:, None]
            scores, rule = raw, "score"
            status = np.where(np.isnan(raw), "nan", "ok").astype(object)
        elif failed.all():
            raw = scores = np.full((len(self.rows), 1), np.nan)
            status, rule = np.full(raw.shape, "error", object), "score"
        else:
            parts = self._arrays(name)
            raw = np.asarray(parts["score"], np.float64)
            degenerate = np.zeros(raw.shape, bool)
            degenerate[~failed] = [row["degenerate"] for row in self._plain if "error" not in row]
            if "not_applicable" in parts:
                scores, rule = raw, "score"
                status = np.full(raw.shape, "not_applicable", object)
            else:
                sizes = {key: self.column(key)[:, None] for key in ("params", "macs")}
                with blamed(proxy, "pool"):
                    scores, status, rule = proxy.pool(sizes | parts, degenerate)
                _check_pool(proxy, scores, status, raw.shape)
                status[[not _applies(row, name) for row in self.rows]] = "not_applicable"
            status[failed] = "error"
        severity = np.vectorize(STATUSES.index, otypes=[int])(status)
        self.rules[name], self.per_repeat[name] = rule, scores
        with np.errstate(invalid="ignore"):
            self.scores[name], self.std[name] = scores.mean(1), scores.std(1)
            self.raw[name] = raw.mean(1)
        self.statuses[name] = np.array([STATUSES[s] for s in severity.max(1, initial=0)], object)

    def _sizes(self, proxy: Proxy) -> np.ndarray:
        """What a proxy without passes reads of the rows [P]: a column, or a measured cost."""
        if isinstance(proxy, Cost):
            return np.array([row["costs"][proxy.key] for row in self._plain], np.float64)
        return self.column(proxy.name).astype(np.float64)

    @property
    def _plain(self) -> list[dict[str, Any]]:
        """The rows, of which those that did not fail have all entries."""
        return cast(list[dict[str, Any]], self.rows)

    def _arrays(self, proxy: str) -> dict[str, np.ndarray]:
        """Parts of a proxy as arrays [P, R, ...]; NaN where an architecture failed."""
        good = [i for i, row in enumerate(self.rows) if _applies(row, proxy)]
        good = good or [i for i, row in enumerate(self.rows) if "error" not in row]
        arrays = {}
        for key in ("score", *self._plain[good[0]]["parts"][proxy]) if good else ():
            values = _stacked([_part(self._plain[i], proxy, key) for i in good])
            arrays[key] = np.full((len(self.rows), *values.shape[1:]), np.nan)
            arrays[key][good] = values
        return arrays

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.status == s).sum()} {s}" for s in STATUSES if s in self.status)
        return f"<ScoreTable of {len(self)} architectures ({counts}): {', '.join(self)}>"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, proxy: str) -> np.ndarray:
        if not isinstance(proxy, str) or proxy not in self.scores:
            raise ValueError(f"the table has no proxy {proxy!r}, it has {', '.join(self.scores)}.")
        return self.scores[proxy]

    def __contains__(self, proxy: object) -> bool:
        return proxy in self.scores

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def column(self, name: str) -> np.ndarray:
        """A field of the rows, such as `id`, `params`, `macs` or `seconds`, as an array [P]."""
        if any(name not in row for row in self.rows):
            known = ", ".join(self.rows[0])
            raise ValueError(f"the rows have no field {name!r}, they have {known}.")
        values = [row[name] for row in self.rows]
        is_gap = name in ("params", "macs") and None in values
        return np.array(values, float if is_gap else None)

    @property
    def ids(self) -> list[str]:
        """Names of the architectures."""
        return [row["id"] for row in self.rows]

    @property
    def genotypes(self) -> list[Any]:
        """JSON genotypes."""
        return [row["genotype"] for row in self.rows]

    @property
    def status(self) -> np.ndarray:
        """The most severe status over the proxies, of each architecture [P]."""
        worst = [
            max((s[i] for s in self.statuses.values()), key=STATUSES.index, default="ok")
            for i in range(len(self))
        ]
        return np.array(worst, object)

    @functools.cached_property
    def parts(self) -> dict[str, dict[str, np.ndarray]]:
        """For each proxy its parts, arrays [P, ...], the mean over the repeats."""
        return {
            proxy.key: {key: value.mean(1) for key, value in self._arrays(proxy.key).items()}
            for proxy in self.proxies
            if proxy.passes
        }

    def values(self, proxy: str, nan_policy: str = "worst_rank") -> np.ndarray:
        """Scores for ranking, failures treated by one policy.

        Args:
            proxy: a proxy of the table.
            nan_policy: "worst_rank" puts failures below all others (-inf, tied), "fill" gives them
                NAS-Bench-Suite-Zero's -1e8, "drop" leaves NaN for the caller to drop.

        Raises:
            ValueError: an unknown policy or proxy.
        """
        scores = self[proxy]  # raises for an unknown one
        failed = np.isin(self.statuses[proxy], STATUSES[2:])
        return replace_failures(scores, failed, nan_policy)

    def rank(self, proxy: str) -> np.ndarray:
        """Rank of each architecture, 1 is best, ties averaged; failures share the worst ranks."""
        return scipy.stats.rankdata(-self.values(proxy))

    def best(self, proxy: str) -> int:
        """Index of the best architecture; the first of equals.

        Raises:
            ValueError: none has a score of this proxy.
        """
        values = self.values(proxy)
        if not (values > -np.inf).any():
            raise ValueError(f"none of the {len(self)} architectures has a score of {proxy}.")
        return int(np.argmax(values))

    def diagnose(self, again: "ScoreTable | None" = None) -> dict[str, Diagnosis]:
        """Whether there is anything to trust in the scores, without accuracies.

        Args:
            again: the same networks measured once more: by another seed, on other images, or on
                the other half of the batch. Without it and with one repeat stability is unknown.

        Returns:
            Of each proxy its failures, ties, saturation, stability over seeds and tables, rank
            correlation with size, and a `sentence` that says what follows.

        Raises:
            ValueError: the second table has none of the networks, or not a proxy of this one.

        Example:
            >>> from lswag_jax import proxies
            >>> rows = [{"id": str(n), "genotype": {}, "params": n, "macs": 9} for n in range(12)]
            >>> found = ScoreTable(rows, proxies.resolve("params")).diagnose()["params"]
            >>> found.with_params, found.failed
            (1.0, 0.0)
        """
        return diagnose(self, again)

    def flat(self) -> dict[str, list]:
        """Columns of plain values: what CSV and Parquet hold."""
        columns: dict[str, list] = {"id": self.ids}
        columns["genotype"] = [json.dumps(g, separators=(",", ":")) for g in self.genotypes]
        for name in ("params", "macs", "seconds"):
            columns[name] = [row[name] for row in self.rows]
        columns["status"] = self.status.tolist()
        for proxy in self.proxies:
            name = proxy.key
            if name not in columns:
                columns[name] = self[name].tolist()
            columns[f"{name}_status"] = self.statuses[name].tolist()
            if self.per_repeat[name].shape[1] > 1:
                columns[f"{name}_std"] = self.std[name].tolist()
            for key, value in self.parts.get(name, {}).items():
                if value.ndim == 1 and key not in ("score", "not_applicable"):
                    columns[f"{name}_{key}"] = value.tolist()
        return columns

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes the plain columns as CSV."""
        write_csv(path, self.flat())

    def to_parquet(self, path: str | os.PathLike) -> None:
        """Writes the plain columns as Parquet."""
        write_parquet(path, self.flat())

    def to_jsonl(self, path: str | os.PathLike) -> None:
        """Writes the rows with all parts, one JSON object a line; `from_jsonl` reads them back."""
        write_atomically(path, "".join(dump_row(row) + "\n" for row in self.rows))

    @classmethod
    def from_jsonl(cls, path: str | os.PathLike, proxies: Sequence[Proxy]) -> Self:
        """A table from `to_jsonl`'s file or from a run's appended rows.

        Args:
            path: the file.
            proxies: the configured proxies that made it.

        Raises:
            ValueError: a line is no row of scores.
        """
        lines = enumerate(pathlib.Path(path).read_bytes().splitlines(), start=1)
        return cls([read_row(line, f"line {number} of {path}") for number, line in lines], proxies)


def replace_failures(values: np.ndarray, failed: np.ndarray, nan_policy: str) -> np.ndarray:
    """Values with what a policy puts in the place of failures (see `ScoreTable.values`).

    Example:
        >>> replace_failures([1.0, 0.0], [False, True], "fill").tolist()
        [1.0, -100000000.0]

    Raises:
        ValueError: an unknown policy.
    """
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy must be one of {NAN_POLICIES}, got {nan_policy!r}.")
    stand_in = {"worst_rank": -np.inf, "fill": FILL, "drop": np.nan}[nan_policy]
    return np.where(failed, stand_in, values)
