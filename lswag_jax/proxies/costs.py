"""What running a network costs on the device at hand: its latency and its memory.

These are columns beside the scores, measured only where they are named. They do not come from the
shared traced pass: `lswag_jax.scoring.costs` compiles the network that `Space.build` makes and runs
it.
"""

import dataclasses
from typing import ClassVar, Literal

from lswag_jax.options import Count
from lswag_jax.proxies.base import Proxy


@dataclasses.dataclass(frozen=True)
class Cost(Proxy):
    """Base of the measured costs.

    Args:
        batch: inputs of one forward pass.
        dtype: of weights and inputs.
    """

    batch: Count = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    paper: ClassVar[str] = "yardstick"
    data: ClassVar[str] = "none"


@dataclasses.dataclass(frozen=True)
class Latency(Cost):
    """Seconds of one forward pass: the median of several runs of the compiled program.

    Args:
        runs: that are timed, after three that are not.
    """

    runs: Count = 30
    name: ClassVar[str] = "latency"
    weakness: ClassVar[str] = "of this device and its load alone"


@dataclasses.dataclass(frozen=True)
class Memory(Cost):
    """Bytes of a forward pass as XLA plans them: weights, inputs, outputs and scratch."""

    name: ClassVar[str] = "memory"
    weakness: ClassVar[str] = "of this compiler alone"
