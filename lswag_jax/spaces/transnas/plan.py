"""The layers of a TransNAS-Bench-101 network."""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lswag_jax.spaces.plan import (
    Layer,
    Plan,
    conv,
    conv_transpose,
    dense,
    mean,
    norm,
    relu,
    relu_conv_norm,
    tensorwatch_flops,
)
from lswag_jax.spaces.transnas.genotype import EDGES
from lswag_jax.tasks import Task

if TYPE_CHECKING:
    from lswag_jax.spaces.transnas.space import TransNAS

BLOCKS = 2  # of a module
HEADS = ("head", "decoder")


class Shape(NamedTuple):
    """What a cell or residual block does to the shape.

    Args:
        inputs, outputs: channels.
        stride: 1 or 2.
    """

    inputs: int
    outputs: int
    stride: int

    @property
    def reshapes(self) -> bool:
        """Whether a skip or shortcut has to change the shape."""
        return self.stride > 1 or self.inputs != self.outputs


def blocks(modules: Sequence[int], width: int) -> Iterator[tuple[str, Shape]]:
    """The blocks of a skeleton by the names of their modules.

    Args:
        modules: 1 plain, 2 twice the channels, 3 half the resolution, 4 both.
        width: channels of the stem's output.
    """
    for i, kind in enumerate(modules):
        outputs = 2 * width if kind in (2, 4) else width
        for j in range(BLOCKS):
            stride = 2 if kind in (3, 4) and j == 0 else 1
            yield f"module_{i}_block_{j}", Shape(width, outputs, stride)
            width = outputs


def strides(modules: Sequence[int]) -> int:
    """How many modules halve the resolution."""
    return sum(kind in (3, 4) for kind in modules)


def network(
    space: "TransNAS", modules: Sequence[int], ops: tuple[int, ...] | None, num_modules: int
) -> Plan:
    """Stem, modules of two blocks each, and the head of the task.

    Args:
        space: says the sizes.
        modules: kinds of the modules.
        ops: of a cell's edges; None for residual blocks.
        num_modules: that any genotype has; those beyond `modules` are absent.
    """
    tiles, side = space.own_task.tiles, space.input_size
    parts: dict[str, Layer | Plan] = {"stem": _stem(space.channels, space.width, side, tiles)}
    width, side = space.width, _halved(_halved(side))
    absent = (1,) * (num_modules - len(modules))
    for i, (name, shape) in enumerate(blocks((*modules, *absent), space.width)):
        if ops is None:
            block = _residual_block(shape, i % BLOCKS == 0, side, tiles)
        else:
            block = _cell(ops, shape, side, tiles)
        parts[name] = block.only_if(i < BLOCKS * len(modules))
        width, side = shape.outputs, side if shape.stride == 1 else _halved(side)
    if not space.own_task.dense:
        pixels, features = mean(width * tiles, side), dense(width * tiles, space.own_task.outputs)
        return Plan(parts | {"head": Plan({"mean": pixels, "linear": features})})
    layers = decoder_layers(space.own_task, 2 + strides(modules), space.decoder_width)
    return Plan(parts | {"decoder": _decoder(space.own_task, layers, width, side)})


def published_flops(plan: Plan, tiles: int) -> int:
    """Counts the `flops` column of NAS-Bench-Suite-Zero.

    Of the nine calls of a jigsaw's encoder tensorwatch sees one.
    """
    head = Plan({name: part for name, part in plan.parts.items() if name in HEADS})
    return tensorwatch_flops(plan.without(HEADS)) // tiles + tensorwatch_flops(head)


def _halved(side: int) -> int:
    """Pixels on a side after a stride of 2 with symmetric padding."""
    return (side + 1) // 2


def _stem(channels: int, width: int, side: int, tiles: int) -> Plan:
    """conv3x3-BN and ReLU-conv3x3-BN, both of stride 2."""
    middle = _halved(side)
    return Plan(
        {
            "conv": conv(channels, width // 2, side, stride=2, tiles=tiles),
            "norm": norm(width // 2, middle, tiles=tiles),
            "block": relu_conv_norm(width // 2, width, middle, 3, 2, tiles),
        }
    )


@functools.lru_cache(maxsize=1024)
def _residual_block(shape: Shape, is_first: bool, side: int, tiles: int) -> Plan:
    """ReLU-conv3x3-BN twice, and a conv1x1-BN on the shortcut where the shape changes."""
    inputs, outputs, stride = shape
    smaller = side if stride == 1 else _halved(side)
    parts: dict[str, Layer | Plan] = {
        "conv_a": relu_conv_norm(inputs, outputs, side, 3, stride, tiles),
        "conv_b": relu_conv_norm(outputs, outputs, smaller, 3, 1, tiles),
    }
    if not is_first:  # only a module's first block may change the shape
        return Plan(parts)
    shortcut = conv(inputs, outputs, side, kernel=1, stride=stride, tiles=tiles)
    parts["downsample"] = shortcut.only_if(shape.reshapes)
    parts["downsample_norm"] = norm(outputs, smaller, tiles=tiles).only_if(shape.reshapes)
    return Plan(parts)


@functools.lru_cache(maxsize=256)
def _cell(ops: tuple[int, ...], shape: Shape, side: int, tiles: int) -> Plan:
    """Six edges; those that leave node 0 change the shape."""
    inside = Shape(shape.outputs, shape.outputs, 1)
    smaller = side if shape.stride == 1 else _halved(side)
    parts = {}
    for i, (op, (source, _)) in enumerate(zip(ops, EDGES, strict=True)):
        sizes = (inside, smaller) if source else (shape, side)
        parts[f"edge_{i}"] = _edge(op, *sizes, tiles)
    return Plan(parts)


@functools.lru_cache(maxsize=1024)
def _edge(op: int, shape: Shape, side: int, tiles: int) -> Plan:
    """None, skip, ReLU-conv1x1-BN or ReLU-conv3x3-BN, and the places of what it has not.

    A skip that changes the shape is a factorised reduction: one ReLU, two 1x1 convolutions with
    half of the channels each, one BatchNorm.
    """
    inputs, outputs, stride = shape
    block = relu_conv_norm(inputs, outputs, side, max(2 * op - 3, 1), stride, tiles).parts
    reduces = shape.reshapes and op == 1
    parts = {"relu": block["relu"].only_if(op > 1 or reduces)}
    if shape.reshapes:
        half = conv(inputs, outputs // 2, side, kernel=1, stride=stride, tiles=tiles)
        parts |= {f"reduce_{i}": half.only_if(reduces) for i in range(2)}
    parts["conv"] = block["conv"].only_if(op > 1)
    return Plan(parts | {"norm": block["norm"].only_if(op > 1 or reduces)})


def _decoder(task: Task, layers: Sequence[tuple[int, bool]], width: int, side: int) -> Plan:
    """Convolutions with BatchNorm and LeakyReLU, and one last convolution, bounded or not."""
    parts: dict[str, Layer | Plan] = {}
    for i, (outputs, doubles) in enumerate(layers):
        make = conv_transpose if doubles else functools.partial(conv, bias=True)
        parts[f"conv_{i}"] = make(width, outputs, side)
        width, side = outputs, side * (1 + doubles)
        if i < len(layers) - 1:
            parts[f"norm_{i}"] = norm(width, side)
            parts[f"act_{i}"] = relu(width, side)._replace(kind="leaky_relu")
    if task.target == "image":
        parts["tanh"] = relu(width, side)._replace(kind="tanh")
    return Plan(parts)


def decoder_layers(task: Task, upsamplings: int, width: int) -> list[tuple[int, bool]]:
    """Output channels of each layer of a decoder, and whether it doubles the resolution.

    Args:
        task: with a class map or an image as its target.
        upsamplings: 2 to 6.
        width: channels of the first layer, 1024 in the benchmark.
    """
    if task.target == "class_map":
        layers = [(width >> i, i > 6 - upsamplings) for i in range(6)]
        return [*layers, (width >> 5, True), (task.outputs, False)]
    shifts = (0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 5, 6)
    doubling_from = {2: 6, 4: 5, 6: 4, 8: 3, 10: 0, 12: 0}  # layer: fewest upsamplings
    layers = [
        (width >> shift, upsamplings >= doubling_from.get(i, 7)) for i, shift in enumerate(shifts)
    ]
    return [*layers, (task.outputs, False)]
