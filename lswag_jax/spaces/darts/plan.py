"""The layers of a DARTS network, and where its cells stand."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lswag_jax.spaces.darts.genotype import OPS
from lswag_jax.spaces.plan import Layer, Plan, conv, dense, mean, norm, pool, relu, relu_conv_norm

if TYPE_CHECKING:
    from lswag_jax.spaces.darts.space import Darts

# Size and dilation of each operation's depthwise convolutions.
DEPTHWISE = {
    "sep_conv_3x3": (3, 1),
    "sep_conv_5x5": (5, 1),
    "dil_conv_3x3": (3, 2),
    "dil_conv_5x5": (5, 2),
}
POOL_OPS = ("max_pool_3x3", "avg_pool_3x3")
HALVES = ("half_1", "half_2")  # a skip's convolutions at stride 2
_FIRST = ("depthwise_1", "pointwise_1", "norm_1")
_SECOND = ("depthwise_2", "pointwise_2", "norm_2")
SLOTS = (*HALVES, *_FIRST, *_SECOND)  # layers that an edge may have, in order of execution


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


def edge_stride(reduces: bool, source: int) -> int:
    """2 for the edges of a reduction cell that leave the cell's inputs, else 1."""
    return 2 if reduces and source < 2 else 1


def slots(op: str, stride: int, pool_norm: bool) -> tuple[str, ...]:
    """Names of the layers that an edge has.

    Example:
        >>> slots("dil_conv_3x3", 1, True)
        ('depthwise_1', 'pointwise_1', 'norm_1')
    """
    if op in POOL_OPS:
        return ("norm_1",) if pool_norm else ()
    if op == "skip_connect":
        return (*HALVES, "norm_1") if stride == 2 else ()
    return (*_FIRST, *_SECOND) if op.startswith("sep") else _FIRST


def network(space: "Darts", normal: Sequence, reduce: Sequence) -> Plan:
    """Stem, cells, the mean over all pixels, a linear classifier.

    Args:
        space: says the sizes.
        normal, reduce: edges of the two kinds of cells as (operation, source), or of a
            super-network as (set of operations, source).
    """
    parts, widths, sides = _stem(space)
    for i, place in enumerate(space.cells):
        edges = tuple(reduce if place.reduces else normal)
        parts[f"cells_{i}"] = _cell(edges, place, widths, sides, space.affine, space.pool_norm)
        side = sides[1] // (1 + place.reduces)
        widths, sides = (widths[1], 4 * place.width), (sides[1], side)
    parts["mean"] = mean(widths[1], sides[1])
    return Plan(parts | {"head": dense(widths[1], space.num_classes)})


def _stem(space: "Darts") -> tuple[dict[str, Layer | Plan], tuple[int, int], tuple[int, int]]:
    """The stem's layers, and channels and sides of the first cell's two inputs."""
    side, c = space.image_size, space.width
    if space.stem == "cifar":
        stem: dict[str, Layer | Plan] = {
            "stem_conv": conv(space.channels, 3 * c, side),
            "stem_norm": norm(3 * c, side),
        }
        return stem, (3 * c, 3 * c), (side, side)
    widths: tuple[int, ...] = (space.channels, c // 2, c, c)
    parts: dict[str, Layer | Plan] = {}
    for i in range(3):
        if i:
            parts[f"relu_{i}"] = relu(widths[i], side)
        parts[f"stem_conv_{i}"] = conv(widths[i], widths[i + 1], side, stride=2)
        side //= 2
        parts[f"stem_norm_{i}"] = norm(widths[i + 1], side)
    return parts, (c, c), (2 * side, side)


@functools.lru_cache(maxsize=256)
def _cell(
    edges: tuple,
    place: Place,
    widths: tuple[int, int],
    sides: tuple[int, int],
    affine: bool,
    pool_norm: bool,
) -> Plan:
    """A cell whose two inputs have these channels and sides."""
    if place.halves_first:
        first = _factorized_reduce(widths[0], place.width, sides[0])
    else:
        first = relu_conv_norm(widths[0], place.width, sides[0], kernel=1)
    second = relu_conv_norm(widths[1], place.width, sides[1], kernel=1)
    parts = {"preprocess_0": first, "preprocess_1": second}
    for i, (op, source) in enumerate(edges):
        stride = edge_stride(place.reduces, source)
        # Nodes of a reduction cell, which its further edges leave, have half the resolution.
        side = sides[1] // 2 if place.reduces and stride == 1 else sides[1]
        make = _edge if isinstance(op, str) else _super_edge
        parts[f"edge_{i}"] = make(op, place, side, stride, affine, pool_norm)
    return Plan(parts)


@functools.lru_cache(maxsize=1024)
def _edge(op: str, place: Place, side: int, stride: int, affine: bool, pool_norm: bool) -> Plan:
    """An operation among the places of all layers that an elastic edge has."""
    found = _operation(op, place.width, side, stride, affine, pool_norm).parts
    # Only a reduction cell's edges have the two convolutions of a skip.
    places = {key: value for key, value in _PLACES.items() if place.reduces or key not in HALVES}
    return Plan({**places, **found})


@functools.lru_cache(maxsize=1024)
def _super_edge(
    ops: tuple[str, ...], place: Place, side: int, stride: int, affine: bool, pool_norm: bool
) -> Plan:
    """Every operation of a super-network's edge, of which the genotype has `ops`."""
    sizes = place.width, side, stride, affine, pool_norm
    return Plan({op: _operation(op, *sizes).only_if(op in ops) for op in OPS})


@functools.lru_cache(maxsize=1024)
def _operation(op: str, width: int, side: int, stride: int, affine: bool, pool_norm: bool) -> Plan:
    """The layers of one operation on `width` channels."""
    names, half = slots(op, stride, pool_norm), side // stride
    parts: dict[str, Layer | Plan] = {}
    if op in POOL_OPS:
        parts["pool"] = pool(width, side, stride=stride)
    elif "half_1" in names:
        parts |= {"relu_1": relu(width, side), **_halves(width, width, side)}
    elif names:
        parts |= _separable("1", width, DEPTHWISE[op][0], side, stride)
    if "norm_1" in names:
        parts["norm_1"] = norm(width, half, affine)
    if "norm_2" in names:
        parts |= _separable("2", width, DEPTHWISE[op][0], half, 1)
        parts["norm_2"] = norm(width, half, affine)
    return Plan(parts)


def _separable(number: str, width: int, kernel: int, side: int, stride: int) -> dict[str, Layer]:
    return {
        f"relu_{number}": relu(width, side),
        f"depthwise_{number}": conv(width, width, side, kernel, stride, groups=width),
        f"pointwise_{number}": conv(width, width, side // stride, kernel=1),
    }


def _factorized_reduce(inputs: int, outputs: int, side: int) -> Plan:
    halves = _halves(inputs, outputs, side)
    return Plan({"relu": relu(inputs, side), **halves, "norm": norm(outputs, side // 2)})


def _halves(inputs: int, outputs: int, side: int) -> dict[str, Layer]:
    """Two convolutions of half the channels each; the second starts a pixel further in."""
    sides = zip(HALVES, (side, side - 1), strict=True)
    return {name: conv(inputs, outputs // 2, s, kernel=1, stride=2) for name, s in sides}


# What an elastic edge has of each kind, in order of execution, while the genotype has none.
_PLACES: Mapping[str, Layer] = {
    name: Layer("relu" if name.startswith("relu") else "conv", 0, 0, present=False)
    for name in ("relu_1", *HALVES, "depthwise_1", "pointwise_1", "relu_2", *_SECOND[:2])
}
