"""The Flax network of NAS-Bench-201: one module, exact or elastic.

Without an encoding it runs the exact network of its fields' cell. With one (see
`NasBench201.encode`) every edge computes the operation of that genotype; only that one runs, where
genotypes are taken one by one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lswag_jax.spaces.blocks import ReLUConvBN, SuperEdge, run_cell
from lswag_jax.spaces.convolution import average_pool
from lswag_jax.spaces.layers import (
    BatchNorm,
    Conv,
    ElasticConv,
    Feature,
    cond_present,
    mask_absent,
    torch_uniform,
)
from lswag_jax.spaces.nasbench201.genotype import EDGES, OPS
from lswag_jax.spaces.nasbench201.plan import CONV_SIZES, STAGES, SUPERNET_OPS, is_residual

Array = jax.Array
# Number of the size of each operation's convolution in `ElasticConv`, 0 for none.
CONV_CHOICE = tuple({0: 0, 1: 1, 3: 2}[CONV_SIZES.get(op, 0)] for op in OPS)


class ExactEdge(nn.Module):
    """One operation of a cell, or of a super-network's edge; ReLU-conv-BN for convolutions."""

    op: str

    @nn.compact
    def __call__(self, x: Array, train: bool, present: Array | None = None) -> Array | None:
        """Maps `x` [B, H, W, C] to the same shape, or to None for "none".

        Args:
            x: the source node.
            train: whether BatchNorm updates its statistics.
            present: 0 where a super-network lacks the operation; None for an exact network.
        """
        x = mask_absent(present, x)
        if self.op in CONV_SIZES:
            y = Conv(x.shape[-1], CONV_SIZES[self.op], name="conv")(nn.relu(x), present)
            active = None if present is None else x.shape[-1] * present
            return BatchNorm(name="norm")(y, train, active=active)
        if self.op == "avg_pool_3x3":
            return cond_present(present, average_pool, x)
        return x if self.op == "skip_connect" else None


class ElasticEdge(nn.Module):
    """Any operation of a cell, chosen by a traced index."""

    @nn.compact
    def __call__(self, x: Array, code: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, C] to the same shape by operation number `code` of `OPS`."""
        choice, channels = jnp.array(CONV_CHOICE)[code], x.shape[-1]
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


class Cell(nn.Module):
    """Four nodes; each is the sum of the edges that lead to it."""

    edges: tuple  # of each edge its operation, or those of a super-network

    @nn.compact
    def __call__(self, x: Array, codes: Array | None, train: bool) -> Array:
        """Maps `x` [B, H, W, C] to the same shape."""

        def run_edge(i: int, x: Array) -> Array | None:
            name, code = f"edge_{i}", None if codes is None else codes[i]
            if not isinstance(self.edges[i], str):
                edge = SuperEdge(self.edges[i], SUPERNET_OPS, ExactEdge, name=name)
                return edge(x, code, train)
            if code is None:
                return ExactEdge(self.edges[i], name=name)(x, train)
            return ElasticEdge(name=name)(x, code, train)

        return run_cell(x, EDGES, run_edge, x.shape)


class ResidualBlock(nn.Module):
    """Between stages: half the resolution, twice the channels."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, C] to [B, H / 2, W / 2, 2 C]."""
        features = 2 * x.shape[-1]
        y = ReLUConvBN(features, strides=2, name="conv_a")(x, train)
        y = ReLUConvBN(features, name="conv_b")(y, train)
        pooled = nn.avg_pool(x, (2, 2), (2, 2))
        return y + Conv(features, 1, name="downsample")(pooled)


class NasBench201Network(nn.Module):
    """Stem, three stages of cells with residual blocks between, and a linear classifier.

    Args:
        edges: of a cell, for each its operation or those of a super-network.
        width: channels of the first stage.
        cells: of each stage.
        num_classes: width of the logits.
    """

    counts_dead_code: ClassVar[bool] = True  # as the benchmark's own figures do

    edges: tuple
    width: int
    cells: int
    num_classes: int

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
        for i in range(STAGES * self.cells + STAGES - 1):
            if is_residual(i, self.cells):
                x = ResidualBlock(name=f"cells_{i}")(x, train)
            else:
                x = Cell(self.edges, name=f"cells_{i}")(x, codes, train)
            x = Feature(name=f"feature_{i}")(x)
        x = nn.relu(BatchNorm(name="norm")(x, train))
        x = Feature(final=True, name="pooled")(x).mean(axis=(1, 2))
        uniform = torch_uniform(x.shape[-1])
        head = nn.Dense(self.num_classes, kernel_init=uniform, bias_init=uniform, name="head")
        return head(x)
