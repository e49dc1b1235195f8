"""TE-NAS: condition number of the neural tangent kernel, linear regions, and their rank sum.

Source: Chen et al., "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically
Inspired Perspective", ICLR 2021; code VITA-Group/TENAS. With G_n the gradient of the sum of sample
n's logits with respect to all kernels and scales of normalisation,

    ntk            = lambda_max / lambda_min of G G'                    lower is better
    linear_regions = number of distinct activation patterns of random small crops
    te_nas         = rank of -ntk + rank of linear_regions              over a pool
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import total
from lswag_jax.capture import tape
from lswag_jax.options import Count, Several
from lswag_jax.probe import Probe, candidate, patterns
from lswag_jax.proxies.base import (
    NotApplicable,
    Parts,
    Proxy,
    definite_eigenvalues,
    merged,
    where_finite,
)
from lswag_jax.proxies.lswag_kernel import gradient_gram

Array = jax.Array


def tangent_kernel(probe: Probe, batch_norm: str) -> Array:
    """G G' [B, B] of the gradient batch."""
    owner = probe.candidate
    if batch_norm == "through" and owner.has_batch_norm and owner.batch_mode == "through":
        return probe.once("tangent kernel", lambda: _coupled_kernel(probe))
    return probe.once("uncoupled tangent kernel", lambda: _uncoupled_kernel(probe))


def _coupled_kernel(probe: Probe) -> Array:
    """Through the statistics of BatchNorm a sample's logits move with every other's features.

    Each of the B gradients takes a backward pass of the whole batch.
    """
    owner = probe.candidate
    weights = {}

    def keep(name: str, leaf: Array) -> Array:
        if owner.is_weight(name) or name.endswith("/scale"):
            weights[name] = leaf
        return leaf

    candidate.map_variables(keep, owner.variables)

    def sums(weights: dict[str, Array]) -> Array:
        variables = candidate.map_variables(lambda n, v: weights.get(n, v), owner.variables)
        logits = owner.network("through", variables)(probe.images)
        return _sum_of_logits(logits, None)

    values_B, back = jax.vjp(sums, weights)

    def flat(one_hot_B: Array) -> Array:
        (grads,) = back(one_hot_B)
        return jnp.concatenate([g.ravel() for g in grads.values()])

    g_BxP = jax.lax.map(flat, jnp.eye(len(values_B), dtype=values_B.dtype))
    return g_BxP @ g_BxP.T


def _uncoupled_kernel(probe: Probe) -> Array:
    """Where samples do not see each other, layer by layer."""
    owner = probe.candidate
    network = owner.network("eval" if owner.batch_norm == "eval" else "frozen")
    recorded = tape.record(network, probe.images, probe.labels, loss=_sum_of_logits)
    kernel = total(gradient_gram(layer) for layer in recorded.layers)
    norms = [norm for norm in recorded.norms if "scale" in norm.params]
    # `sum`: there may be no norms.
    return kernel + sum(gradient_gram(norm, "scale") for norm in norms)


def _sum_of_logits(logits: Array, labels: Array | None) -> Array:
    del labels
    return logits.reshape(len(logits), -1).sum(1)


def regions(probe: Probe, crops: int, size: int) -> Array:
    """Number of distinct activation patterns among random crops of the images.

    A network that takes one size of images alone is given crops enlarged to it.
    """
    images = _crops(probe, crops, size)
    recorded = tape.record(probe.candidate.network(probe.candidate.batch_mode), images)
    if not recorded.activations:
        raise ValueError(patterns.NO_ACTIVATION)
    units = jnp.asarray(probe.act_units)
    values = [a.post.reshape(len(images), -1) for a in recorded.activations]
    values = [jnp.where(units[i] > 0, v, 0) for i, v in enumerate(values)]
    widths = [v.shape[1] for v in values]  # absent units agree
    same_NxN = patterns.hamming_kernel(values, widths) == sum(widths)
    # A crop opens a region unless an earlier one has the same pattern.
    is_repeat_N = jnp.tril(same_NxN, -1).any(1)
    return (~is_repeat_N).sum()


def _crops(probe: Probe, crops: int, size: int) -> Array:
    """Small images [n, size, size, C], or as large as the network's own."""
    if "te_nas/crops" in probe.draws.given:
        return jnp.asarray(probe.draws.given["te_nas/crops"], probe.images.dtype)
    if probe.images.ndim < 4:
        raise NotApplicable
    *_, h, w, _ = probe.images.shape
    if size > min(h, w):
        raise ValueError(
            f"size of linear_regions must be at most that of the images, {h} x {w}, got {size}."
        )
    which = probe.draws.integers("te_nas/image", (crops,), len(probe.images))
    row = probe.draws.integers("te_nas/row", (crops,), h - size + 1)
    column = probe.draws.integers("te_nas/column", (crops,), w - size + 1)

    def crop(i: Array, r: Array, c: Array) -> Array:
        image = probe.images[i]
        lead = (0,) * (image.ndim - 3)
        sizes = (*image.shape[:-3], size, size, image.shape[-1])
        return jax.lax.dynamic_slice(image, (*lead, r, c, 0), sizes)

    small = jax.vmap(crop)(which, row, column)
    if probe.candidate.any_size:
        return small
    return jax.image.resize(small, (crops, *probe.images.shape[1:]), "nearest")


@dataclasses.dataclass(frozen=True)
class Ntk(Proxy):
    """Condition number of the neural tangent kernel, of sums of logits as in the code.

    Args:
        batch_norm: "through" as the code does, at the price of B backward passes of the batch;
            "frozen" takes the batch's statistics as constants.

    Raises:
        ValueError: another mode.
    """

    name: ClassVar[str] = "ntk"
    paper: ClassVar[str] = "Chen et al., ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    data: ClassVar[str] = "images"
    gradients: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False
    weakness: ClassVar[str] = "the most expensive; its smallest eigenvalue is close to rounding"

    batch_norm: Literal["through", "frozen"] = "through"

    def measure(self, probe: Probe) -> Parts:
        """The kernel [B, B]; its eigenvalues are the host's work."""
        kernel_BxB = tangent_kernel(probe, self.batch_norm)
        return {"score": jnp.trace(kernel_BxB), "kernel": kernel_BxB}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The condition number in float64; a singular kernel has inf."""
        v = definite_eigenvalues(parts["kernel"])
        with np.errstate(divide="ignore", invalid="ignore"):
            condition = np.where(v[..., 0] <= 0, np.inf, v[..., -1] / v[..., 0])
        return {"score": where_finite(parts, condition)}


@dataclasses.dataclass(frozen=True)
class LinearRegions(Proxy):
    """Number of linear regions that random crops of the images fall into.

    Where the code takes a thin network, here it is the candidate itself. Draws `te_nas/image`,
    `te_nas/row` and `te_nas/column`, or is given `te_nas/crops` [n, h, w, C].

    Args:
        crops: how many; no more regions can be counted.
        size: of a crop, in pixels; at most that of the images.

    Raises:
        ValueError: fewer than two crops, or an empty one.
    """

    name: ClassVar[str] = "linear_regions"
    paper: ClassVar[str] = "Chen et al., ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    data: ClassVar[str] = "images"
    weakness: ClassVar[str] = "saturates at the number of crops"

    crops: Several = 256
    size: Count = 3

    def measure(self, probe: Probe) -> Parts:
        """The number of regions."""
        key = ("regions", self.crops, self.size)
        found = probe.once(key, lambda: regions(probe, self.crops, self.size))
        return {"score": found.astype(probe.tape.logits.dtype)}


@dataclasses.dataclass(frozen=True)
class TeNas(Proxy):
    """TE-NAS: sum of the two ranks within the table.

    Args:
        batch_norm: of `ntk`.
    """

    name: ClassVar[str] = "te_nas"
    paper: ClassVar[str] = "Chen et al., ICLR 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    data: ClassVar[str] = "images"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "scores are relative to their table"

    batch_norm: Literal["through", "frozen"] = "through"

    def measure(self, probe: Probe) -> Parts:
        """The kernel and the regions."""
        parts = Ntk(batch_norm=self.batch_norm).measure(probe)
        return parts | {"regions": LinearRegions().measure(probe)["score"]}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The condition number, as the score of one network alone, and the regions."""
        return Ntk().finish(parts) | {"regions": parts["regions"]}

    def pool(
        self, parts: Mapping[str, np.ndarray], degenerate: np.ndarray | bool = False
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Scores by ranks, status, and the rule."""
        condition = np.asarray(parts["score"], np.float64)
        status = self._status(condition, parts, degenerate)
        columns = [-condition, np.asarray(parts["regions"], np.float64)]
        return merged(columns, status, "rank_sum"), status, "rank_sum"
