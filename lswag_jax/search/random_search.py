"""Random search, and the legal random genotypes that every search starts from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lswag_jax.options import Checked, Count, Seed
from lswag_jax.runs.archive import Archive, Evaluate, check_complete, extend
from lswag_jax.runs.draw import draw, shortage
from lswag_jax.runs.shards import Shard
from lswag_jax.scoring.rows import Row
from lswag_jax.spaces import Space

Window = tuple[float, float]
_NUM_PROBES = 1000  # random genotypes whose sizes an error reports


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(Checked):
    """What every search needs.

    Args:
        seed: of the proposals.
        params_window: smallest and largest number of parameters, inclusive; None sets no limit.
        macs_window: the same of multiply-accumulates.
        patience: random proposals that may fail in a row, as duplicates or outside a window.

    Raises:
        ValueError: an option outside its range.
    """

    seed: Seed = 0
    params_window: Window | None = None
    macs_window: Window | None = None
    patience: Count = 10_000

    def __post_init__(self) -> None:
        for field in ("params_window", "macs_window"):
            window = getattr(self, field)
            if window is None:
                continue
            if np.shape(window) != (2,) or not window[0] <= window[1]:
                raise ValueError(f"{field} must be (smallest, largest) or None, got {window}.")
            object.__setattr__(self, field, tuple(window))
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomOptions(SearchOptions):
    """Options of random search, besides those of `SearchOptions`.

    Args:
        num: genotypes to evaluate, all different.
        shard: this worker's share of them; None takes all.

    Example:
        >>> RandomOptions(num=500, params_window=(4e6, 9e6)).total
        500
    """

    num: Count = 1000
    shard: Shard | None = None

    @property
    def total(self) -> int:
        """Genotypes to evaluate."""
        return len(self.own(range(self.num)))

    def own(self, genotypes: Sequence[Any]) -> Sequence[Any]:
        """Of all genotypes those of the shard."""
        return self.shard.of(genotypes) if self.shard else genotypes


def search(
    space: Space, evaluate: Evaluate, options: RandomOptions, archive: list[Row] | Archive
) -> None:
    """Evaluates `options.total` random legal genotypes; resumes where the archive ends.

    Args:
        space: the search space.
        evaluate: yields a row for each genotype, in order.
        options: see `RandomOptions`.
        archive: receives the rows.

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
    genotypes = require_legal(space, np.random.default_rng([options.seed, 0]), options.num, options)
    check_complete(archive, extend(archive, 0, space, options.own(genotypes), evaluate))


def is_legal(space: Space, genotype: Any, options: SearchOptions, seen: set[str]) -> bool:
    """Whether a genotype is new and within the windows; a legal one is added to `seen`.

    Args:
        space: of the genotype.
        genotype: proposed.
        options: the windows.
        seen: names (`Space.format`) of the genotypes proposed before.
    """
    name = space.format(genotype)
    legal = (
        name not in seen
        and _inside(options.params_window, space.num_params, genotype)
        and _inside(options.macs_window, space.macs, genotype)
    )
    if legal:
        seen.add(name)
    return legal


def _inside(window: Window | None, size, genotype: Any) -> bool:
    return window is None or window[0] <= size(genotype) <= window[1]


def sample_legal(
    space: Space, rng: np.random.Generator, num: int, options: SearchOptions, seen: set[str]
) -> list[Any]:
    """Up to `num` random legal genotypes; fewer if `options.patience` runs out (`runs.draw`).

    Args:
        space: the search space.
        rng: source of randomness.
        num: genotypes wanted.
        options: the windows and the patience.
        seen: see `is_legal`.
    """
    return draw(space, rng, num, lambda g: is_legal(space, g, options, seen), options.patience)


def require_legal(
    space: Space, rng: np.random.Generator, num: int, options: SearchOptions
) -> list[Any]:
    """Exactly `num` random legal genotypes.

    Args:
        space, rng, num, options: as in `sample_legal`.

    Raises:
        ValueError: the patience ran out.
    """
    found = sample_legal(space, rng, num, options, set())
    if len(found) == num:
        return found
    if all(w is None or w == (0, np.inf) for w in (options.params_window, options.macs_window)):
        raise ValueError(shortage(space, len(found), num))
    probes = space.sample(np.random.default_rng([options.seed, 0]), _NUM_PROBES)
    raise ValueError(
        f"only {len(found)} of {num} different genotypes of {space.name} were found with params in "
        f"{_show(options.params_window)} and macs in {_show(options.macs_window)}, then "
        f"{options.patience} random ones in a row failed: they have "
        f"{_extremes([space.num_params(g) for g in probes])} params and "
        f"{_extremes([space.macs(g) for g in probes])} macs."
    )


def _show(window: Window | None) -> str:
    return "[0, inf]" if window is None else f"[{window[0]:.10g}, {window[1]:.10g}]"


def _extremes(sizes: Sequence[int]) -> str:
    return f"{min(sizes)} to {max(sizes)}"
