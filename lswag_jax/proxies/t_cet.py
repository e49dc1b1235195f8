"""T-CET: patterns of each layer's output, weighed by the signal to noise of its weights' saliency.

Source: Xiang et al., "Exploiting Network Compressibility and Topology in Zero-Cost NAS", AutoML
2023, as in the authors' toolkit iViolinSolo/zero-cost-proxies. With s_w = |w g_w| of layer l,
which is SNIP's,

    SNR_l  = sum s / std s                      std with n - 1; sum s where it is 0
    lw_l   = log |det K_l|                      K_l of the layer's output, bits > 0
    score  = sum_l lw_l h(SNR_l),               h = log
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import each
from lswag_jax.capture.tape import Layer
from lswag_jax.probe import Probe, patterns
from lswag_jax.proxies.base import Parts, Proxy, log_determinants

Array = jax.Array
_TRANSFORMS = {"identity": lambda x: x, "log": np.log, "log1p": np.log1p}


@dataclasses.dataclass(frozen=True)
class TCet(Proxy):
    """T-CET with SNIP's saliency; patterns and weights are matched by layer.

    Args:
        transform: h, of "identity", "log" and "log1p".

    Raises:
        ValueError: another transform.
    """

    name: ClassVar[str] = "t_cet"
    paper: ClassVar[str] = "Xiang et al., AutoML 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    weakness: ClassVar[str] = "patterns of wide layers saturate"

    transform: Literal["identity", "log", "log1p"] = "log"

    def measure(self, probe: Probe) -> Parts:
        """Kernels of the layers [L, B, B] and their SNR [L]; determinants are the host's work."""
        is_exact = jnp.asarray(probe.candidate.is_exact)
        gradients = [probe.gradients(x, ("kernel",), 1)["kernel"] for x in probe.layers]
        pairs = zip(probe.layers, gradients, strict=True)
        snr = each(_snr, [(layer.params["kernel"], g, is_exact) for layer, g in pairs])
        layers = probe.batch_layers()
        differ = [probe.of_like_layers("differ", x, layers, _minus_differing) for x in layers]
        kernels = jnp.stack(differ) + jnp.asarray(probe.out_units, jnp.int32)[:, None, None]
        return {"score": snr.sum(), "snr": snr, "kernels": kernels}

    def finish(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score in float64; a layer with a singular kernel or no saliency counts nothing."""
        logs = log_determinants(parts["kernels"])
        lw = np.where(np.isfinite(logs), logs, 0.0)
        snr = np.asarray(parts["snr"], np.float64)
        with np.errstate(divide="ignore"):
            weights = _TRANSFORMS[self.transform](np.where(snr > 0, snr, 1.0))
        layers = np.where(snr > 0, lw * weights, 0.0)
        total = np.where(np.isfinite(parts["score"]), layers.sum(-1), np.nan)
        return {"score": total, "layers": layers}


def _snr(w: Array, gradient: Array, is_exact: Array) -> Array:
    """sum s / std s of a weight layer, over the active weights, of a gradient [1, ...]."""
    s = jnp.abs(gradient[0] * w)
    # An elastic kernel is 0 where it has no weight.
    is_present = ((w != 0) | is_exact).astype(s.dtype)
    n = is_present.sum()
    mean = s.sum() / jnp.maximum(n, 1)
    variance = (is_present * (s - mean) ** 2).sum() / jnp.maximum(n - 1, 1)
    return s.sum() / jnp.where(variance > 0, jnp.sqrt(variance), 1)


def _minus_differing(layer: Layer) -> Array:
    """Minus the number of outputs whose signs differ, int32 [B, B]: K without the units."""
    (call, *_) = layer.calls
    output = call.run(call.params, call.inputs)
    return patterns.hamming_kernel([output.reshape(len(output), -1)], [0])
