"""Proxies of the correlation of samples' input gradients: jacov and EPE-NAS.

Sources: Mellor et al., "Neural Architecture Search without Training", first version, 2020 (code
SamsungLabs/zero-cost-nas, automl/NASLib); Lopes et al., "EPE-NAS", ICANN 2021 (code
VascoLopes/EPE-NAS). With J_n the gradient of the sum of all outputs with respect to image n,
through the statistics of BatchNorm, and C = corrcoef(J) with eigenvalues v,

    jacov   = - sum (log(v + 1e-5) + 1 / (v + 1e-5))
    epe_nas = sum_c |s_c|,  s_c = sum over samples i, j of class c of log(|C_ij| + 1e-5)

and for more than 100 classes sum_cc' |s_c - s_c'| / number of classes seen, with s_c divided by
the number of samples of its class.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy, eigenvalues, where_finite

Array = jax.Array
_EPSILON = 1e-5
_MANY_CLASSES = 100
# A gradient of so many roundings, relative to that of random signs, or of this share, is none.
_ROUNDING, _MOST = 1000, 0.01


def correlation(probe: Probe) -> Parts:
    """Correlation [B, B] of the samples' input gradients, and whether a sample has none.

    Draws `input_jacobian/signs` in the shape of the outputs.

    A gradient that is the same for every pixel, up to rounding, has no correlation. Nor has one
    that is rounding itself: beside the gradient of the outputs' sum with random signs it is tiny
    where the sum does not depend on the images, as after a softmax, or where only sums of BatchNorm
    outputs reach the head (DARTS, TransNAS-Bench-101's classifiers).
    """
    if not jnp.issubdtype(probe.images.dtype, jnp.floating):
        raise NotApplicable

    def compute() -> Parts:
        network = probe.candidate.network(probe.candidate.batch_mode)
        outputs, pull = jax.vjp(network, probe.images)
        signs = probe.draws.sign("input_jacobian/signs", outputs.shape, outputs.dtype)
        cotangents = jnp.stack([jnp.ones_like(outputs), signs])
        both = jax.vmap(lambda y: pull(y)[0].reshape(len(probe.images), -1))(cotangents)
        j_BxD, signed_BxD = both
        b, eps = len(j_BxD), jnp.finfo(j_BxD.dtype).eps
        size_B = jnp.abs(j_BxD).max(1)
        is_flat = j_BxD.max(1) - j_BxD.min(1) <= 4 * eps * size_B
        rounding = min(_ROUNDING * jnp.finfo(outputs.dtype).eps, _MOST) * jnp.abs(signed_BxD).max()
        return {
            "correlation": jnp.corrcoef(j_BxD).reshape(b, b),
            "no_gradient": (is_flat | (size_B <= rounding)).any(),
        }

    return probe.once("input correlation", compute)


def _kept(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a finished row keeps besides its score."""
    return {"no_gradient": np.asarray(parts["no_gradient"])} if "no_gradient" in parts else {}


class _OfInputs:
    """Part of a proxy of the samples' correlation: without one there is nothing to measure."""

    def is_undefined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """A sample's gradient is constant, or rounding."""
        return np.asarray(parts.get("no_gradient", False), bool)


@dataclasses.dataclass(frozen=True)
class Jacov(_OfInputs, Proxy):
    """Jacobian covariance: high where samples' gradients are uncorrelated, at most about -B."""

    name: ClassVar[str] = "jacov"
    paper: ClassVar[str] = "Mellor et al., 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    data: ClassVar[str] = "images"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "saturates near -B for good networks"

    def measure(self, probe: Probe) -> Parts:
        """The correlation [B, B]; its eigenvalues are the host's work."""
        found = correlation(probe)
        return found | {"score": found["correlation"].sum()}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score in float64."""
        v = eigenvalues(parts["correlation"])
        with np.errstate(invalid="ignore"):  # an eigenvalue below -1e-5 is rounding: nan
            score = -(np.log(v + _EPSILON) + 1 / (v + _EPSILON)).sum(-1)
        return {"score": where_finite(parts, score)} | _kept(parts)


@dataclasses.dataclass(frozen=True)
class EpeNas(_OfInputs, Proxy):
    """EPE-NAS: correlation of input gradients within classes, for class labels only."""

    name: ClassVar[str] = "epe_nas"
    paper: ClassVar[str] = "Lopes et al., ICANN 2021"
    networks: ClassVar[str] = "class labels"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "inputs"
    gradients: ClassVar[bool] = True
    weakness: ClassVar[str] = "depends on how often a class is in the batch"

    def measure(self, probe: Probe) -> Parts:
        """The correlation [B, B], labels [B] and number of classes."""
        logits = probe.tape.logits
        if not jnp.issubdtype(probe.labels.dtype, jnp.integer) or probe.labels.ndim > 1:
            raise NotApplicable
        found = correlation(probe)
        parts = found | {"labels": probe.labels, "num_classes": jnp.asarray(logits.shape[-1])}
        return parts | {"score": found["correlation"].sum()}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score in float64."""
        items = zip(*(np.asarray(parts[k]) for k in ("correlation", "labels", "num_classes")))  # noqa: B905
        scores = np.array([_epe(c.astype(np.float64), y, int(n)) for c, y, n in items])
        return {"score": where_finite(parts, scores)} | _kept(parts)


def _epe(c_BxB: np.ndarray, labels_B: np.ndarray, num_classes: int) -> float:
    """The score of one architecture."""
    sums = []
    for label in np.unique(labels_B):
        mine = labels_B == label
        s = np.log(np.abs(c_BxB[np.ix_(mine, mine)]) + _EPSILON).sum()
        sums.append(s / mine.sum() if num_classes > _MANY_CLASSES else s)
    s_C = np.array(sums)
    if num_classes <= _MANY_CLASSES:
        return float(np.abs(s_C).sum())
    return float(np.abs(s_C[:, None] - s_C[None, :]).sum() / len(s_C))
