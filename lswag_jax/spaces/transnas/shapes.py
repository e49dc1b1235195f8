"""Shapes of the layers of a TransNAS-Bench-101 network, and what can be counted from them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lswag_jax.tasks import Task

# Source node of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
EDGE_SOURCES = (0, 0, 1, 0, 1, 2)
BLOCKS = 2  # of a module


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution, or a linear layer as one of a single pixel.

    Attributes:
        inputs, outputs: channels.
        size_in, size: pixels on a side, before and after.
        kernel: pixels on a side.
        bias: it has one.
        norm: BatchNorm follows.
        transposed: it doubles the resolution.
        before, after: an activation function runs just before, or after, it.
    """

    inputs: int
    outputs: int
    size_in: int
    size: int
    kernel: int = 3
    bias: bool = False
    norm: bool = True
    transposed: bool = False
    before: bool = False
    after: bool = False

    @property
    def params(self) -> int:
        """Trainable parameters, those of its BatchNorm included."""
        return self.outputs * (self.kernel**2 * self.inputs + self.bias + 2 * self.norm)

    @property
    def macs(self) -> int:
        """Multiply-accumulates; a transposed layer has no products with inserted zeros."""
        pixels = self.size_in if self.transposed else self.size
        return self.kernel**2 * self.inputs * self.outputs * pixels**2

    @property
    def in_units(self) -> int:
        """Elements of the input."""
        return self.inputs * self.size_in**2

    @property
    def out_units(self) -> int:
        """Elements of the output."""
        return self.outputs * self.size**2


def halved(size: int) -> int:
    """Pixels on a side after a stride of 2 with symmetric padding."""
    return (size + 1) // 2


def stem(base: int, size: int, channels: int) -> list[Layer]:
    """conv3x3-BN and ReLU-conv3x3-BN, both of stride 2."""
    middle = halved(size)
    return [
        Layer(channels, base // 2, size, middle),
        Layer(base // 2, base, middle, halved(middle), before=True),
    ]


class Block(NamedTuple):
    """Channels, pixels on a side, and stride of a cell or residual block.

    Args:
        inputs, outputs: channels.
        size_in, size: pixels on a side, before and after.
        strides: 1 or 2.
    """

    inputs: int
    outputs: int
    size_in: int
    size: int
    strides: int

    @property
    def reshapes(self) -> bool:
        """Whether a skip or shortcut has to change the shape."""
        return self.strides > 1 or self.inputs != self.outputs


def blocks(modules: Sequence[int], width: int, size: int) -> Iterator[Block]:
    """The blocks of a skeleton.

    Args:
        modules: 1 plain, 2 twice the channels, 3 half the resolution, 4 both.
        width: channels of the stem's output.
        size: pixels on a side of the stem's output.
    """
    for kind in modules:
        outputs = 2 * width if kind in (2, 4) else width
        strides = 2 if kind in (3, 4) else 1
        smaller = halved(size) if strides == 2 else size
        yield Block(width, outputs, size, smaller, strides)
        for _ in range(BLOCKS - 1):
            yield Block(outputs, outputs, smaller, smaller, 1)
        width, size = outputs, smaller


def edge(op: int, source: int, block: Block) -> list[Layer]:
    """Layers of one edge of a cell: none, skip, ReLU-conv1x1-BN or ReLU-conv3x3-BN.

    A skip that changes the shape is a factorised reduction: one ReLU, two 1x1 convolutions with
    half of the channels each, one BatchNorm.
    """
    if source:
        block = Block(block.outputs, block.outputs, block.size, block.size, 1)
    shape = block[:4]
    if op >= 2:
        return [Layer(*shape, kernel=2 * op - 3, before=True)]
    if op == 0 or not block.reshapes:
        return []
    half = Layer(block.inputs, block.outputs // 2, block.size_in, block.size, kernel=1)
    return [dataclasses.replace(half, before=True), half]


def residual_block(block: Block) -> list[Layer]:
    """ReLU-conv3x3-BN twice, and a conv1x1-BN on the shortcut where the shape changes."""
    layers = [
        Layer(*block[:4], before=True),
        Layer(block.outputs, block.outputs, block.size, block.size, before=True),
    ]
    return [*layers, Layer(*block[:4], kernel=1)] if block.reshapes else layers


def head(task: Task, features: int, size: int, upsamplings: int, width: int) -> list[Layer]:
    """Layers behind the encoder.

    Args:
        task: says what the head puts out.
        features, size: channels and pixels on a side of the encoder's output.
        upsamplings: how often a decoder doubles the resolution.
        width: of a decoder's first layer.
    """
    if not task.dense:
        inputs = features * task.tiles
        return [Layer(inputs, task.outputs, 1, 1, kernel=1, bias=True, norm=False)]
    layers = []
    for outputs, doubles in decoder_plan(task, upsamplings, width):
        larger = size * (1 + doubles)
        layers.append(
            Layer(features, outputs, size, larger, bias=True, transposed=doubles, after=True)
        )
        features, size = outputs, larger
    # The last one has no norm; the generative decoder ends with tanh, the other with logits.
    last = dataclasses.replace(layers[-1], norm=False, after=task.target == "image")
    return [*layers[:-1], last]


def decoder_plan(task: Task, upsamplings: int, width: int) -> list[tuple[int, bool]]:
    """Output channels of each layer of a decoder, and whether it doubles the resolution.

    Args:
        task: with a class map or an image as its target.
        upsamplings: 2 to 6.
        width: channels of the first layer, 1024 in the benchmark.
    """
    if task.target == "class_map":
        plan = [(width >> i, i > 6 - upsamplings) for i in range(6)]
        return [*plan, (width >> 5, True), (task.outputs, False)]
    shifts = (0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 5, 6)
    doubling_from = {2: 6, 4: 5, 6: 4, 8: 3, 10: 0, 12: 0}  # layer: fewest upsamplings
    plan = [
        (width >> shift, upsamplings >= doubling_from.get(i, 7)) for i, shift in enumerate(shifts)
    ]
    return [*plan, (task.outputs, False)]


def tensorwatch_flops(encoder: Sequence[Layer], top: Sequence[Layer], task: Task, size: int) -> int:
    """What tensorwatch 0.9.1, NAS-Bench-Suite-Zero's counter, calls FLOPs.

    Multiply-accumulates and biases of convolutions and linear layers, nothing for transposed
    convolutions; twice the elements of a BatchNorm, once those of ReLU and LeakyReLU (not tanh);
    C (size + 1)^2 for the global average of C images of `size` pixels on a side. Of the nine calls
    of the jigsaw's encoder it sees one.
    """
    total = 0
    for layer in (*encoder, *top):
        linear = layer is top[-1] and not task.dense
        if not layer.transposed:
            total += layer.macs + (0 if linear else layer.bias * layer.out_units)
        total += 2 * layer.norm * layer.out_units + layer.before * layer.in_units
        total += layer.after * layer.norm * layer.out_units
    if not task.dense:
        total += top[0].inputs * (size + 1) ** 2
    return total
