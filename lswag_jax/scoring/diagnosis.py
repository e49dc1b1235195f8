"""What a table of scores says of itself, without accuracies: is there anything to trust?

A score that another seed or other images order anew measures noise: two measurements that
correlate with r cannot correlate with anything else by more than about sqrt(r) (Spearman, The proof
and measurement of association between two things, 1904; of the mean of several, r rises by the
formula of Spearman and Brown, 1910). One that orders networks as their size does says nothing that
size does not. What a stable score of its own measures only accuracies can tell.
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from lswag_jax.proxies.base import Proxy

if TYPE_CHECKING:
    from lswag_jax.scoring.table import ScoreTable

FEWEST = 10  # networks below which a rank correlation says nothing
STABLE, SHAKY = 0.9, 0.7  # rank correlations of two measurements
OF_SIZE = 0.9  # |rho| with size above which a score orders networks as their size does
MANY = 0.1  # share of failures, or of networks that share a score, that is told


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is known of one proxy's scores without accuracies; None where it cannot be known.

    Rank correlations are Spearman's, of networks that did not fail.

    Attributes:
        proxy: its name.
        networks: how many the table has.
        failed: share of them without a usable score.
        tied: share of the others whose score another one has, too.
        saturated: of proxies that count patterns, share of networks with as many as there can be.
        repeats: initialisations that the score is the mean of; 0 of what is counted, such as size.
        over_seeds: rank correlation of two of them, the mean over pairs.
        over_tables: rank correlation with the second table.
        with_params, with_macs: rank correlation with size.
    """

    proxy: str
    networks: int
    failed: float
    tied: float
    saturated: float | None
    repeats: int
    over_seeds: float | None
    over_tables: float | None
    with_params: float | None
    with_macs: float | None

    @property
    def stability(self) -> float | None:
        """The smaller of both rank correlations of two measurements; None without any."""
        return min(_known(self.over_seeds, self.over_tables), default=None)

    @property
    def ceiling(self) -> float | None:
        """The largest rho with accuracies that such a stability allows, about."""
        bounds = []
        if self.over_seeds is not None:  # the score is the mean of the repeats
            r = max(self.over_seeds, 0.0)
            bounds.append(self.repeats * r / (1 + (self.repeats - 1) * r))
        if self.over_tables is not None:  # of such means, as they are
            bounds.append(max(self.over_tables, 0.0))
        return float(np.sqrt(min(bounds))) if bounds else None

    @property
    def size(self) -> tuple[str, float] | None:
        """The size that the score follows more, and the rank correlation with it."""
        found = [("#params", self.with_params), ("MACs", self.with_macs)]
        known = [(name, rho) for name, rho in found if rho is not None]
        return max(known, key=lambda pair: abs(pair[1]), default=None)

    @property
    def sentence(self) -> str:
        """What follows, in plain words."""
        usable = round(self.networks * (1 - self.failed))
        if usable < FEWEST:
            return (
                f"{self.proxy}: only {usable} of {self.networks} networks have a score, "
                f"too few to say anything (at least {FEWEST} are needed)."
            )
        parts = [self._of_stability()] * (self.repeats > 0) + [self._of_size()]
        if self.failed > MANY:
            parts.append(f"{self.failed:.0%} of the networks have no score and rank last")
        if self.saturated is not None and self.saturated > MANY:
            parts.append(
                f"{self.saturated:.0%} of the networks have as many patterns as there can be, so "
                "that these no longer tell them apart"
            )
        elif self.tied > MANY:
            parts.append(f"{self.tied:.0%} of the scores are shared by several networks")
        return f"{self.proxy}: {'; '.join(parts)}."

    def _of_stability(self) -> str:
        r = self.stability
        if r is None:
            return "how stable it is was not measured (take repeats or a second table)"
        figure = f"two measurements correlate by {r:.2f}"
        if r >= STABLE:
            return f"stable ({figure}), so noise is not what limits it"
        bound = f"so its rho with accuracies is at most about {self.ceiling:.2f}"
        if r >= SHAKY:
            return f"somewhat noisy ({figure}, {bound}): average more seeds or take more images"
        return f"do not trust it here: it is mostly noise ({figure}, {bound})"

    def _of_size(self) -> str:
        if self.size is None:
            return "all networks have one size or one score"
        name, rho = self.size
        if rho >= OF_SIZE:
            return f"it orders networks as {name} does (rho {rho:.2f}), which costs nothing"
        if rho <= -OF_SIZE:
            return f"it orders networks against {name} (rho {rho:.2f}): smaller ones come first"
        return f"it is not just size (rho with {name} {rho:.2f}); only accuracies tell what else"

    def to_json(self) -> dict[str, Any]:
        """All figures and the sentence as plain values."""
        found = {"stability": self.stability, "ceiling": self.ceiling, "sentence": self.sentence}
        return dataclasses.asdict(self) | found


def diagnose(table: "ScoreTable", again: "ScoreTable | None" = None) -> dict[str, Diagnosis]:
    """Looks at every proxy of a table; see `ScoreTable.diagnose`.

    Example:
        >>> from lswag_jax.proxies import resolve
        >>> from lswag_jax.scoring import ScoreTable
        >>> rows = [{"id": str(n), "genotype": {}, "params": n, "macs": n % 4} for n in range(12)]
        >>> print(diagnose(ScoreTable(rows, resolve("params")))["params"].sentence)
        params: it orders networks as #params does (rho 1.00), which costs nothing.
    """
    return {proxy.key: _of_proxy(table, proxy, again) for proxy in table.proxies}


def _of_proxy(table: "ScoreTable", proxy: Proxy, again: "ScoreTable | None") -> Diagnosis:
    name = proxy.key
    scores, repeats = table.values(name), table.per_repeat[name]
    good = np.isfinite(scores)
    repeated = repeats[good]
    pairs = itertools.combinations(repeated.T, 2)
    seeds = _known(*(_rho(a, b) for a, b in pairs))
    _, counts = np.unique(scores[good], return_counts=True)
    patterns = table.parts.get(name, {}).get("psi_saturation")
    return Diagnosis(
        name,
        len(table),
        float(1 - good.mean()) if len(table) else 0.0,
        float(counts[counts > 1].sum() / max(good.sum(), 1)),
        None if patterns is None else float((patterns[good] >= 1).sum() / max(good.sum(), 1)),
        repeats.shape[1] if proxy.passes else 0,
        float(np.mean(seeds)) if seeds else None,
        _over_tables(table, name, again) if proxy.passes else None,
        *(_rho(scores[good], table.column(size)[good]) for size in ("params", "macs")),
    )


def _over_tables(table: "ScoreTable", name: str, again: "ScoreTable | None") -> float | None:
    """Rank correlation of a proxy in both tables over the networks that did not fail in either."""
    if again is None:
        return None
    if name not in again:
        raise ValueError(f"the second table has no proxy {name!r}, it has {', '.join(again)}.")
    place = {text: i for i, text in enumerate(again.ids)}
    common = [(i, place[text]) for i, text in enumerate(table.ids) if text in place]
    if not common:
        raise ValueError(
            "the second table has none of the networks of the first: score the same ones again."
        )
    first, second = np.array(common).T
    a, b = table.values(name)[first], again.values(name)[second]
    good = np.isfinite(a) & np.isfinite(b)
    return _rho(a[good], b[good])


def _rho(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rho; None where there is nothing to correlate."""
    if len(a) < FEWEST or (a == a[0]).all() or (b == b[0]).all():
        return None
    return float(scipy.stats.spearmanr(a, b).statistic)


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]
