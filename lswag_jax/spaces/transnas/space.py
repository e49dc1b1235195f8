"""What the micro and the macro space of TransNAS-Bench-101 share: skeleton, tasks and counts.

Source: yawen-d/TransNASBench (Duan et al., CVPR 2021); the networks that the published proxy
values belong to are NASLib's copies of them.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np

from lswag_jax import tasks
from lswag_jax.options import Bound, Size
from lswag_jax.spaces.base import Genotype, Space
from lswag_jax.spaces.genotype import choose
from lswag_jax.spaces.plan import Plan
from lswag_jax.spaces.transnas.genotype import MAX_MODULES
from lswag_jax.spaces.transnas.network import TransNASNetwork
from lswag_jax.spaces.transnas.plan import HEADS, published_flops
from lswag_jax.spaces.transnas.plan import network as network_plan
from lswag_jax.tasks import Task


@dataclasses.dataclass(frozen=True)
class TransNAS(Space[Genotype]):
    """A space of TransNAS-Bench-101: a stem, modules of two blocks each, a head for the task.

    Args:
        name: what reports call it.
        task: a `Task`, or the name of one of the benchmark's seven.
        num_classes: classes, values or channels of the output; None for the task's own, another
            number changes the task.
        image_size: in pixels; 256 in the benchmark.
        channels: of the image.
        width: channels of the stem's output, the first number of an official code.
        decoder_width: channels of the first layer of a decoder.
        encoder_only: whether proxies leave out the layers and activations of the head or decoder.
            The loss still goes through it, and counts include it.
    """

    name: str
    # What is given may be less than what the base class has: a name, or None for the task's own.
    task: Task | str = "class_object"  # pyright: ignore[reportIncompatibleMethodOverride]
    num_classes: int | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    image_size: Annotated[int, Bound(4, 10_000)] = 256
    channels: Size = 3
    width: Annotated[int, Bound(2, 100_000)] = 64
    decoder_width: Annotated[int, Bound(64, 100_000)] = 1024
    encoder_only: bool = False

    def __post_init__(self) -> None:
        task = tasks.get(self.task) if isinstance(self.task, str) else self.task
        if not isinstance(task, Task):
            raise ValueError(f"task must be a Task or its name, got {self.task!r}.")
        if task.target == "boxes":
            raise ValueError(f"networks of {self.name} have no head for boxes: see AutoFormer.")
        if self.num_classes is not None:
            task = dataclasses.replace(task, outputs=self.num_classes)
        object.__setattr__(self, "task", task)
        super().__post_init__()
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}.")
        if self.own_task.dense and self.image_size % (4 << self._max_strides):
            raise ValueError(
                f"image_size must be a multiple of {4 << self._max_strides} for "
                f"{self.own_task.name}, whose output has a value for each pixel, got "
                f"{self.image_size}."
            )

    # What the two spaces differ in ------------------------------------------------------------

    count_rules: ClassVar[tuple[str, ...]] = ("exact", "naslib")
    _digits: ClassVar[str]  # what the digits of a code are

    @property
    @abc.abstractmethod
    def _max_strides(self) -> int:
        """Most modules that halve the resolution."""

    @abc.abstractmethod
    def _modules(self, g: Genotype) -> tuple[int, ...]:
        """Kinds of the modules of `g`."""

    @abc.abstractmethod
    def _ops(self, g: Genotype) -> tuple[int, ...] | None:
        """Operations of the cell's edges; None for residual blocks."""

    @abc.abstractmethod
    def genotypes(self) -> Sequence[Genotype]:
        """All genotypes of the space."""

    @property
    def own_task(self) -> Task:
        """`task`, which is no name any more once the space is made."""
        assert isinstance(self.task, Task)
        return self.task

    # Sizes ------------------------------------------------------------------------------------

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image, or nine tiles of a quarter of its size."""
        shape = self.input_size, self.input_size, self.channels
        return (self.own_task.tiles, *shape) if self.own_task.tiles > 1 else shape

    @property
    def input_size(self) -> int:
        """Pixels on a side of what the encoder sees."""
        return self.image_size // 4 if self.own_task.tiles > 1 else self.image_size

    def plan(self, g: Genotype) -> Plan:
        """Lists the layers of `g` with its task's head, and the places that it leaves empty."""
        return self.plan_of(self._modules(g), self._ops(g))

    def plan_of(self, modules: tuple[int, ...], ops: tuple[int, ...] | None) -> Plan:
        """The layers of a skeleton with cells of these operations, or residual blocks."""
        num_modules = MAX_MODULES if ops is None else len(modules)
        return network_plan(self, modules, ops, num_modules)

    def published_macs(self, g: Genotype) -> int:
        """Counts the `flops` column of NAS-Bench-Suite-Zero."""
        return published_flops(self.plan(g), self.own_task.tiles)

    # Genotypes --------------------------------------------------------------------------------

    def _code(self, text: str, example: str) -> list[str]:
        """The second and third part of an official code; ValueError for another form."""
        parts = str(text).split("-")
        if len(parts) != 3 or parts[0] != str(self.width):
            raise self._malformed(text, example)
        return parts[1:]

    def _malformed(self, text: str, example: str) -> ValueError:
        return ValueError(
            f"{text!r} is not a code of {self.name}, for example '{self.width}-{example}': the "
            f"stem's channels, then {self._digits}."
        )

    def sample_one(self, rng: np.random.Generator) -> Genotype:
        """Draws uniformly from the space."""
        return choose(rng, self.genotypes())

    # Networks ---------------------------------------------------------------------------------

    def _module(self, modules: tuple[int, ...], ops: tuple[int, ...] | None) -> TransNASNetwork:
        return TransNASNetwork(modules, ops, self.width, self.own_task, self.decoder_width)

    def build(self, g: Genotype) -> TransNASNetwork:
        """Builds the Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(self._modules(g), self._ops(g))

    @property
    def unscored(self) -> tuple[str, ...]:
        """The head or decoder, where only the encoder is scored."""
        return HEADS if self.encoder_only else ()
