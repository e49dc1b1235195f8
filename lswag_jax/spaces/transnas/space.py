"""What the micro and the macro space of TransNAS-Bench-101 share: skeleton, tasks and counts.

Source: yawen-d/TransNASBench (Duan et al., CVPR 2021); the networks that the published proxy
values belong to are NASLib's copies of them.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lswag_jax import tasks
from lswag_jax.spaces.base import Space
from lswag_jax.spaces.transnas import shapes
from lswag_jax.spaces.transnas.network import TransNASNetwork
from lswag_jax.tasks import Task

Slots = tuple[list[shapes.Layer | None], list[int]]


@dataclasses.dataclass(frozen=True)
class TransNAS(Space):
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
    task: Task | str = "class_object"
    num_classes: int | None = None
    image_size: int = 256
    channels: int = 3
    width: int = 64
    decoder_width: int = 1024
    encoder_only: bool = False

    def __post_init__(self) -> None:
        task = tasks.get(self.task) if isinstance(self.task, str) else self.task
        if not isinstance(task, Task):
            raise ValueError(f"task must be a Task or its name, got {self.task!r}.")
        if self.num_classes is not None:
            task = dataclasses.replace(task, outputs=self.num_classes)
        object.__setattr__(self, "task", task)
        for field, least in (("image_size", 4), ("channels", 1), ("width", 2)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}.")
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}.")
        if self.decoder_width < 64:
            raise ValueError(f"decoder_width must be at least 64, got {self.decoder_width}.")
        if self.task.dense and self.image_size % (4 << self._max_strides):
            raise ValueError(
                f"image_size must be a multiple of {4 << self._max_strides} for {self.task.name}, "
                f"whose output has a value for each pixel, got {self.image_size}."
            )

    # What the two spaces differ in ------------------------------------------------------------

    _digits: ClassVar[str]  # what the digits of a code are

    @property
    @abc.abstractmethod
    def _max_strides(self) -> int:
        """Most modules that halve the resolution."""

    @abc.abstractmethod
    def _modules(self, g: Any) -> tuple[int, ...]:
        """Kinds of the modules of `g`."""

    @abc.abstractmethod
    def _ops(self, g: Any) -> tuple[int, ...] | None:
        """Operations of the cell's edges; None for residual blocks."""

    @abc.abstractmethod
    def _slots(self, g: Any) -> Slots:
        """Places for layers and for activations of the modules, for all that a genotype can have.

        None, and 0 units, where `g` has nothing there.
        """

    @abc.abstractmethod
    def _presence_classes(self) -> Sequence[Any]:
        """Genotypes that have every distinct set of present layers among them."""

    @abc.abstractmethod
    def genotypes(self) -> Sequence[Any]:
        """All genotypes of the space."""

    # Sizes ------------------------------------------------------------------------------------

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image, or nine tiles of a quarter of its size."""
        shape = self._input_size, self._input_size, self.channels
        return (self.task.tiles, *shape) if self.task.tiles > 1 else shape

    @property
    def _input_size(self) -> int:
        """Pixels on a side of what the encoder sees."""
        return self.image_size // 4 if self.task.tiles > 1 else self.image_size

    def _stem(self) -> list[shapes.Layer]:
        return shapes.stem(self.width, self._input_size, self.channels)

    def _blocks(self, g: Any) -> list[shapes.Block]:
        return list(shapes.blocks(self._modules(g), self.width, self._stem()[-1].size))

    def _layers(self, g: Any) -> tuple[list[shapes.Layer], list[shapes.Layer], int]:
        """Layers of the encoder and of the head, and pixels on a side between them."""
        encoder = self._stem() + [layer for layer in self._slots(g)[0] if layer]
        last = self._blocks(g)[-1]
        strides = sum(kind > 2 for kind in self._modules(g))
        top = shapes.head(self.task, last.outputs, last.size, strides + 2, self.decoder_width)
        return encoder, top, last.size

    def num_params(self, g: Any) -> int:
        """Trainable parameters of `g` with the head of its task."""
        encoder, top, _ = self._layers(g)
        return sum(layer.params for layer in (*encoder, *top))

    def macs(self, g: Any, rule: str = "exact") -> int:
        """Multiply-accumulates of one image.

        Args:
            g: the genotype.
            rule: "exact" counts convolutions and the linear layer, for a jigsaw all nine tiles;
                "naslib" is the `flops` column of NAS-Bench-Suite-Zero
                (`transnas_shapes.tensorwatch_flops`).

        Raises:
            ValueError: an unknown rule.
        """
        if rule not in ("exact", "naslib"):
            raise ValueError(f"rule must be 'exact' or 'naslib', got {rule!r}.")
        encoder, top, size = self._layers(g)
        if rule == "naslib":
            return shapes.tensorwatch_flops(encoder, top, self.task, size)
        shared = sum(layer.macs for layer in encoder)
        return self.task.tiles * shared + sum(layer.macs for layer in top)

    # Genotypes --------------------------------------------------------------------------------

    def _check_type(self, g: Any, kind: type) -> None:
        if not isinstance(g, kind):
            raise ValueError(
                f"{self.name} holds {kind.__name__}, got a genotype of type {type(g).__name__}."
            )

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

    def _sample_one(self, rng: np.random.Generator) -> Any:
        """Uniform over the space."""
        every = self.genotypes()
        return every[rng.integers(len(every))]

    # Networks ---------------------------------------------------------------------------------

    def _module(self, modules: tuple[int, ...], ops: tuple[int, ...] | None) -> TransNASNetwork:
        return TransNASNetwork(modules, ops, self.width, self.task, self.decoder_width)

    def build(self, g: Any) -> TransNASNetwork:
        """The Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(self._modules(g), self._ops(g))

    def _encode_one(self, g: Any) -> dict[str, np.ndarray]:
        """The active sizes; units of the encoder count for all tiles."""
        stem, (layers, acts), top = self._stem(), self._slots(g), self._layers(g)[1]
        layers, top = [*stem, *layers], [] if self.encoder_only else top
        tiles = self.task.tiles
        inner = np.array([(x.in_units, x.out_units) if x else (0, 0) for x in layers]) * tiles
        outer = np.array([(x.in_units, x.out_units) for x in top]).reshape(-1, 2)
        in_units, out_units = np.concatenate([inner, outer]).T
        acts = np.array([stem[1].in_units, *acts]) * tiles
        return {
            "in_units": in_units,
            "out_units": out_units,
            "act_units": np.r_[acts, [x.out_units for x in top if x.after]].astype(int),
        }

    @property
    def unscored(self) -> tuple[str, ...]:
        """The head, of whatever kind, where only the encoder is scored."""
        return ("head", "decoder") if self.encoder_only else ()

    def layer_sets(self) -> np.ndarray:
        """Every distinct set of present weight layers, bool [K, L]."""
        return _layer_sets(self)


@functools.lru_cache(maxsize=8)
def _layer_sets(space: TransNAS) -> np.ndarray:
    encoded = space.encode(space._presence_classes())
    return np.unique(encoded["in_units"] > 0, axis=0)
