"""What LIBRA chooses, from the figures of its candidates alone."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from lswag_jax.analysis import information
from lswag_jax.options import Checked, NonNegative, NumberOrZero, Seed
from lswag_jax.proxies import GROUPS
from lswag_jax.proxies.merge import check_rule

# `flops` is NAS-Bench-Suite-Zero's name; every other proxy is gradient-based.
GRADIENT_FREE = frozenset({*GROUPS["gradient_free"], "flops"})
Second = Literal["min_ig", "max_ig", "gradient_free", "gradient_based", "mixed", "random", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LibraOptions(Checked):
    """Options of LIBRA; the defaults are the published algorithm with NAS-Bench-Suite-Zero's bins.

    Args:
        bins: "equal_width" or "equal_freq", see `lswag_jax.analysis.information.discretise`.
        n_bins: "nbsz", "cube_root" or a number, see `lswag_jax.analysis.information.num_bins`.
        estimator: of entropies, "ml" or "miller_madow".
        fill: of failed scores: "-1e8" counts as this value where values are binned or averaged,
            "worst_rank" as a separate bin, and "drop" leaves out architectures that failed any
            proxy. For ranks both of the former are the worst one.
        abs_rho: a proxy with a negative rho counts reversed, instead of losing.
        window: how far below the best rho a proxy may be.
        bias: Pearson with #params on "ranks", or on "raw" values as NAS-Bench-Suite-Zero has it.
        rule: that merges the chosen, see `lswag_jax.proxies.merge`.
        double_best: z1 counts twice in the merge.
        second: the published "min_ig"; or, as in the paper's Table 4a, "max_ig", the two best
            "gradient_free" or "gradient_based" proxies, the best of each ("mixed"), two "random"
            ones, or "none".
        third: the published "bias_match"; or, as in Table 4b, "min_bias" |b_z|, "random" or "none".
        pool: where "max_ig", "min_bias" and a random third are looked for, "window" or "all"
            proxies; "min_ig" and "bias_match" keep to the window.
        permutations: of the null of the information gain, for the report; 0 leaves it out.
        seed: of permutations and random choices.

    Raises:
        ValueError: an option outside its choices.

    Example:
        >>> LibraOptions(bins="equal_freq", n_bins=6).second
        'min_ig'
    """

    bins: information.Bins = "equal_width"
    n_bins: str | int = "nbsz"
    estimator: information.Estimator = "ml"
    fill: Literal["-1e8", "worst_rank", "drop"] = "-1e8"
    abs_rho: bool = False
    window: NonNegative = 0.1
    bias: Literal["ranks", "raw"] = "ranks"
    rule: str = "log_rank_sum"
    double_best: bool = False
    second: Second = "min_ig"
    third: Literal["bias_match", "min_bias", "random", "none"] = "bias_match"
    pool: Literal["window", "all"] = "window"
    permutations: NumberOrZero = 0
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        information.num_bins(2, self.n_bins)  # raises for a bad one
        check_rule(self.rule)


class Candidate(NamedTuple):
    """Holds the figures of one proxy, oriented if it is flipped.

    Attributes:
        name: of the proxy.
        rho: Spearman with the accuracy.
        ig: information gain given z1, in bits.
        bias: correlation with #params.
        flipped: smaller is better (`abs_rho`).
        p_value: how often chance gives this gain; NaN where it was not asked for.
    """

    name: str
    rho: float
    ig: float
    bias: float
    flipped: bool = False
    p_value: float = np.nan


def choose(
    candidates: Sequence[Candidate], accuracy_bias: float, options: LibraOptions | None = None
) -> tuple[str, ...]:
    """Names of the chosen, from the figures of the candidates alone.

    Args:
        candidates: in any order.
        accuracy_bias: b_y.
        options: `window`, `second`, `third`, `pool` and `seed` are read; None as published.

    Raises:
        ValueError: no candidate, a name twice, or `second` asks for families that the candidates
            have too few of.

    Example:
        >>> few = [Candidate("a", 0.5, 0.0, 0.9), Candidate("b", 0.45, 0.3, 0.2),
        ...        Candidate("c", 0.42, 0.1, 0.9), Candidate("d", 0.3, 0.0, 0.4)]
        >>> choose(few, 0.4)
        ('a', 'c', 'b')
    """
    options = options or LibraOptions()
    names = [c.name for c in candidates]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"candidates must be at least one, each named once, got {names}.")
    rng = np.random.default_rng(options.seed)
    ordered = sorted(candidates, key=lambda c: (-c.rho, c.name))
    window = [c for c in ordered if c.rho > ordered[0].rho - options.window]
    ablated = window if options.pool == "window" else ordered
    chosen = _pair(ordered, window, ablated, options.second, rng)
    pool = window if options.third == "bias_match" else ablated
    third = {
        "bias_match": lambda c: (abs(accuracy_bias - c.bias), c.name),
        "min_bias": lambda c: (abs(c.bias), c.name),
        "random": lambda c: rng.random(),
    }
    if options.third != "none":
        chosen += sorted((c for c in pool if c not in chosen), key=third[options.third])[:1]
    return tuple(c.name for c in chosen)


def _pair(
    ordered: list[Candidate],
    window: list[Candidate],
    ablated: list[Candidate],
    rule: str,
    rng: np.random.Generator,
) -> list[Candidate]:
    """The first and the second."""
    first = ordered[:1]
    free = [c for c in ordered if c.name in GRADIENT_FREE]
    based = [c for c in ordered if c.name not in GRADIENT_FREE]
    pairs = {
        "min_ig": first + sorted(window[1:], key=lambda c: (c.ig, c.name))[:1],
        "max_ig": first + sorted(ablated[1:], key=lambda c: (-c.ig, c.name))[:1],
        "gradient_free": free[:2],
        "gradient_based": based[:2],
        "mixed": sorted(free[:1] + based[:1], key=ordered.index),
        "random": [ordered[i] for i in rng.permutation(len(ordered))[:2]],
        "none": first,
    }
    if rule in ("gradient_free", "gradient_based", "mixed") and len(pairs[rule]) < 2:
        raise ValueError(f"second {rule!r} needs more proxies of these families.")
    return pairs[rule]


PRESETS = {
    "published": LibraOptions(),
    # Few bins, which hold equally many, a corrected estimator, and whether a gain may be chance.
    "recommended": LibraOptions(
        bins="equal_freq",
        n_bins="cube_root",
        estimator="miller_madow",
        fill="worst_rank",
        permutations=100,
    ),
    # The merge and window that do best on split halves over 15 benchmarks (docs/reproduce.md).
    "split_half": LibraOptions(window=0.2, double_best=True),
}
