"""Plans: the layers of a network in order of execution, and what is read off them.

A plan mirrors the tree of Flax modules, so that the path to a layer is also where its variables
are. Parameters, multiply-accumulates, active sizes and the cut of a genotype's variables out of
its space's are all read from it; nothing else in the package counts layers.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from flax import traverse_util

Kind = Literal[
    "conv", "conv_transpose", "dense", "product", "batch_norm", "layer_norm", "table",
    "relu", "leaky_relu", "gelu", "tanh", "pool", "mean",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
Path = tuple[str, ...]
WEIGHTED = ("conv", "conv_transpose", "dense")  # what proxies call weight layers
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "tanh")
NORMS = ("batch_norm", "layer_norm")


class Layer(NamedTuple):
    """One layer, or the place for one that a genotype does not have.

    Attributes:
        kind: what it computes. "product" multiplies two activations, as queries with keys;
            "table" holds parameters that are added, as positions.
        in_channels, out_channels: of its input and output.
        in_positions, out_positions: pixels or tokens of one sample; what lies between the two is
            the stride.
        kernel: side of a square kernel or pooling window.
        groups: of a convolution; as many as channels where it is depthwise.
        bias: whether it has one; of a norm, whether it has scale and offset.
        present: whether the genotype has the layer.
        shape: of its kernel or table as stored, where `kind` and channels do not say.
    """

    kind: Kind
    in_channels: int
    out_channels: int
    in_positions: int = 1
    out_positions: int = 1
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    present: bool = True
    shape: tuple[int, ...] | None = None

    @property
    def in_units(self) -> int:
        """Elements of its input, a sample."""
        return self.in_channels * self.in_positions

    @property
    def out_units(self) -> int:
        """Elements of its output, a sample."""
        return self.out_channels * self.out_positions

    @property
    def weights(self) -> int:
        """Elements of its kernel."""
        return self.kernel**2 * (self.in_channels // self.groups) * self.out_channels

    @property
    def params(self) -> int:
        """Trainable parameters."""
        if not self.present:
            return 0
        if self.kind in WEIGHTED:
            return self.weights + self.bias * self.out_channels
        if self.kind == "table":
            return math.prod(self.shape or ())
        return 2 * self.bias * self.out_channels if self.kind in NORMS else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        if not self.present:
            return 0
        if self.kind == "product":
            return self.in_channels * self.in_positions * self.out_positions
        if self.kind == "conv_transpose":  # no products with the zeros between its pixels
            return self.weights * self.in_positions
        return self.weights * self.out_positions if self.kind in WEIGHTED else 0

    def only_if(self, present: bool) -> "Layer":
        """The layer itself, or its place without a layer."""
        return self if present else self._replace(present=False)

    def variables(self) -> dict[Path, tuple[int, ...]]:
        """Shape of each variable by its collection and the end of its path."""
        channels = (self.out_channels,)
        if self.kind == "table":
            return {("params",): self.shape or ()}
        if self.kind in WEIGHTED:
            window = () if self.kind == "dense" else (self.kernel, self.kernel)
            usual = (*window, self.in_channels // self.groups, self.out_channels)
            found = {("params", "kernel"): self.shape or usual}
            return found | ({("params", "bias"): channels} if self.bias else {})
        found = {}
        if self.kind in NORMS and self.bias:
            found = {("params", "scale"): channels, ("params", "bias"): channels}
        if self.kind == "batch_norm":
            found |= {("batch_stats", "mean"): channels, ("batch_stats", "var"): channels}
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Named parts of a network in order of execution; a part may be a plan itself.

    Where a space has an elastic network, every genotype's plan has the places of all layers that
    any genotype has, in the same order; `Layer.present` says which of them it has.

    Attributes:
        parts: layers and plans by the names of their modules; what has no variables may be called
            anything.

    Example:
        >>> plan = Plan({"conv": conv(3, 8, 32, stride=2), "norm": norm(8, 16)})
        >>> plan.params, plan.macs
        (232, 55296)
    """

    parts: Mapping[str, "Layer | Plan"]

    @functools.cached_property
    def params(self) -> int:
        """Trainable parameters of the layers that are present."""
        return sum(part.params for part in self.parts.values())

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, those of layers that are present."""
        return sum(part.macs for part in self.parts.values())

    def named_layers(self, prefix: Path = ()) -> Iterator[tuple[Path, Layer]]:
        """Every layer with its path, absent ones too."""
        for name, part in self.parts.items():
            if isinstance(part, Plan):
                yield from part.named_layers((*prefix, name))
            else:
                yield (*prefix, name), part

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, absent ones too."""
        return self._gather("layers", KINDS)

    @functools.cached_property
    def weight_layers(self) -> tuple[Layer, ...]:
        """The layers that proxies call weight layers, absent ones too."""
        return self._gather("weight_layers", WEIGHTED)

    @functools.cached_property
    def activations(self) -> tuple[Layer, ...]:
        """Every activation, absent ones too."""
        return self._gather("activations", ACTIVATIONS)

    def _gather(self, name: str, kinds: tuple[str, ...]) -> tuple[Layer, ...]:
        """Layers of these kinds; plans within keep theirs under `name`, as they are shared."""
        found: list[Layer] = []
        for part in self.parts.values():
            if isinstance(part, Plan):
                found += getattr(part, name)
            elif part.kind in kinds:
                found.append(part)
        return tuple(found)

    def only_if(self, present: bool) -> "Plan":
        """The plan itself, or its places without any layer."""
        if present:
            return self
        return Plan({name: part.only_if(False) for name, part in self.parts.items()})

    def without(self, names: tuple[str, ...]) -> "Plan":
        """The plan less its parts of these names."""
        if not names:
            return self
        return Plan({name: part for name, part in self.parts.items() if name not in names})

    def variables(self) -> dict[Path, tuple[int, ...]]:
        """Shape of every variable of the network of exactly this size, by its path."""
        return {
            (collection, *path, *leaf): shape
            for path, layer in self.named_layers()
            if layer.present
            for (collection, *leaf), shape in layer.variables().items()
        }


# Layers -----------------------------------------------------------------------------------------
# `side` is the pixels on a side of the input, `tiles` the number of such images in a sample.


def conv(
    inputs: int,
    outputs: int,
    side: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    tiles: int = 1,
) -> Layer:
    """A convolution with symmetric padding, which keeps ceil(side / stride) pixels."""
    pixels, fewer = tiles * side**2, tiles * math.ceil(side / stride) ** 2
    return Layer("conv", inputs, outputs, pixels, fewer, kernel, groups, bias)


def conv_transpose(inputs: int, outputs: int, side: int, kernel: int = 3) -> Layer:
    """A transposed convolution with bias that doubles the resolution."""
    return Layer("conv_transpose", inputs, outputs, side**2, (2 * side) ** 2, kernel, bias=True)


def dense(inputs: int, outputs: int, tokens: int = 1) -> Layer:
    """A linear layer with bias, applied to each token."""
    return Layer("dense", inputs, outputs, tokens, tokens, bias=True)


def norm(channels: int, side: int, affine: bool = True, tiles: int = 1) -> Layer:
    """BatchNorm."""
    return Layer("batch_norm", *_same(channels, side, tiles), bias=affine)


def relu(channels: int, side: int, tiles: int = 1) -> Layer:
    """A ReLU."""
    return Layer("relu", *_same(channels, side, tiles))


def pool(channels: int, side: int, kernel: int = 3, stride: int = 1) -> Layer:
    """A pooling window."""
    return Layer("pool", channels, channels, side**2, math.ceil(side / stride) ** 2, kernel)


def mean(channels: int, side: int) -> Layer:
    """The mean over all pixels."""
    return Layer("mean", channels, channels, side**2)


@functools.lru_cache(maxsize=1024)
def relu_conv_norm(
    inputs: int, outputs: int, side: int, kernel: int = 3, stride: int = 1, tiles: int = 1
) -> Plan:
    """ReLU, convolution, BatchNorm."""
    smaller = math.ceil(side / stride)
    return Plan(
        {
            "relu": relu(inputs, side, tiles),
            "conv": conv(inputs, outputs, side, kernel, stride, tiles=tiles),
            "norm": norm(outputs, smaller, tiles=tiles),
        }
    )


@functools.lru_cache(maxsize=1024)
def conv_norm_relu(
    inputs: int, outputs: int, side: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> Plan:
    """Convolution, BatchNorm, ReLU."""
    smaller = math.ceil(side / stride)
    convolution = conv(inputs, outputs, side, kernel, stride, groups=groups)
    return Plan(
        {"conv": convolution, "norm": norm(outputs, smaller), "relu": relu(outputs, smaller)}
    )


def _same(channels: int, side: int, tiles: int) -> tuple[int, int, int, int]:
    return channels, channels, tiles * side**2, tiles * side**2


# Readers ----------------------------------------------------------------------------------------


def active_sizes(plan: Plan) -> dict[str, np.ndarray]:
    """Counts the units of every weight and activation layer, 0 where the genotype has none.

    Returns:
        `in_units` and `out_units` [L] of the weight layers and `act_units` [A] of the activations,
        a sample, in order of execution.
    """
    weights, acts = plan.weight_layers, plan.activations
    return {
        "in_units": np.array([layer.present * layer.in_units for layer in weights], int),
        "out_units": np.array([layer.present * layer.out_units for layer in weights], int),
        "act_units": np.array([layer.present * layer.in_units for layer in acts], int),
    }


def flat_variables(variables: Any) -> dict[Path, Any]:
    """Variables, or their shapes, by their paths."""
    return cast(dict[Path, Any], traverse_util.flatten_dict(variables))


def cut(plan: Plan, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Cuts the variables of a plan's network from those of a larger one.

    Of a convolution's kernel the centre is kept, of every other axis the first entries.
    """
    flat, found = flat_variables(dict(variables)), {}
    for path, layer in plan.named_layers():
        for (collection, *leaf), shape in layer.variables().items() if layer.present else ():
            key = (collection, *path, *leaf)
            # Rows and columns of a convolution's kernel are the first two of its axes.
            centred = 2 if layer.kind == "conv" and len(shape) > 1 else 0
            starts = [
                (have - want) // 2 if axis < centred else 0
                for axis, (have, want) in enumerate(zip(flat[key].shape, shape, strict=True))
            ]
            ends = (start + want for start, want in zip(starts, shape, strict=True))
            found[key] = flat[key][tuple(map(slice, starts, ends))]
    return traverse_util.unflatten_dict(found)


def tensorwatch_flops(plan: Plan) -> int:
    """Counts FLOPs as tensorwatch 0.9.1 does, the published ones of NAS-Bench-Suite-Zero.

    Multiply-accumulates and biases of convolutions, multiply-accumulates of linear layers, nothing
    for transposed convolutions; 2 an element for BatchNorm (1 without scale), 1 for ReLU and
    LeakyReLU, nothing for tanh; a pooling window for each of its outputs; for a mean over all
    pixels a window one pixel wider than the map.
    """
    return sum(_tensorwatch(layer) for layer in plan.layers if layer.present)


def _tensorwatch(layer: Layer) -> int:
    if layer.kind == "conv":
        return layer.macs + layer.bias * layer.out_units
    if layer.kind == "dense":
        return layer.macs
    if layer.kind == "batch_norm":
        return (1 + layer.bias) * layer.in_units
    if layer.kind in ("relu", "leaky_relu"):
        return layer.in_units
    if layer.kind == "pool":
        return layer.kernel**2 * layer.out_units
    if layer.kind == "mean":
        return (math.isqrt(layer.in_positions) + 1) ** 2 * layer.in_channels
    return 0
