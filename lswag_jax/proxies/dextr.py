"""Dextr: how well conditioned the feature maps of one image are, and how far the output bends.

Source: Asthana et al., "Dextr: Zero-Shot Neural Architecture Search with Singular Value
Decomposition and Extrinsic Curvature", TMLR 2025 (arXiv 2508.12977), equation 8; code
rohanasthana/Dextr. With X_l [C, positions] the output of layer l for one image and f(t) the logits
of cos(t) u + sin(t) w, a circle through two orthonormal random images u and w,

    a     = log(1 + sum_l s_min(X_l) / s_max(X_l))
    kappa = sqrt(|f'|^2 |f''|^2 - (f' f'')^2) / |f'|^3        at t = 0
    score = a b / (a + b),   b = log(1 + kappa);   a alone where kappa is not a number

Read: the abstract, two summaries of the paper with its equations, and the code, which takes one
image of the data in training mode and one point of the circle. Our choice, where the paper is
silent: each output of a weight layer, normalisation or activation function counts once, as in
`meco` (the code counts those of containers again); vectors are no feature maps (the code counts
each as 1); channels and positions that are zero throughout are left out, as inactive ones of an
elastic network must be (the code takes a dead channel as s_min = 0); the circle's images have the
network's own size (the code's 64 x 64 on NAS-Bench-201).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from lswag_jax.arrays import are_equal, each
from lswag_jax.capture import tape
from lswag_jax.capture.forward import forward
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy
from lswag_jax.proxies.meco import outputs_of_first

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Dextr(Proxy):
    """Dextr: inverse condition numbers of the first image's feature maps, curvature of the logits.

    Draws `dextr/plane` [2, H, W, C], whose images span the circle's plane.
    """

    name: ClassVar[str] = "dextr"
    paper: ClassVar[str] = "Asthana et al., TMLR 2025"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "features"
    data: ClassVar[str] = "images"
    networks: ClassVar[str] = "outputs with positions"
    weakness: ClassVar[str] = "one image, one point of a curve; counts layers"

    def measure(self, probe: Probe) -> Parts:
        """The score, its two parts, and the ratio of each output in order of `meco`."""
        network = probe.candidate.network(probe.candidate.batch_mode)
        recorded = tape.record(network, probe.images[:1])
        maps = outputs_of_first(recorded)
        if not maps:
            raise NotApplicable
        layers = each(inverse_condition, [(x.reshape(-1, x.shape[-1]),) for x in maps])
        kappa, here = _curvature(network, _plane(probe))
        # Logits that are the same of any image move by rounding alone: BatchNorm before the head.
        are_still = are_equal(jnp.concatenate([recorded.logits, here]), [probe.tape.logits])
        kappa = jnp.where(are_still, jnp.nan, kappa)
        a, b = jnp.log1p(layers.sum()), jnp.log1p(kappa)
        merged = jnp.where(a + b > 0, a * b / jnp.where(a + b > 0, a + b, 1), 0)
        score = jnp.where(jnp.isfinite(b), merged, a)
        return {"score": score, "conditions": layers.sum(), "curvature": kappa, "layers": layers}


def inverse_condition(x_NxC: Array) -> Array:
    """s_min / s_max of the rows and columns that are not zero throughout; 0 where there are none.

    From the eigenvalues of the smaller Gram matrix; one within rounding of 0 is 0.
    """
    n, c = x_NxC.shape
    row_N, column_C = (x_NxC != 0).any(1), (x_NxC != 0).any(0)
    x_DxE, live_D = (x_NxC.T, column_C) if c <= n else (x_NxC, row_N)  # D is the smaller side
    x_DxE = x_DxE / jnp.maximum(jnp.abs(x_DxE).max(), jnp.finfo(x_DxE.dtype).tiny)
    gram_DxD = x_DxE @ x_DxE.T
    size, rank = live_D.sum(), jnp.minimum(row_N.sum(), column_C.sum())
    # A dead row gets an eigenvalue above all others, so that the live ones come first.
    beyond_D = jnp.where(live_D, 0, 2 * jnp.trace(gram_DxD) + 1)
    v_D = jnp.linalg.eigvalsh(gram_DxD + jnp.diag(beyond_D))
    # Of the `size` live eigenvalues the last `rank` can be above 0.
    low, high = v_D[jnp.maximum(size - rank, 0)], v_D[jnp.maximum(size - 1, 0)]
    low = jnp.where(low > size * jnp.finfo(x_DxE.dtype).eps * high, low, 0)
    return jnp.where(rank > 0, jnp.sqrt(low / jnp.where(rank > 0, high, 1)), 0)


def _plane(probe: Probe) -> tuple[Array, Array]:
    """Two orthonormal random images [1, H, W, C]."""
    u, w = probe.noise("dextr/plane", 2)
    u = u / jnp.linalg.norm(u.ravel())
    w = w - jnp.vdot(u, w) * u
    return u[None], (w / jnp.linalg.norm(w.ravel()))[None]


def _curvature(network: tape.Network, plane: tuple[Array, Array]) -> tuple[Array, Array]:
    """kappa of the logits at the first image of the plane, nan where they do not move; the logits.

    |f''| across f' over |f'|^2, which does not cancel as the difference of squares does.
    """
    u, w = plane

    def logits(t: Array) -> Array:
        return network(jnp.cos(t) * u + jnp.sin(t) * w)

    curve = forward(logits)
    zero, one = jnp.zeros((), u.dtype), jnp.ones((), u.dtype)

    def velocity(t: Array) -> tuple[Array, Array]:
        here, v = jax.jvp(curve, (t,), (one,))
        return v.ravel(), here

    v, acceleration, here = jax.jvp(velocity, (zero,), (one,), has_aux=True)
    square = jnp.vdot(v, v)
    across = acceleration - jnp.vdot(v, acceleration) / square * v
    return jnp.linalg.norm(across) / square, here
