"""Size as a proxy: number of parameters and multiply-accumulates, the yardsticks of every table."""

import dataclasses
from typing import ClassVar

from lswag_jax.proxies.base import Proxy


@dataclasses.dataclass(frozen=True)
class Params(Proxy):
    """Number of trainable parameters; the table's own column is the score."""

    name: ClassVar[str] = "params"
    paper: ClassVar[str] = "yardstick"
    data: ClassVar[str] = "none"
    weakness: ClassVar[str] = "size alone"


@dataclasses.dataclass(frozen=True)
class Macs(Proxy):
    """Multiply-accumulates of one image by the exact rule of the space; a column of the table."""

    name: ClassVar[str] = "macs"
    paper: ClassVar[str] = "yardstick"
    data: ClassVar[str] = "none"
    weakness: ClassVar[str] = "size alone"
