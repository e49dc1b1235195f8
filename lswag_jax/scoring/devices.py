"""Architectures over devices and over processes.

The devices of a process share a chunk of architectures in one compiled program. The processes of a
job (`jax.distributed`) each score a part of a round and then exchange rows as text: so a failed
architecture is a row for all of them, and networks that no common program runs are shared too.

Importing this module starts nothing; `jax.distributed.initialize` is the caller's.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "arch"
Device = Any  # `jax.Device`, which type checkers take for a variable
BLOCK_BYTES = 1 << 22  # bytes of text that processes exchange at once


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and processes that a population is scored on.

    Args:
        local: devices of this process.
        processes: number of processes that share the work, all with as many devices.
        process: this one's place among them.

    Example:
        >>> devices = Devices(("device 2", "device 3"), processes=2, process=1)
        >>> devices.total
        4
        >>> devices.own(list("abcdefg"), each=2)
        ['e', 'f', 'g']
    """

    local: tuple[Device, ...]
    processes: int
    process: int

    @classmethod
    def of(cls, devices: Sequence[Device] | None) -> Self:
        """Devices given by a user.

        Args:
            devices: of this process, which then works alone; None takes all of the job, whose
                processes share the work.

        Raises:
            ValueError: there is none, or one of another process.
        """
        process = jax.process_index()
        if devices is None:
            return cls(tuple(jax.local_devices()), jax.process_count(), process)
        if not devices or any(device.process_index != process for device in devices):
            raise ValueError(f"devices must be some of this process, got {list(devices)}.")
        return cls(tuple(devices), processes=1, process=0)

    @property
    def total(self) -> int:
        """Devices of all processes."""
        return self.processes * len(self.local)

    def one_each(self) -> Self:
        """The first device of each process."""
        return dataclasses.replace(self, local=self.local[:1])

    def own(self, members: Sequence[Any], each: int) -> Sequence[Any]:
        """Takes this process's members of a round, `each` a device; the last part may be short."""
        size = each * len(self.local)
        return members[self.process * size : (self.process + 1) * size]

    def gather(self, rows: list) -> list:
        """Rows of the processes that share the work, in their order."""
        return rows if self.processes == 1 else gather(rows)


def shardings(devices: Sequence[Device]) -> tuple[NamedSharding, NamedSharding]:
    """Shardings of what every device holds, and of arrays [P, ...] split over architectures."""
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))


def over_devices(scorer: Callable, devices: Sequence[Device]) -> Any:
    """`make_scorer`'s function, jitted, with the encoded genotypes split over devices.

    Args:
        scorer: of (variables, encoded, images, labels, key).
        devices: of this process; their number divides the number of genotypes.

    Returns:
        The same function. Devices run the same program on different genotypes and exchange nothing.
    """
    whole, split = shardings(devices)
    places = (whole, split, whole, whole, whole)
    mapped = jax.shard_map(
        scorer,
        mesh=whole.mesh,
        in_specs=tuple(place.spec for place in places),
        out_specs=split.spec,
        check_vma=False,  # nothing is exchanged, so there is nothing to check
    )
    return jax.jit(mapped, in_shardings=places)


def compiler_options() -> dict[str, Any] | None:
    """What XLA compiles scorers with; None, its defaults, but on a CPU.

    There LLVM's further passes take a fifth of compiling NAS-Bench-201 and gain nothing that could
    be measured, since most of the time is Eigen's products. `XLA_FLAGS` that say a level keep it.
    """
    level = "xla_backend_optimization_level"
    if jax.default_backend() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return None
    return {level: 1}


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def gather(items: list) -> list:
    """Items of all processes in the order of the processes, on each of them.

    Args:
        items: of this process, plain values that JSON can hold; processes may differ in number.
    """
    if jax.process_count() == 1:
        return items
    from jax.experimental.multihost_utils import process_allgather

    text = np.frombuffer(json.dumps(items).encode(), np.uint8)
    texts = [b""] * jax.process_count()
    for start in itertools.count(0, BLOCK_BYTES):
        block = text[start : start + BLOCK_BYTES]
        sizes = process_allgather(np.array([len(block)]))[:, 0]
        # Powers of two, since each shape is a program to compile.
        padded = np.zeros(1 << int(sizes.max()).bit_length(), np.uint8)
        padded[: len(block)] = block
        blocks = process_allgather(padded)
        texts = [t + bytes(b[:n]) for t, b, n in zip(texts, blocks, sizes, strict=True)]
        if (sizes < BLOCK_BYTES).all():
            break
    return [item for text in texts for item in json.loads(text)]


def on_first(function: Callable[[], Any]) -> Any:
    """Calls a function on the first process alone and returns its result on every process.

    Args:
        function: of no arguments; returns plain values that JSON can hold.

    Raises:
        ValueError, OSError: on every process, what the function raises on the first.
    """
    if jax.process_count() == 1:
        return function()
    value = error = None
    if is_first():
        try:
            value = function()
        except (ValueError, OSError) as caught:
            error = caught
    [(message, value)] = gather([(error and str(error), value)] if is_first() else [])
    if error:
        raise error
    if message:
        raise ValueError(message)
    return value


def check_same(what: str, text: str) -> None:
    """Raises ValueError, on every process, unless all processes have the same text."""
    digests = gather([hashlib.sha256(text.encode()).hexdigest()])
    for process, digest in enumerate(digests):
        if digest != digests[0]:
            raise ValueError(f"process {process} has another {what} than process 0.")
