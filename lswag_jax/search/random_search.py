"""Random search, and the legal random genotypes that every search starts from."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from lswag_jax.options import Checked, Number, Seed
from lswag_jax.runs.archive import Archive, Evaluate, check_complete, extend
from lswag_jax.runs.draw import draw, shortage
from lswag_jax.runs.shards import Shard
from lswag_jax.scoring.costs import Costs
from lswag_jax.scoring.rows import Row
from lswag_jax.spaces import Space
from lswag_jax.spaces.base import sizes

Window = tuple[float, float]
MEASURED = ("latency", "memory")  # whose windows need measurements
_NUM_PROBES = 1000  # random genotypes whose sizes an error reports
_MEASURED_PATIENCE = 100  # networks measured in a row that may lie outside: a second or more each
_LOG = logging.getLogger("lswag_jax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(Checked):
    """What every search needs.

    Args:
        seed: of the proposals.
        params_window: smallest and largest number of parameters, inclusive; None sets no limit.
        macs_window: the same of multiply-accumulates.
        latency_window: the same of the proxy `latency`, in seconds. A proposal within the other
            windows is compiled and measured before it is scored.
        memory_window: the same of the proxy `memory`, in bytes.
        patience: random proposals that may fail in a row, as duplicates or outside a window; of
            networks that are measured for a window 100 may.

    Raises:
        ValueError: an option outside its range.
    """

    seed: Seed = 0
    params_window: Window | None = None
    macs_window: Window | None = None
    latency_window: Window | None = None
    memory_window: Window | None = None
    patience: Number = 10_000

    def __post_init__(self) -> None:
        for field in ("params", "macs", *MEASURED):
            field = f"{field}_window"
            window = getattr(self, field)
            if window is None:
                continue
            is_pair = np.shape(window) == (2,) and None not in tuple(window)
            if not is_pair or not window[0] <= window[1]:
                raise ValueError(f"{field} must be (smallest, largest) or None, got {window}.")
            object.__setattr__(self, field, tuple(window))
        super().__post_init__()

    @property
    def measured(self) -> dict[str, Window]:
        """The windows that need measurements, by the names of their proxies."""
        windows = {name: getattr(self, f"{name}_window") for name in MEASURED}
        return {name: window for name, window in windows.items() if window is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomOptions(SearchOptions):
    """Options of random search, besides those of `SearchOptions`.

    Args:
        num: genotypes to evaluate, all different.
        shard: this worker's share of them; None takes all. Workers would measure differently, so
            there is none with a window of latency or memory.

    Example:
        >>> RandomOptions(num=500, params_window=(4e6, 9e6)).total
        500
    """

    num: Number = 1000
    shard: Shard | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard and self.measured:
            raise ValueError(
                f"{next(iter(self.measured))}_window must not be set with a shard, since workers "
                "would measure differently."
            )

    @property
    def total(self) -> int:
        """Genotypes to evaluate."""
        return len(self.own(range(self.num)))

    def own(self, genotypes: Sequence[Any]) -> Sequence[Any]:
        """The shard's genotypes among all."""
        return self.shard.share(genotypes) if self.shard else genotypes


def search(
    space: Space,
    evaluate: Evaluate,
    options: RandomOptions,
    archive: list[Row] | Archive,
    costs: Costs | None = None,
) -> None:
    """Evaluates `options.total` random legal genotypes; resumes where the archive ends.

    Args:
        space: the search space.
        evaluate: yields a row for each genotype, in order.
        options: see `RandomOptions`.
        archive: receives the rows.
        costs: measures for the windows of latency and memory.

    Raises:
        ValueError: the windows cannot be met, or the archive is of another search.

    Example:
        >>> from lswag_jax import spaces
        >>> space, archive = spaces.get("autoformer_tiny"), []
        >>> rows = lambda genotypes: ({"id": space.format(g)} for g in genotypes)
        >>> search(space, rows, RandomOptions(num=7), archive)
        >>> len(archive)
        7
    """
    rng = np.random.default_rng([options.seed, 0])
    genotypes = require_legal(space, rng, options.num, options, costs)
    check_complete(archive, extend(archive, 0, space, options.own(genotypes), evaluate))


def is_legal(
    space: Space,
    genotype: Any,
    options: SearchOptions,
    seen: set[str],
    costs: Costs | None = None,
) -> bool:
    """Whether a genotype is new and within the windows; a legal one is added to `seen`.

    Args:
        space: of the genotype.
        genotype: proposed.
        options: the windows.
        seen: names (`Space.format`) of the genotypes proposed before.
        costs: measures for the windows of latency and memory.
    """
    name = space.format(genotype)
    legal = (
        name not in seen
        and _sizes_inside(options, space, genotype)
        and _costs_inside(options, genotype, costs)
    )
    if legal:
        seen.add(name)
    return legal


def _sizes_inside(options: SearchOptions, space: Space, genotype: Any) -> bool:
    """Whether counts are within their windows; those of a network that cannot be made never are.

    A window that holds all numbers asks for none, so that such a network becomes a row.
    """
    windows = {"params": options.params_window, "macs": options.macs_window}
    asked = {name: w for name, w in windows.items() if w is not None and not _is_open(w)}
    found = sizes(space, genotype) if asked else {}
    pairs = ((window, found[name]) for name, window in asked.items())
    return all(n is not None and low <= n <= high for (low, high), n in pairs)


def _is_open(window: Window | None) -> bool:
    return window is None or (window[0] <= 0 and window[1] == np.inf)


def _costs_inside(options: SearchOptions, genotype: Any, costs: Costs | None) -> bool:
    """Whether measured costs are within their windows; measured last, as it takes longest."""
    if not options.measured:
        return True
    if costs is None:
        raise ValueError(f"{next(iter(options.measured))}_window needs the argument costs.")
    found = costs.agreed(genotype)
    return all(low <= found[name] <= high for name, (low, high) in options.measured.items())


def sample_legal(
    space: Space,
    rng: np.random.Generator,
    num: int,
    options: SearchOptions,
    seen: set[str],
    costs: Costs | None = None,
) -> list[Any]:
    """Up to `num` random legal genotypes; fewer if `options.patience` runs out (`runs.draw`).

    Args:
        space: the search space.
        rng: source of randomness.
        num: genotypes wanted.
        options: the windows and the patience.
        seen, costs: see `is_legal`.
    """

    outside: set[str] = set()  # networks in a row that were measured and are not in the windows

    def is_wanted(genotype: Any) -> bool:
        if len(outside) >= _MEASURED_PATIENCE:
            return False
        before = (costs.asked if costs else 0), len(outside)
        legal = is_legal(space, genotype, options, seen, costs)
        if legal:
            outside.clear()
        elif costs and costs.asked > before[0]:
            outside.add(space.format(genotype))
        if len(outside) > before[1] and len(outside) % 10 == 0:
            _LOG.info("measured %d networks in a row that lie outside the windows", len(outside))
        return legal

    return draw(space, rng, num, is_wanted, options.patience)


def require_legal(
    space: Space,
    rng: np.random.Generator,
    num: int,
    options: SearchOptions,
    costs: Costs | None = None,
) -> list[Any]:
    """Exactly `num` random legal genotypes.

    Args:
        space, rng, num, options, costs: as in `sample_legal`.

    Raises:
        ValueError: the patience ran out.
    """
    found = sample_legal(space, rng, num, options, set(), costs)
    if len(found) == num:
        return found
    windows = {"params": options.params_window, "macs": options.macs_window} | options.measured
    if all(map(_is_open, windows.values())):
        raise ValueError(shortage(space, len(found), num))
    probes = space.sample(np.random.default_rng([options.seed, 0]), _NUM_PROBES)
    counted = [sizes(space, g) for g in probes]
    extremes = {
        name: _extremes([n for found in counted if (n := found[name]) is not None])
        for name in ("params", "macs")
    }
    for name in options.measured:
        measured = [known[name] for known in costs.known.values()] if costs else []
        extremes[name] = _extremes([m for m in measured if np.isfinite(m)])
    unmade = sum(None in own.values() for own in counted)
    failing = f"; {unmade:,} of {len(probes):,} drawn cannot be made" if unmade else ""
    failed = f"{options.patience} random ones"
    if options.measured:
        failed = f"{failed}, or {_MEASURED_PATIENCE} that were measured,"
    asked = _listed([f"{name} in {_show(window)}" for name, window in windows.items()])
    raise ValueError(
        f"only {len(found)} of {num} different genotypes of {space.name} were found with {asked}, "
        f"then {failed} in a row failed: they have "
        f"{_listed([_named(value, name) for name, value in extremes.items()])}{failing}."
    )


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]])


def _named(value: str, name: str) -> str:
    unit = {"latency": " seconds of", "memory": " bytes of"}.get(name, "")
    return f"{value}{unit} {name}"


def _show(window: Window | None) -> str:
    return "[0, inf]" if window is None else f"[{window[0]:.10g}, {window[1]:.10g}]"


def _extremes(sizes: Sequence[float]) -> str:
    """The smallest and largest; a measured size to four digits."""
    if not sizes:
        return "unknown"
    low, high = (s if isinstance(s, int) else f"{s:.4g}" for s in (min(sizes), max(sizes)))
    return f"{low} to {high}"
