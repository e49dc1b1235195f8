"""The Flax network of TransNAS-Bench-101: cells or residual blocks, exact or (cells) elastic.

Without an encoding it runs the exact network of its fields' cell. With one (see
`TransNASMicro.encode`) every edge computes the operation of that genotype.

Arrays are [B, H, W, C], or [B, 9, H, W, C] for the tiles of a jigsaw, which share all weights.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from lswag_jax.spaces.blocks import ReLUConvBN, normalise, run_cell
from lswag_jax.spaces.layers import Conv, ElasticConv, Feature, torch_uniform
from lswag_jax.spaces.transnas.decoders import Decoder
from lswag_jax.spaces.transnas.genotype import EDGES
from lswag_jax.spaces.transnas.plan import blocks, decoder_layers, strides
from lswag_jax.tasks import Task

Array = jax.Array

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(features: int, size: int, strides: int, name: str) -> Conv:
    return Conv(features, size, strides, kernel_init=_kaiming, name=name)


class ExactEdge(nn.Module):
    """One edge of a cell: none, skip, ReLU-conv1x1-BN or ReLU-conv3x3-BN.

    A skip that changes the shape is a factorised reduction: two 1x1 convolutions with half of the
    channels each, the second on the image moved by one pixel.

    Args:
        op: 0 to 3.
        features: output channels.
        strides: of both axes.
    """

    op: int
    features: int
    strides: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array | None:
        """Maps the source node [..., H, W, I] to what it adds to the target; None for "none"."""
        if self.op == 0:
            return None
        if self.op == 1 and not _reshapes(x, self.features, self.strides):
            return x
        x = nn.relu(x)
        if self.op == 1:
            convs = (_conv(self.features // 2, 1, self.strides, f"reduce_{i}") for i in range(2))
            first, second = convs
            y = _factorised(first, second, x)
        else:
            y = _conv(self.features, 2 * self.op - 3, self.strides, "conv")(x)
        return normalise(y, train)


class ElasticEdge(nn.Module):
    """Any operation of `ExactEdge`, chosen by a traced index."""

    features: int
    strides: int

    @nn.compact
    def __call__(self, x: Array, op: Array, train: bool) -> Array:
        """Maps the source node [..., H, W, I] to what operation `op` adds to the target."""
        reshapes = _reshapes(x, self.features, self.strides)
        has_layers = op >= (1 if reshapes else 2)
        post = nn.relu(jnp.where(has_layers, x, 0))
        y = 0
        if reshapes:
            convs = [
                ElasticConv(self.features // 2, (1,), self.strides, _kaiming, name=f"reduce_{i}")
                for i in range(2)
            ]
            is_skip = jnp.asarray(op == 1, jnp.int32)
            first, second = (lambda x, conv=conv: conv(x, is_skip) for conv in convs)
            y = _factorised(first, second, post)
        conv = ElasticConv(self.features, (1, 3), self.strides, _kaiming, name="conv")
        y += conv(post, jnp.maximum(op - 1, 0))
        y = normalise(y, train, active=jnp.where(has_layers, self.features, 0))
        return y if reshapes else jnp.where(op == 1, x, y)


def _reshapes(x: Array, features: int, strides: int) -> bool:
    """Whether a skip has to change the shape."""
    return strides > 1 or x.shape[-1] != features


def _factorised(first, second, x: Array) -> Array:
    """Channels of `first(x)`, then those of `second` on the image moved up and left by one."""
    moved = jnp.pad(x[..., 1:, 1:, :], [(0, 0)] * (x.ndim - 3) + [(0, 1), (0, 1), (0, 0)])
    return jnp.concatenate([first(x), second(moved)], axis=-1)


class Cell(nn.Module):
    """Four nodes; each is the sum of the edges that lead to it from all nodes before."""

    ops: tuple[int, ...]
    features: int
    strides: int

    @nn.compact
    def __call__(self, x: Array, ops: Array | None, train: bool) -> Array:
        """Maps `x` [..., H, W, I] to [..., H / strides, W / strides, features]."""

        def run_edge(i: int, x: Array) -> Array | None:
            name, strides = f"edge_{i}", 1 if EDGES[i][0] else self.strides
            if ops is None:
                return ExactEdge(self.ops[i], self.features, strides, name=name)(x, train)
            return ElasticEdge(self.features, strides, name=name)(x, ops[i], train)

        pixels = (-(-size // self.strides) for size in x.shape[-3:-1])
        shape = (*x.shape[:-3], *pixels, self.features)
        return run_cell(x, EDGES, run_edge, shape)


class ResidualBlock(nn.Module):
    """ReLU-conv3x3-BN twice; the shortcut is conv1x1-BN where the shape changes.

    The epsilon of the shortcut's BatchNorm is 1 and its running statistics are those of the last
    batch, as in the benchmark.
    """

    features: int
    strides: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Maps `x` [..., H, W, I] to [..., H / strides, W / strides, features]."""
        y = ReLUConvBN(self.features, 3, self.strides, _kaiming, name="conv_a")(x, train)
        y = ReLUConvBN(self.features, kernel_init=_kaiming, name="conv_b")(y, train)
        if _reshapes(x, self.features, self.strides):
            x = _conv(self.features, 1, self.strides, "downsample")(x)
            # The published code passes `True, True` as epsilon and momentum of this one.
            x = normalise(x, train, name="downsample_norm", epsilon=1.0, momentum=0.0)
        return Feature(name="feature")(x + y)


class Stem(nn.Module):
    """Two strided 3x3 convolutions."""

    width: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Maps images [..., H, W, C] to [..., H / 4, W / 4, width]."""
        x = normalise(_conv(self.width // 2, 3, 2, "conv")(x), train)
        x = ReLUConvBN(self.width, 3, 2, _kaiming, name="block")(x, train)
        return Feature(name="feature")(x)


class Head(nn.Module):
    """Global average and a linear layer, over all tiles of a jigsaw."""

    outputs: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Maps features [B, h, w, C], or of nine tiles, to [B, outputs]."""
        del train
        x = x.mean(axis=(-3, -2)).reshape(len(x), -1)
        uniform = torch_uniform(x.shape[-1])
        return nn.Dense(self.outputs, kernel_init=uniform, bias_init=uniform, name="linear")(x)


class TransNASNetwork(nn.Module):
    """Stem, modules of two blocks each, and the head of a task.

    Args:
        modules: 1 plain, 2 twice the channels, 3 half the resolution, 4 both.
        ops: operations of the exact network's cell; None for residual blocks.
        width: channels of the stem's output.
        task: says what the head puts out.
        decoder_width: channels of the first layer of a decoder.
    """

    counts_dead_code: ClassVar[bool] = True  # as the benchmark's own figures do

    modules: tuple[int, ...]
    ops: tuple[int, ...] | None
    width: int
    task: Task
    decoder_width: int

    @nn.compact
    def __call__(
        self, images: Array, encoded: Mapping[str, Any] | None = None, train: bool = False
    ) -> Array:
        """Output of the task's head: [B, outputs], or [B, H, W, outputs] where it is dense.

        Args:
            images: [B, H, W, channels], or tiles [B, 9, h, w, channels] of a jigsaw; their dtype
                and the variables' decide the precision.
            encoded: one genotype of `TransNASMicro.encode` (no leading axis); None for the exact
                network.
            train: whether BatchNorm normalises by the batch and updates its running statistics.
        """
        ops = None if encoded is None else encoded["ops"]
        x = Stem(self.width, name="stem")(images, train)
        for name, (_, features, stride) in blocks(self.modules, self.width):
            if self.ops is None:
                x = ResidualBlock(features, stride, name=name)(x, train)
            else:
                x = Cell(self.ops, features, stride, name=name)(x, ops, train)
                x = Feature(name=f"{name}_feature")(x)
        name, make = self.head()
        return make(name=name)(x, train)

    def head(self) -> tuple[str, Callable[..., nn.Module]]:
        """Name of the task's head, and what makes it."""
        if not self.task.dense:
            return "head", functools.partial(Head, self.task.outputs)
        layers = decoder_layers(self.task, 2 + strides(self.modules), self.decoder_width)
        return "decoder", functools.partial(Decoder, tuple(layers), self.task.target == "image")
