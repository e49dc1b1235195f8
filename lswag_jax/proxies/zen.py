"""Zen-Score: how far a small change of a random image moves the features.

Source: Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021;
code idstcv/ZenNAS, automl/NASLib. With f the feature map before pooling, x noise, x' = x + 0.01 z,

    Delta = mean over samples of sum |f(x) - f(x')|
    score = log Delta + sum over BatchNorm layers of log sqrt(mean_c var_c)

The code reads the running variance after one training-mode forward pass of x and one of x'.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from lswag_jax.arrays import total
from lswag_jax.capture.batch_norm import BatchStatistics
from lswag_jax.capture.features import Features
from lswag_jax.options import Several
from lswag_jax.probe import Probe
from lswag_jax.proxies.base import NotApplicable, Parts, Proxy

Array = jax.Array
_STEP = 0.01


@dataclasses.dataclass(frozen=True)
class Zen(Proxy):
    """Zen-Score of networks with BatchNorm; without it the quantity is not defined.

    Draws `zen/images` and `zen/direction` [batch, H, W, C].

    Args:
        init: "normal01" draws kernels from N(0, 1) with zero biases and fresh normalisation, as
            the code does; "space" keeps the weights. BatchNorm takes their scale out.
        bn_var: "ema2" is the running variance after the two passes (code), "batch" the variance
            of the first batch (paper).
        batch: noise images.

    Raises:
        ValueError: another option.
    """

    name: ClassVar[str] = "zen"
    paper: ClassVar[str] = "Lin et al., ICCV 2021"
    networks: ClassVar[str] = "BatchNorm and marked features"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    family: ClassVar[str] = "features"
    data: ClassVar[str] = "none"
    weakness: ClassVar[str] = "needs BatchNorm; grows with depth"

    init: Literal["normal01", "space"] = "normal01"
    bn_var: Literal["ema2", "batch"] = "ema2"
    batch: Several = 16

    def measure(self, probe: Probe) -> Parts:
        """The score, log Delta and the sum over BatchNorm layers."""
        x = probe.noise("zen/images", self.batch)
        moved = x + _STEP * probe.noise("zen/direction", self.batch)
        weights = None
        if self.init == "normal01":
            weights = probe.draws.weights("zen", probe.candidate)
        network = probe.candidate.network(probe.candidate.batch_mode, weights)
        features = Features.of(network, x, final=True)
        maps, first = features.run(x)
        if not maps or not first:
            raise NotApplicable
        others, second = features.run(moved)
        f, g = maps[-1].values, others[-1].values
        delta = jnp.log(jnp.abs(f - g).reshape(len(f), -1).sum(1).mean())
        norms = total(self._term(a, b) for a, b in zip(first, second, strict=True))
        return {"score": delta + norms, "log_delta": delta, "norms": norms}

    def _term(self, first: BatchStatistics, second: BatchStatistics) -> Array:
        """Sum over tiles of log sqrt(mean over channels of the variance); 0 for an absent layer."""
        var_TxC = self._variance(first, second)
        var_TxC = var_TxC.reshape(-1, var_TxC.shape[-1])
        if first.active is None:
            return 0.5 * jnp.log(var_TxC.mean(1)).sum()
        is_there = jnp.arange(var_TxC.shape[1]) < first.active
        mean_T = jnp.where(is_there, var_TxC, 0).sum(1) / jnp.maximum(first.active, 1)
        logs_T = jnp.log(jnp.where(mean_T > 0, mean_T, 1))
        return jnp.where(first.active > 0, 0.5 * logs_T, 0).sum()

    def _variance(self, first: BatchStatistics, second: BatchStatistics) -> Array:
        var, again = first.var, second.var
        assert var is not None
        assert again is not None
        if self.bn_var == "batch":
            return var
        keep, running = first.momentum, jnp.ones_like(var)
        if self.init == "space" and first.running_var is not None:
            running = first.running_var
        pairs = ((var, first.size), (again, second.size))
        a, b = (v * (count / (count - 1)) for v, count in pairs)  # unbiased
        return keep * (keep * running + (1 - keep) * a) + (1 - keep) * b
