"""The Flax network of the DARTS space: one module, exact or elastic.

Without an encoding it runs the exact network of its fields' cells. With one (see
`Darts.encode`) every edge takes the input and the operation of that genotype; only that operation
runs, where genotypes are taken one by one. The weight layers of an edge are slots that its
operations share: `slots` says which of them an operation has.

In an elastic reduction cell the nodes, of half the resolution, are spread over maps of the inputs'
size, zeros between their pixels, so that one traced index can pick an edge's input. An operation of
stride 1 on a node is then one of stride 2 and twice the dilation on its map.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lswag_jax import marks
from lswag_jax.spaces.blocks import ReLUConvBN
from lswag_jax.spaces.cost import multiplies
from lswag_jax.spaces.darts.codes import CODES
from lswag_jax.spaces.darts.genotype import NODES
from lswag_jax.spaces.darts.ops import average_pool, depthwise, max_pool, spread
from lswag_jax.spaces.darts.plan import (
    DEPTHWISE,
    HALVES,
    SLOTS,
    Place,
    cells,
    edge_stride,
    slots,
)
from lswag_jax.spaces.layers import (
    BatchNorm,
    Conv,
    ElasticConv,
    Feature,
    cond_present,
    mask_absent,
    product,
    torch_uniform,
)

Array = jax.Array
POOLS = {"max_pool_3x3": max_pool, "avg_pool_3x3": average_pool}


class Depthwise(nn.Module):
    """Depthwise convolution without bias, PyTorch's padding and default initialisation."""

    size: int
    strides: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, present: Array | None = None) -> Array:
        """Maps `x` [B, H, W, C] to [B, H / strides, W / strides, C]; see `cond_present`."""
        shape = (self.size, self.size, 1, x.shape[-1])
        kernel = self.param("kernel", torch_uniform(self.size**2), shape)
        return product(present, _depthwise, x, kernel, dilation=self.dilation, strides=self.strides)


def _depthwise(x: Array, kernel: Array, dilation: int, strides: int) -> Array:
    products = multiplies(len(kernel) ** 2)
    return products(lambda x, kernel: depthwise(x, kernel, dilation, strides, dilation))(x, kernel)


class ElasticDepthwise(nn.Module):
    """A depthwise convolution of size 3, size 5, or none.

    A 3x3 kernel is the centre of the 5x5 one.

    Args:
        strides: of both axes.
        reach: the largest dilation.
    """

    strides: int = 1
    reach: int = 1

    @nn.compact
    def __call__(self, x: Array, choice: Array, dilation: Array | int = 1) -> Array:
        """Maps `x` [B, H, W, C] to [B, H / strides, W / strides, C].

        Args:
            x: the input.
            choice: 0 gives zeros, 1 is size 3 and 2 size 5.
            dilation: of the kernel.
        """
        kernel = self.param("kernel", torch_uniform(25), (5, 5, 1, x.shape[-1]))
        options = {"strides": self.strides, "reach": self.reach}
        return marks.layer(_chosen_depthwise, x, kernel, choice, jnp.asarray(dilation), **options)


def _chosen_depthwise(
    x: Array, kernel: Array, choice: Array, dilation: Array, strides: int, reach: int
) -> Array:
    """Depthwise convolution by the centre of `kernel`, all of it, or none."""
    out = x[..., ::strides, ::strides, :]
    branches = [
        lambda x, kernel, _: jnp.zeros(out.shape, out.dtype),
        lambda x, kernel, d: depthwise(x, kernel[1:4, 1:4], d, strides, reach),
        lambda x, kernel, d: depthwise(x, kernel, d, strides, reach),
    ]
    return lax.switch(choice, branches, x, kernel, dilation)


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 a pixel apart, BatchNorm."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, I] to [B, H / 2, W / 2, features]."""
        x = nn.relu(x)
        halves = [Conv(self.features // 2, 1, 2, name=name) for name in HALVES]
        return BatchNorm(name="norm")(_both_halves(x, *halves), train)


def _both_halves(x: Array, first, second) -> Array:
    """Both convolutions; images of odd size end in a row and a column of zeros, as in xautodl."""
    h, w, _ = x.shape[-3:]
    if h % 2 or w % 2:
        x = jnp.pad(x, [*[(0, 0)] * (x.ndim - 3), (0, h % 2), (0, w % 2), (0, 0)])
    return jnp.concatenate([first(x), second(x[..., 1:, 1:, :])], axis=-1)


class ExactEdge(nn.Module):
    """One operation of a cell, or of a super-network's edge."""

    op: str
    strides: int
    affine: bool
    pool_norm: bool

    @nn.compact
    def __call__(self, x: Array, train: bool, present: Array | None = None) -> Array:
        """Maps `x` [B, H, W, C] to [B, H / strides, W / strides, C].

        Args:
            x: the source.
            train: whether BatchNorm updates its statistics.
            present: 0 where a super-network lacks the operation; None for an exact network.
        """
        names = slots(self.op, self.strides, self.pool_norm)
        active = None if present is None else x.shape[-1] * present
        x = mask_absent(present, x)
        if self.op in POOLS:
            x = cond_present(present, _pool, x, op=self.op, strides=self.strides)
        elif "half_1" in names:
            halves = [Conv(x.shape[-1] // 2, 1, 2, name=name) for name in HALVES]
            x = _both_halves(nn.relu(x), *(functools.partial(f, present=present) for f in halves))
        elif "depthwise_1" in names:
            x = self._separable(x, "1", self.strides, present)
        if "norm_1" in names:
            x = _norm(self, "norm_1")(x, train, active=active)
        if "norm_2" in names:
            x = _norm(self, "norm_2")(self._separable(x, "2", 1, present), train, active=active)
        return x

    def _separable(self, x: Array, number: str, strides: int, present: Array | None) -> Array:
        size, dilation = DEPTHWISE[self.op]
        x = Depthwise(size, strides, dilation, name=f"depthwise_{number}")(nn.relu(x), present)
        return Conv(x.shape[-1], 1, name=f"pointwise_{number}")(x, present)


def _pool(x: Array, op: str, strides: int) -> Array:
    return POOLS[op](x, 1, strides, 1)


class ElasticEdge(nn.Module):
    """Any operation of a cell; in a reduction cell on an input or a spread node."""

    reduces: bool
    affine: bool
    pool_norm: bool

    @nn.compact
    def __call__(self, x: Array, codes: Mapping[str, Array], train: bool) -> Array:
        """Maps `x` [B, H, W, C] to the same shape, or in a reduction cell to half of it.

        Args:
            x: the source; a node of a reduction cell is spread.
            codes: this edge's entries of `edge_codes`.
            train: whether BatchNorm updates its statistics.
        """
        strides = 1 + self.reduces
        present: dict[str, Array] = dict(zip(SLOTS, codes["slots"], strict=True))
        has_skip = present["half_1"] if self.reduces else 0
        post = nn.relu(jnp.where(present["depthwise_1"] + has_skip > 0, x, 0))
        skip = self._halves(post, has_skip) if self.reduces else x
        y = ElasticDepthwise(strides, 2 * strides, name="depthwise_1")(
            post, codes["sizes"], dilation=codes["dilations"]
        )
        y = ElasticConv(x.shape[-1], (1,), name="pointwise_1")(y, present["pointwise_1"])
        y = self._route(codes, x, skip, y)
        z = self._elastic_norm("norm_1", y, present, train)

        post = nn.relu(jnp.where(present["depthwise_2"] > 0, z, 0))
        size = codes["sizes"] * present["depthwise_2"]
        w = ElasticDepthwise(name="depthwise_2")(post, size)
        w = ElasticConv(x.shape[-1], (1,), name="pointwise_2")(w, present["pointwise_2"])
        w = self._elastic_norm("norm_2", w, present, train)
        last = present["norm_1"] + present["norm_2"]
        return lax.switch(last, [lambda *a, i=i: a[i] for i in range(3)], y, z, w)

    def _halves(self, post: Array, choice: Any) -> Array:
        layers = [ElasticConv(post.shape[-1] // 2, (1,), 2, name=name) for name in HALVES]
        return _both_halves(post, *(functools.partial(f, choice=choice) for f in layers))

    def _elastic_norm(
        self, name: str, y: Array, present: Mapping[str, Array], train: bool
    ) -> Array:
        return _norm(self, name)(y, train, active=y.shape[-1] * present[name])

    def _route(self, codes: Mapping[str, Array], x: Array, skip: Array, conv: Array) -> Array:
        """What the first BatchNorm normalises, or the edge's output where it has none."""
        strides, spacing = 1 + self.reduces, codes["spacings"]

        def pool(function):
            return lambda x, *_: function(x, spacing, strides, strides)

        def identity(x: Array, skip: Array, conv: Array) -> Array:
            return jnp.where(spacing == 1, skip, x[..., ::2, ::2, :]) if self.reduces else x

        branches = [*(pool(f) for f in POOLS.values()), identity, lambda x, skip, conv: conv]
        return lax.switch(codes["ops"], branches, x, skip, conv)  # beyond the last is the last


def _norm(edge: ExactEdge | ElasticEdge, name: str) -> BatchNorm:
    return BatchNorm(use_scale=edge.affine, use_bias=edge.affine, name=name)


class Cell(nn.Module):
    """Four nodes; each is the sum of two edges, and the output concatenates them.

    Args:
        place: width, and which resolutions are halved.
        edges: of the exact network.
        affine, pool_norm: see `Darts`.
    """

    place: Place
    edges: tuple
    affine: bool
    pool_norm: bool

    @nn.compact
    def __call__(
        self, first: Array, second: Array, codes: Mapping[str, Array] | None, train: bool
    ) -> Array:
        """Maps the outputs of the two cells before [B, H, W, C] to [B, H', W', 4 * width].

        Args:
            first: of the cell before the last, perhaps at twice the resolution.
            second: of the last cell.
            codes: this cell's entries of `edge_codes`; None for the exact cell.
            train: whether BatchNorm updates its statistics.
        """
        width = self.place.width
        if self.place.halves_first:
            preprocess = FactorizedReduce(width, name="preprocess_0")
        else:
            preprocess = ReLUConvBN(width, 1, name="preprocess_0")
        states = [
            preprocess(first, train),
            ReLUConvBN(width, 1, name="preprocess_1")(second, train),
        ]
        return self._nodes(states, codes, train)

    @staticmethod
    def codes_of(encoded: Mapping[str, Any], kind: int) -> Any:
        """The entries of an encoding that concern a normal (0) or a reduction cell (1)."""
        return {key: encoded[key][kind] for key in CODES}

    def _nodes(self, states: list[Array], codes: Any, train: bool) -> Array:
        """The nodes of two inputs, side by side."""
        if codes is not None:
            return self._elastic_nodes(states, codes, train)
        for node in range(NODES):
            left, right = (self._exact_edge(2 * node + i, states, train) for i in range(2))
            states.append(left + right)
        return jnp.concatenate(states[2:], axis=-1)

    def _exact_edge(self, i: int, states: list[Array], train: bool) -> Array:
        op, source = self.edges[i]
        strides = edge_stride(self.place.reduces, source)
        edge = ExactEdge(op, strides, self.affine, self.pool_norm, name=f"edge_{i}")
        return edge(states[source], train)

    def _elastic_nodes(self, inputs: list[Array], codes: Mapping[str, Array], train: bool) -> Array:
        """The nodes one behind the other, as sums that every edge adds to.

        Edges are alike, so that scoring finds them as turns of one loop; all that differs between
        them is therefore read before the first.
        """
        own = [{key: value[i] for key, value in codes.items()} for i in range(2 * NODES)]
        places = list(2 + jnp.arange(2 * NODES) // 2)  # arrays: as constants they would differ
        _, height, width, channels = inputs[0].shape
        states = jnp.stack([*inputs, *[jnp.zeros_like(inputs[0])] * NODES])
        for i, (code, place) in enumerate(zip(own, places, strict=True)):
            edge = ElasticEdge(self.place.reduces, self.affine, self.pool_norm, name=f"edge_{i}")
            y = edge(states[code["inputs"]], code, train)
            if self.place.reduces:  # an input of odd size ends in a pixel of a node, not in a gap
                y = spread(y, 2)[:, :height, :width]
            states = states.at[place].add(y)
        strides = 1 + self.place.reduces
        nodes_BxHxWxNxC = jnp.moveaxis(states[2:, :, ::strides, ::strides], 0, -2)
        return nodes_BxHxWxNxC.reshape(*nodes_BxHxWxNxC.shape[:-2], NODES * channels)


class DartsNetwork(nn.Module):
    """Stem, cells, global average pooling and a linear classifier.

    Args:
        normal, reduce: edges of the exact network's cells.
        layers: number of cells.
        width, stem, affine, pool_norm, num_classes: see `Darts`.
        cell_class: `Cell`, or another with edges of its own.
    """

    counts_dead_code: ClassVar[bool] = True  # as the benchmark's own figures do

    normal: tuple
    reduce: tuple
    layers: int
    width: int
    stem: str
    affine: bool
    pool_norm: bool
    num_classes: int
    cell_class: type[Cell] = Cell

    @nn.compact
    def __call__(
        self, images: Array, encoded: Mapping[str, Any] | None = None, train: bool = False
    ) -> Array:
        """Logits [B, C] of `images` [B, H, W, channels].

        Args:
            images: the batch; its dtype and the variables' decide the precision.
            encoded: one genotype of `Darts.encode` (no leading axis); None for the exact network.
            train: whether BatchNorm normalises by the batch and updates its running statistics.
        """
        first, second = self._stem(images, train)
        for i, place in enumerate(cells(self.layers, self.width, self.stem)):
            codes, kind = None, int(place.reduces)
            if encoded is not None:
                codes = self.cell_class.codes_of(encoded, kind)
            edges = (self.normal, self.reduce)[kind]
            cell = self.cell_class(place, edges, self.affine, self.pool_norm, name=f"cells_{i}")
            first, second = second, cell(first, second, codes, train)
            second = Feature(name=f"feature_{i}")(second)
        x = second.mean(axis=(1, 2))
        uniform = torch_uniform(x.shape[-1])
        head = nn.Dense(self.num_classes, kernel_init=uniform, bias_init=uniform, name="head")
        return head(x)

    def _stem(self, x: Array, train: bool) -> tuple[Array, Array]:
        """The first two inputs of the cells."""
        if self.stem == "cifar":
            x = Conv(3 * self.width, name="stem_conv")(x)
            x = BatchNorm(name="stem_norm")(x, train)
            return x, x
        outputs = []
        for i, features in enumerate((self.width // 2, self.width, self.width)):
            x = Conv(features, strides=2, name=f"stem_conv_{i}")(nn.relu(x) if i else x)
            x = BatchNorm(name=f"stem_norm_{i}")(x, train)
            outputs.append(x)
        return outputs[1], outputs[2]
