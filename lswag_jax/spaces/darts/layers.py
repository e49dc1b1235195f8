"""The layers of a DARTS network, listed and counted without building it."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from lswag_jax.spaces.darts.genotype import DartsGenotype


class Layer(NamedTuple):
    """One layer of an exact network, in order of execution.

    Args:
        kind: conv, linear, norm, relu, pool or mean (over all pixels).
        in_units, out_units: elements of its input and output for one image.
        params: trainable parameters.
        macs: multiply-accumulates for one image.
    """

    kind: str
    in_units: int
    out_units: int
    params: int = 0
    macs: int = 0


class Place(NamedTuple):
    """Where a cell stands in the network.

    Args:
        width: channels of each of its nodes.
        reduces: a reduction cell, which halves the resolution.
        halves_first: its first input has twice the resolution of its second.
    """

    width: int
    reduces: bool
    halves_first: bool


def cells(layers: int, width: int, stem: str) -> list[Place]:
    """The cells of a network: those at one and two thirds of the depth reduce and double."""
    places, halves_first = [], stem == "imagenet"
    for i in range(layers):
        reduces = i in (layers // 3, 2 * layers // 3)
        width *= 2 if reduces else 1
        places.append(Place(width, reduces, halves_first))
        halves_first = reduces
    return places


class Block(NamedTuple):
    """Consecutive layers of an exact network.

    Args:
        layers: in order of execution.
        op: of an edge; None for what every genotype has.
        reduces: whether the edge is a reduction cell's.
    """

    layers: tuple[Layer, ...]
    op: str | None = None
    reduces: bool = False


def blocks_of(space: Any, g: DartsGenotype) -> Iterator[Block]:
    """`g`'s exact network in the space (a `Darts`), in order of execution.

    `g` may be anything that has the edges `normal` and `reduce`, any number of them.
    """
    yield Block(tuple(_stem(space)))
    if space.stem == "imagenet":
        widths, sizes = (space.width,) * 2, (space.image_size // 4, space.image_size // 8)
    else:
        widths, sizes = (3 * space.width,) * 2, (space.image_size,) * 2
    for cell in space.cells:
        preprocess = _factorized_reduce if cell.halves_first else _relu_conv_norm
        yield Block(tuple(preprocess(widths[0], cell.width, sizes[0], True)))
        yield Block(tuple(_relu_conv_norm(widths[1], cell.width, sizes[1], True)))
        size = sizes[1] // 2 if cell.reduces else sizes[1]
        for op, source in g.reduce if cell.reduces else g.normal:
            stride = edge_stride(cell.reduces, source)
            layers = _op_layers(op, cell.width, size * stride, stride, space)
            yield Block(tuple(layers), op, cell.reduces)
        widths, sizes = (widths[1], 4 * cell.width), (sizes[1], size)
    macs = widths[1] * space.num_classes
    yield Block(
        (
            Layer("mean", widths[1] * sizes[1] ** 2, widths[1]),
            Layer("linear", widths[1], space.num_classes, macs + space.num_classes, macs),
        )
    )


def layers_of(space: Any, g: DartsGenotype) -> list[Layer]:
    """All layers of `blocks_of`."""
    return [layer for block in blocks_of(space, g) for layer in block.layers]


def edge_stride(reduces: bool, source: int) -> int:
    """2 for the edges of a reduction cell that leave the cell's inputs, else 1."""
    return 2 if reduces and source < 2 else 1


def count_macs(layers: Iterable[Layer], rule: str) -> int:
    """Multiply-accumulates of layers by a rule of `Darts.macs`.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in ("exact", "naslib"):
        raise ValueError(f"rule must be 'exact' or 'naslib', got {rule!r}.")
    return tensorwatch_flops(layers) if rule == "naslib" else sum(layer.macs for layer in layers)


def tensorwatch_flops(layers: Iterable[Layer]) -> int:
    """FLOPs as tensorwatch, NASLib's counter, has them: one for a multiply-accumulate, and more."""
    return sum(_TENSORWATCH.get(layer.kind, _macs)(layer) for layer in layers)


def _macs(layer: Layer) -> int:
    return layer.macs


def _mean_flops(layer: Layer) -> int:
    """Its window is taken to be one pixel wider than the map."""
    return (math.isqrt(layer.in_units // layer.out_units) + 1) ** 2 * layer.out_units


_TENSORWATCH = {
    "norm": lambda layer: layer.in_units * (2 if layer.params else 1),
    "relu": lambda layer: layer.in_units,
    "pool": lambda layer: 9 * layer.out_units,
    "mean": _mean_flops,
}


def _op_layers(op: str, width: int, size: int, stride: int, space: Any) -> Iterator[Layer]:
    """The layers of one edge whose input has `width` channels of `size` x `size` pixels."""
    affine = space.affine
    kind, _, kernel = op.partition("_conv_")
    half = size // stride
    if kind == "skip_connect":
        if stride == 2:
            yield from _factorized_reduce(width, width, size, affine)
    elif not kernel:
        yield Layer("pool", width * size**2, width * half**2)
        if space.pool_norm:
            yield _norm(width, half, affine)
    else:
        kernel_size = int(kernel[0])
        yield from _separable(width, kernel_size, size, stride, affine)
        if kind == "sep":
            yield from _separable(width, kernel_size, half, 1, affine)


def _stem(space: Any) -> Iterator[Layer]:
    size, c = space.image_size, space.width
    if space.stem == "cifar":
        yield _conv(space.channels, 3 * c, 3, size, size)
        yield _norm(3 * c, size)
        return
    widths = space.channels, c // 2, c, c
    for i in range(3):
        if i:
            yield _relu(widths[i], size)
        yield _conv(widths[i], widths[i + 1], 3, size, size // 2)
        size //= 2
        yield _norm(widths[i + 1], size)


def _relu_conv_norm(c_in: int, c_out: int, size: int, affine: bool) -> Iterator[Layer]:
    yield _relu(c_in, size)
    yield _conv(c_in, c_out, 1, size, size)
    yield _norm(c_out, size, affine)


def _factorized_reduce(c_in: int, c_out: int, size: int, affine: bool) -> Iterator[Layer]:
    yield _relu(c_in, size)
    for side in (size, size - 1):  # the second one starts a pixel further in
        yield _conv(c_in, c_out // 2, 1, side, size // 2)
    yield _norm(c_out, size // 2, affine)


def _separable(width: int, kernel: int, size: int, stride: int, affine: bool) -> Iterator[Layer]:
    half = size // stride
    yield _relu(width, size)
    yield _conv(width, width, kernel, size, half, groups=width)
    yield _conv(width, width, 1, half, half)
    yield _norm(width, half, affine)


def _conv(c_in: int, c_out: int, kernel: int, size: int, out_size: int, groups: int = 1) -> Layer:
    params = kernel**2 * c_in * c_out // groups
    return Layer("conv", c_in * size**2, c_out * out_size**2, params, params * out_size**2)


def _norm(c: int, size: int, affine: bool = True) -> Layer:
    return Layer("norm", c * size**2, c * size**2, 2 * c if affine else 0)


def _relu(c: int, size: int) -> Layer:
    return Layer("relu", c * size**2, c * size**2)
