"""Size as a proxy: number of parameters and multiply-accumulates, the yardsticks of every table."""

import dataclasses
from typing import ClassVar

from lswag_jax.probe import Probe
from lswag_jax.proxies.base import Parts, Proxy


@dataclasses.dataclass(frozen=True)
class Params(Proxy):
    """Number of trainable parameters."""

    name: ClassVar[str] = "params"

    def measure(self, probe: Probe) -> Parts:
        """Nothing on the device: the table's own column is the score."""
        del probe
        return {}


@dataclasses.dataclass(frozen=True)
class Macs(Proxy):
    """Multiply-accumulates of one image, by the exact rule of the space."""

    name: ClassVar[str] = "macs"

    def measure(self, probe: Probe) -> Parts:
        """Nothing on the device: the table's own column is the score."""
        del probe
        return {}
