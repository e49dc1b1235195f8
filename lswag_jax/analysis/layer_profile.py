"""The layer profile of L-SWAG: one number a layer, over the depth of random networks.

Source: section 3.2 of the L-SWAG paper (arXiv 2505.07300), which plots the "mean intensity and
standard deviation of sigma" over depth without defining the number; here are the candidates.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.analysis.layer_kinds import TOLD_APART, layer_kinds
from lswag_jax.capture.tape import Layer
from lswag_jax.options import Natural, NumberOrZero, Seed, typed
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy
from lswag_jax.proxies.lambda_terms import log_sum
from lswag_jax.runs import draw
from lswag_jax.scoring.population import score
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces import Space
from lswag_jax.spaces.depth import NUM_BINS, BinRule

Array = jax.Array
Statistic = Literal["mean_log_sigma", "log_mean_sigma", "log_sum_sigma", "lambda_l"]
STATISTICS = get_args(Statistic)


@dataclasses.dataclass(frozen=True)
class LayerProfile(Proxy):
    """A statistic of each layer's deviations sigma_w = std_i |dL_i / dw| over the samples.

        mean_log_sigma = mean_w log sigma_w
        log_mean_sigma = log mean_w sigma_w
        log_sum_sigma  = log sum_w sigma_w
        lambda_l       = log sum_w 1 / sigma_w

    Weights with sigma_w = 0 are left out, as in L-SWAG: padded weights of elastic networks among
    them. It is measured like a proxy, but ranks nothing and is not in the registry.

    Args:
        statistic: one of the four.
        grad_abs: deviations of |g| (equation 1) or of g.
        ddof: delta degrees of freedom of the variance.
        bins: how depth is cut into bins, as in `LSwag`.

    Raises:
        ValueError: an option outside its choices.

    Example:
        >>> LayerProfile("lambda_l").name
        'layer_profile'
    """

    name: ClassVar[str] = "layer_profile"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    statistic: Statistic = "mean_log_sigma"
    grad_abs: bool = True
    ddof: Natural = 0
    bins: BinRule = "zero_based"

    @property
    def samples(self) -> bool:
        """Whether moments over samples are of |g| or of g."""
        return self.grad_abs

    def measure(self, probe: Probe) -> Parts:
        """`values` [L], NaN for a layer without a varying weight; `bins` [L], -1 if absent.

        The `score`, their mean, only tells whether the network could be measured.
        """
        sigmas = [self._sigma(probe, layer) for layer in probe.layers]
        values_L = jnp.stack([layer_statistic(sigma, self.statistic) for sigma in sigmas])
        known_L = jnp.stack([(sigma != 0).any() for sigma in sigmas])
        bins_L = probe.layer_bins(self.bins)
        total = jnp.where(known_L, values_L, 0).sum()
        return {
            "score": total / known_L.sum(),
            "values": jnp.where(known_L & (bins_L >= 0), values_L, jnp.nan),
            "bins": bins_L,
        }

    def _sigma(self, probe: Probe, layer: Layer) -> Array:
        moments = probe.moments(layer, absolute=self.grad_abs, ddof=self.ddof)
        return jnp.sqrt(moments["kernel"].variance)


def layer_statistic(sigma: Array, statistic: str) -> Array:
    """One of `STATISTICS` over the deviations that are not zero.

    Args:
        sigma: deviations of any shape.
        statistic: which.

    Example:
        >>> float(layer_statistic(jnp.array([1.0, 0.0, 1.0]), "mean_log_sigma"))
        0.0
    """
    if statistic == "lambda_l":
        return log_sum(sigma)
    moving = sigma != 0  # NaN stays in
    count = moving.sum()
    if statistic == "mean_log_sigma":
        return jnp.where(moving, jnp.log(jnp.where(moving, sigma, 1)), 0).sum() / count
    total = jnp.log(sigma.sum())
    return total - jnp.log(count) if statistic == "log_mean_sigma" else total


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """A statistic over depth.

    Attributes:
        mean, std: over the layers of all networks in each depth percentile bin, [10]; NaN for a
            bin in which no network has a layer.
        count: layers in each bin [10].
        networks: networks that could be measured.
        statistic: one of `STATISTICS`.
        bins: the rule that cut depth into bins.
        kinds: the mean [10] over the layers of attention alone, and of the MLPs, where the layers
            are told apart.
    """

    mean: np.ndarray
    std: np.ndarray
    count: np.ndarray
    networks: int
    statistic: str
    bins: BinRule = "zero_based"
    kinds: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The profile as a dictionary that `json.dumps` takes; empty bins are null."""

        def plain(values: np.ndarray) -> list[float | None]:
            return [None if np.isnan(v) else float(v) for v in values]

        return dataclasses.asdict(self) | {
            "mean": plain(self.mean),
            "std": plain(self.std),
            "count": [int(n) for n in self.count],
            "kinds": {kind: plain(values) for kind, values in self.kinds.items()},
        }


@typed
def profile(
    space: Space,
    images: Any,
    labels: Any,
    *,
    n: int = 100,
    seed: int = 0,
    statistic: Statistic | LayerProfile = "mean_log_sigma",
    **settings: Any,
) -> Profile:
    """Layer profile of random networks of a space; no accuracy is used.

    Args:
        space: the search space.
        images: [B, H, W, C], floats, or uint8 that are divided by 255.
        labels: [B] integers.
        n: networks.
        seed: of the networks, drawn by a separate stream, so that they are not those that
            `space.sample` draws with an equal seed; and of the initial weights.
        statistic: of a layer, or a configured `LayerProfile`.
        **settings: of `lswag_jax.score`, such as `gradient_batch` or `batch_size`.

    Returns:
        The profile.

    Raises:
        ValueError: bad images, labels or statistic, or no network could be measured.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (1, 2), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
        >>> profile(space, images, np.arange(6) % 3, n=2).count
        array([2, 2, 0, 2, 0, 2, 2, 0, 2, 0])
    """
    proxy = LayerProfile(statistic) if isinstance(statistic, str) else statistic
    genotypes = random_genotypes(space, n, seed)
    table = score(space, genotypes, images, labels, proxy, seed=seed, **settings)
    return aggregate(table, layer_kinds(space, genotypes[0]))


@typed
def random_genotypes(space: Space, n: NumberOrZero, seed: Seed = 0) -> list[Any]:
    """The networks of `profile`, by a random stream apart from `space.sample`'s usual one.

    All are different; they are fewer where the space has no more.
    """
    if n < 1:
        raise ValueError(f"a layer profile needs at least 1 network, got {n}.")
    return draw(space, np.random.default_rng((seed, 1)), n)


@typed
def aggregate(table: ScoreTable, kinds: Sequence[str] = ()) -> Profile:
    """The profile of a table that was scored with `LayerProfile`.

    Mean and standard deviation are over all (network, layer) pairs of a bin: a network without a
    layer in it has no say. Networks that failed are left out.

    Args:
        table: of random networks.
        kinds: of each weight layer [L] (`layer_kinds`); empty, or of another number of layers,
            tells none apart.

    Raises:
        ValueError: the table has no layer profile, or all its networks failed.
    """
    proxy = next((p for p in table.proxies if isinstance(p, LayerProfile)), None)
    if proxy is None:
        raise ValueError(f"the table has no layer_profile, it has {', '.join(table.scores)}.")
    ok = table.statuses[proxy.name] == "ok"
    if not ok.any():
        raise ValueError(f"none of the {len(table)} networks of the layer profile could be scored.")
    parts = table.parts[proxy.name]
    values_PxL, bins_PxL = parts["values"][ok], parts["bins"][ok]
    num_bins = NUM_BINS + (proxy.bins == "literal")

    def members(layers: np.ndarray) -> list[np.ndarray]:
        """The values of some of the layers, bin by bin."""
        there = np.isfinite(values_PxL) & layers
        return [values_PxL[there & (bins_PxL == b)] for b in range(num_bins)]

    def means(found: list[np.ndarray]) -> np.ndarray:
        return np.array([v.mean() if v.size else np.nan for v in found])

    num_layers = values_PxL.shape[1]
    kinds_L = np.array(kinds if len(kinds) == num_layers else ["other"] * num_layers)
    found = members(np.ones(num_layers, bool))
    return Profile(
        mean=means(found),
        std=np.array([v.std() if v.size else np.nan for v in found]),
        count=np.array([v.size for v in found]),
        networks=int(ok.sum()),
        statistic=proxy.statistic,
        bins=proxy.bins,
        kinds={k: means(members(kinds_L == k)) for k in TOLD_APART if (kinds_L == k).any()},
    )
