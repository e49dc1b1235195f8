"""AZ-NAS: expressivity, progressivity and trainability of the features, and their rank sum.

Source: Lee and Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR
2024; code cvlab-yonsei/AZ-NAS. With f_1 .. f_m the outputs of the stem and blocks on noise images
(of ViTs those of each attention and MLP residual), reshaped to [samples * positions, channels],

    H_i   = entropy of the normalised eigenvalues of f_i's covariance
    E     = sum_i H_i
    P     = min_i (H_i - H_{i-1})                                       for CNNs alone
    T     = mean_i (- s_i - 1 / (s_i + 1e-6) + 2)
    score = sum over E, P, T and MACs of log(rank / n)                  over a pool of n

where s_i is the largest singular value of g_in' g_out / N, g_out random signs of f_i's shape and
g_in their pullback to f_{i-1}.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture.features import FeatureMap, Features, pullbacks
from lswag_jax.options import Several
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy, merged

Array = jax.Array


def entropies(probe: Probe, batch: int) -> tuple[Array, Array]:
    """H_i of each feature map [m], and which are present [m]."""

    def compute() -> tuple[Array, Array]:
        maps, _ = _features(probe, batch).run(probe.noise("az/images", batch))
        if len(maps) < 2:
            raise NotApplicable
        present = jnp.stack([jnp.asarray(f.present, bool) for f in maps])
        return jnp.stack([entropy(f.values) for f in maps]), present

    return probe.once(("entropies", batch), compute)


def _features(probe: Probe, batch: int) -> Features:
    def trace() -> Features:
        network = probe.candidate.network(probe.candidate.batch_mode)
        return Features.of(network, probe.noise("az/images", batch))

    return probe.once(("features", batch), trace)


def entropy(f: Array) -> Array:
    """H of one feature map [B, ..., C]."""
    f_NxC = f.reshape(-1, f.shape[-1])
    f_NxC = f_NxC - f_NxC.mean(0, keepdims=True)
    s_C = jnp.linalg.eigvalsh(f_NxC.T @ f_NxC / len(f_NxC))
    s_C = jnp.maximum(s_C, 0)  # of fewer directions than channels some are negative by rounding
    p_C = s_C / s_C.sum()
    return -(p_C * jnp.log(p_C + 1e-8)).sum()


def _trainability(probe: Probe, batch: int) -> Array:
    """T: mean over pairs of feature maps; a pair that passes signs unchanged has -inf on CNNs."""

    def signs(i: int, f: FeatureMap) -> Array:
        return probe.draws.sign(f"az/signs_{i}", f.values.shape, f.values.dtype) * f.mask

    triples = pullbacks(_features(probe, batch), probe.noise("az/images", batch), signs)
    if not triples:
        raise NotApplicable
    terms, counts = [], []
    for f, g_out, g_in in triples:
        s = _largest_singular_value(g_in, g_out)
        same = (g_in == g_out).all() if g_in.shape == g_out.shape else jnp.zeros((), bool)
        term = -s - 1 / (s + 1e-6) + 2
        counts.append(f.present & ~same if f.values.ndim == 3 else jnp.asarray(f.present))
        terms.append(jnp.where(same, -jnp.inf, term))
    count_m, term_m = jnp.stack(counts), jnp.stack(terms)
    return jnp.where(count_m, term_m, 0).sum() / jnp.maximum(count_m.sum(), 1)


def _largest_singular_value(g_in: Array, g_out: Array) -> Array:
    """The largest singular value of g_in' g_out / N, of g_in [B, ..., C] and g_out [B, ..., D].

    N positions are those of the coarser map, to which the finer one is gathered.
    """
    if g_in.ndim == g_out.ndim > 3:
        coarse = tuple(map(min, g_in.shape[-3:-1], g_out.shape[-3:-1]))
        g_in, g_out = _gathered(g_in, coarse), _gathered(g_out, coarse)
    in_NxC, out_NxD = (g.reshape(-1, g.shape[-1]) for g in (g_in, g_out))
    return jnp.linalg.norm(in_NxC.T @ out_NxD / len(out_NxD), 2)


def _gathered(g: Array, coarse: Sequence[int]) -> Array:
    """Pixels of g [..., H, W, C] gathered into the channels of h x w positions.

    A position holds ceil(H / h) x ceil(W / w) pixels; beyond the edge they are zero.
    """
    *lead, height, width, c = g.shape
    (h, w), (j, k) = coarse, (-(-height // coarse[0]), -(-width // coarse[1]))
    edges = [(0, 0)] * len(lead) + [(0, h * j - height), (0, w * k - width), (0, 0)]
    blocks = jnp.pad(g, edges).reshape(*lead, h, j, w, k, c)
    # [..., h, j, w, k, c] -> [..., h, w, j, k, c]
    return jnp.moveaxis(blocks, -4, -2).reshape(*lead, h, w, j * k * c)


@dataclasses.dataclass(frozen=True)
class _Features(Proxy):
    """Base: noise images through a network that marks its feature maps (`layers.Feature`).

    Draws `az/images` [batch, H, W, C].

    Args:
        batch: noise images.

    Raises:
        ValueError: fewer than two images.
    """

    paper: ClassVar[str] = "Lee and Ham, CVPR 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "features"
    data: ClassVar[str] = "none"
    networks: ClassVar[str] = "marked features"

    batch: Several = 64


@dataclasses.dataclass(frozen=True)
class AzExpressivity(_Features):
    """AZ-NAS's expressivity: the features use many directions."""

    name: ClassVar[str] = "az_expressivity"
    weakness: ClassVar[str] = "grows with depth and width"

    def measure(self, probe: Probe) -> Parts:
        """The score and its entropies."""
        h_m, present_m = entropies(probe, self.batch)
        return {"score": jnp.where(present_m, h_m, 0).sum(), "entropies": h_m}


@dataclasses.dataclass(frozen=True)
class AzProgressivity(_Features):
    """AZ-NAS's progressivity: each block adds directions. Defined for CNNs alone."""

    name: ClassVar[str] = "az_progressivity"
    networks: ClassVar[str] = "marked features, BatchNorm"
    weakness: ClassVar[str] = "not defined for ViTs; one block decides"

    def measure(self, probe: Probe) -> Parts:
        """The smallest step."""
        if not probe.candidate.has_batch_norm:
            raise NotApplicable
        h_m, _ = entropies(probe, self.batch)
        return {"score": (h_m[1:] - h_m[:-1]).min()}


@dataclasses.dataclass(frozen=True)
class AzTrainability(_Features):
    """AZ-NAS's trainability: blocks neither shrink nor stretch gradients; at most 0.

    Draws `az/signs_i` of feature map i's shape.
    """

    name: ClassVar[str] = "az_trainability"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "an identity block has no value"

    def measure(self, probe: Probe) -> Parts:
        """The score."""
        key = ("trainability", self.batch)
        return {"score": probe.once(key, lambda: _trainability(probe, self.batch))}


@dataclasses.dataclass(frozen=True)
class AzNas(_Features):
    """AZ-NAS: sum of the logarithms of ranks, which punishes a single bad one.

    Ranks are those within the table: scores of different tables do not compare.
    """

    name: ClassVar[str] = "az_nas"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "scores are relative to their table"

    def measure(self, probe: Probe) -> Parts:
        """E and T, and P of CNNs; the score of one network alone is E."""
        parts = {
            "expressivity": AzExpressivity(batch=self.batch).measure(probe)["score"],
            "trainability": AzTrainability(batch=self.batch).measure(probe)["score"],
        }
        if probe.candidate.has_batch_norm:
            parts["progressivity"] = AzProgressivity(batch=self.batch).measure(probe)["score"]
        return parts | {"score": parts["expressivity"]}

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores by ranks, status, and the rule."""
        names = [n for n in ("expressivity", "progressivity", "trainability") if n in parts]
        measured = np.asarray(parts["score"], np.float64)
        status = self._status(measured, parts, degenerate)
        columns = [np.asarray(parts[n], np.float64) for n in names]
        columns.append(np.broadcast_to(np.asarray(parts["macs"], np.float64), measured.shape))
        return merged(columns, status, "log_rank_sum"), status, "log_rank_sum"
