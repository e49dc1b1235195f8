"""The Flax network of NAS-Bench-201: one module, exact or elastic.

Called without an encoding it is the exact network of its own cell. Called with one (see
`NasBench201.encode`) every edge computes the operation of that genotype; only that one runs, where
genotypes are taken one by one.
"""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lswag_jax.spaces.convolution import average_pool
from lswag_jax.spaces.layers import (
    BatchNorm,
    Conv,
    ElasticConv,
    Feature,
    if_there,
    only_there,
    torch_uniform,
)
from lswag_jax.spaces.nasbench201.genotype import EDGES, OPS

Array = jax.Array
CONV_SIZES = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
# Number of the size of each operation's convolution in `ElasticConv`, 0 for none.
CONV_CHOICE = tuple({0: 0, 1: 1, 3: 2}[CONV_SIZES.get(op, 0)] for op in OPS)
SUPERNET_OPS = OPS[1:]  # without "none"


class Edge(nn.Module):
    """One operation of a cell; ReLU-conv-BN for convolutions."""

    op: str  # of the exact network

    @nn.compact
    def __call__(
        self, x: Array, code: Array | None, train: bool, there: Array | None = None
    ) -> Array | None:
        """Maps `x` [B, H, W, C] to the same shape, or to None for an exact "none".

        Args:
            x: the source node.
            code: index of the operation into `OPS`; None for an exact network.
            train: whether BatchNorm updates its statistics.
            there: 0 where a super-network lacks the operation; None for an exact network.
        """
        if code is not None:
            return self._elastic(x, code, train)
        x = only_there(there, x)
        if self.op in CONV_SIZES:
            y = Conv(x.shape[-1], CONV_SIZES[self.op], name="conv")(nn.relu(x), there)
            active = None if there is None else x.shape[-1] * there
            return BatchNorm(name="norm")(y, train, active=active)
        if self.op == "avg_pool_3x3":
            return if_there(there, average_pool, x)
        return x if self.op == "skip_connect" else None

    def _elastic(self, x: Array, code: Array, train: bool) -> Array:
        choice = jnp.array(CONV_CHOICE)[code]
        channels = x.shape[-1]
        post = nn.relu(jnp.where(choice > 0, x, 0))
        y = ElasticConv(channels, name="conv")(post, choice)
        y = BatchNorm(name="norm")(y, train, active=jnp.where(choice > 0, channels, 0))
        return _chosen_output(code, x, y)


@jax.jit
def _chosen_output(code: Array, x: Array, y: Array) -> Array:
    """What operation number `code` gives: `x` the source, `y` its convolution; traced once."""
    branches = {
        "none": lambda x, y: jnp.zeros_like(x),
        "skip_connect": lambda x, y: x,
        "avg_pool_3x3": lambda x, y: average_pool(x),
    }
    return lax.switch(code, [branches.get(op, lambda x, y: y) for op in OPS], x, y)


class SuperEdge(nn.Module):
    """The sum of several operations, each with weights of its own."""

    ops: tuple[str, ...]  # of the exact network

    @nn.compact
    def __call__(self, x: Array, codes: Array | None, train: bool) -> Array | None:
        """Maps `x` [B, H, W, C] to the same shape, or to None without an exact operation.

        Args:
            x: the source node.
            codes: 0 for each of `SUPERNET_OPS` that is not there; None for an exact network.
            train: whether BatchNorm updates its statistics.
        """
        if codes is None:
            outputs = [Edge(op, name=op)(x, None, train) for op in self.ops]
        else:
            pairs = zip(SUPERNET_OPS, codes, strict=True)
            outputs = [Edge(op, name=op)(x, None, train, there) for op, there in pairs]
        return functools.reduce(operator.add, outputs) if outputs else None


class Cell(nn.Module):
    """Four nodes; each is the sum of the edges that lead to it."""

    ops: tuple
    edge_class: type[nn.Module]

    @nn.compact
    def __call__(self, x: Array, codes: Array | None, train: bool) -> Array:
        """Maps `x` [B, H, W, C] to the same shape."""
        nodes: list[Array | None] = [x, None, None, None]
        for i, (source, target) in enumerate(EDGES):
            edge = self.edge_class(self.ops[i], name=f"edge_{i}")
            start = jnp.zeros_like(x) if nodes[source] is None else nodes[source]
            y = edge(start, None if codes is None else codes[i], train)
            if y is not None:
                nodes[target] = y if nodes[target] is None else nodes[target] + y
        return jnp.zeros_like(x) if nodes[3] is None else nodes[3]


class ReLUConvBN(nn.Module):
    """ReLU, 3x3 convolution, BatchNorm."""

    features: int
    strides: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, I] to [B, H / strides, W / strides, features]."""
        y = Conv(self.features, strides=self.strides, name="conv")(nn.relu(x))
        return BatchNorm(name="norm")(y, train)


class ResidualBlock(nn.Module):
    """Between stages: half the resolution, twice the channels."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, C] to [B, H / 2, W / 2, 2 C]."""
        features = 2 * x.shape[-1]
        y = ReLUConvBN(features, 2, name="conv_a")(x, train)
        y = ReLUConvBN(features, name="conv_b")(y, train)
        pooled = nn.avg_pool(x, (2, 2), (2, 2))
        return y + Conv(features, 1, name="downsample")(pooled)


class NasBench201Network(nn.Module):
    """Stem, three stages of cells with residual blocks between, and a linear classifier.

    Args:
        ops: of the exact network's cell, for each edge its operation or those of a super-network.
        width: channels of the first stage.
        cells: of each stage.
        num_classes: width of the logits.
        edge_class: `Edge`, or `SuperEdge` of a super-network.
    """

    ops: tuple
    width: int
    cells: int
    num_classes: int
    edge_class: type[nn.Module] = Edge

    @nn.compact
    def __call__(
        self, images: Array, encoded: Mapping[str, Any] | None = None, train: bool = False
    ) -> Array:
        """Logits [B, C] of `images` [B, H, W, channels].

        Args:
            images: the batch; its dtype and the variables' decide the precision.
            encoded: one genotype of `NasBench201.encode` (no leading axis); None for the exact
                network.
            train: whether BatchNorm normalises by the batch and updates its running statistics.
        """
        codes = None if encoded is None else encoded["codes"]
        x = Conv(self.width, name="stem_conv")(images)
        x = Feature(name="stem")(BatchNorm(name="stem_norm")(x, train))
        for i in range(3 * self.cells + 2):
            if i % (self.cells + 1) == self.cells:
                x = ResidualBlock(name=f"cells_{i}")(x, train)
            else:
                x = Cell(self.ops, self.edge_class, name=f"cells_{i}")(x, codes, train)
            x = Feature(name=f"feature_{i}")(x)
        x = nn.relu(BatchNorm(name="norm")(x, train))
        x = Feature(final=True, name="pooled")(x).mean(axis=(1, 2))
        uniform = torch_uniform(x.shape[-1])
        head = nn.Dense(self.num_classes, kernel_init=uniform, bias_init=uniform, name="head")
        return head(x)
