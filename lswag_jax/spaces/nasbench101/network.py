"""The Flax network of NAS-Bench-101: one module, exact or elastic.

Without an encoding it runs the exact network of its fields' cell. With one (see
`NasBench101.encode`) it computes that cell in the places of the largest one: vertices 1 to 5, of
which a genotype has the first ones, and the output. Edges and channels are masked, and a
convolution runs only where the genotype has it, at about the genotype's width.

A kernel or a mask of an elastic network covers the first channels of the widest vertex, which is
as wide as the whole cell.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lswag_jax import marks
from lswag_jax.arrays import total
from lswag_jax.spaces.convolution import convolve, max_pool
from lswag_jax.spaces.layers import BatchNorm, Conv, Feature, masked
from lswag_jax.spaces.nasbench101.genotype import INNER, KERNEL_SIZES, OPS, vertex_channels

Array = jax.Array
SHARES = (1, 2, 3)  # of a cell's channels, over the vertices that feed its output
_POOL = 1 + OPS.index("maxpool3x3")  # code of an operation: 0 is none


def conv_init(key, shape, dtype=jnp.float32):
    """N(0, 2 / (k * k * output channels)), as zero-cost-nas draws kernels."""
    return jax.random.normal(key, shape, dtype) * (2 / (shape[0] * shape[1] * shape[3])) ** 0.5


class SlicedConv(nn.Module):
    """A convolution of one of several sizes, or none, chosen by a traced index.

    The kernel is the largest one; a smaller size uses its centre and first channels. Only the
    chosen size is computed where the index is a scalar (`lax.switch`).

    Args:
        size, features: of the largest kernel.
        slices: kernel size, input channels and output channels of each choice.
        inputs: first input channels whose weights are drawn, those of the others are zero; None
            for all.
    """

    size: int
    features: int
    slices: tuple[tuple[int, int, int], ...]
    inputs: int | None = None

    @nn.compact
    def __call__(self, x: Array, choice: Array) -> Array:
        """Maps `x` [..., H, W, I] to [..., H, W, O] by slice `choice` - 1; choice 0 gives zeros."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self._init, shape)
        return marks.layer(_sliced_convolution, x, kernel, choice, slices=tuple(self.slices))

    def _init(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        inputs = shape[2] if self.inputs is None else self.inputs
        drawn = conv_init(key, (*shape[:2], inputs, shape[3]), dtype)
        return jnp.pad(drawn, ((0, 0), (0, 0), (0, shape[2] - inputs), (0, 0)))


def _sliced_convolution(x: Array, kernel: Array, choice: Array, slices: tuple) -> Array:
    """Convolution by one slice of `kernel`, or zeros; see `SlicedConv`."""
    largest, features = kernel.shape[0], kernel.shape[-1]

    def sliced(size: int, inputs: int, outputs: int):
        edge = (largest - size) // 2
        centre = slice(edge, edge + size)
        surplus = ((0, 0),) * (x.ndim - 1) + ((0, features - outputs),)

        def apply(x: Array, kernel: Array) -> Array:
            kernel = kernel[centre, centre, :inputs, :outputs]
            return jnp.pad(convolve(x[..., :inputs], kernel), surplus)

        return apply

    def nothing(x: Array, kernel: Array) -> Array:
        del kernel
        return jnp.zeros((*x.shape[:-1], features), x.dtype)

    return lax.switch(choice, (nothing, *(sliced(*s) for s in slices)), x, kernel)


class ConvBNReLU(nn.Module):
    """Convolution, BatchNorm, ReLU.

    Args:
        features: output channels; of an elastic layer the most it can have.
        size: of the kernel; of an elastic layer the largest.
        slices, inputs: of an elastic layer, see `SlicedConv`.
    """

    features: int
    size: int = 1
    slices: tuple[tuple[int, int, int], ...] = ()
    inputs: int | None = None

    @nn.compact
    def __call__(
        self, x: Array, train: bool, choice: Array | None = None, active: Array | None = None
    ) -> Array:
        """Maps `x` [B, H, W, I] to [B, H, W, features].

        Args:
            x: the input.
            train: whether BatchNorm updates its statistics.
            choice: slice of an elastic layer plus 1, 0 where it is absent.
            active: output channels that an elastic layer has.
        """
        if choice is None:
            y = Conv(self.features, self.size, kernel_init=conv_init, name="conv")(x)
        else:
            conv = SlicedConv(self.size, self.features, self.slices, self.inputs, name="conv")
            y = conv(x, choice)
        return nn.relu(BatchNorm(name="norm")(y, train, active=active))


class Cell(nn.Module):
    """An exact cell.

    Args:
        matrix, ops: of the genotype.
        features: output channels.
    """

    matrix: tuple[tuple[int, ...], ...]
    ops: tuple[str, ...]
    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps `x` [B, H, W, I] to [B, H, W, features]."""
        widths = vertex_channels(self.matrix, x.shape[-1], self.features)
        last = len(widths) - 1
        values = [x]
        for v in range(1, last):
            terms = [values[u][..., : widths[v]] for u in range(1, v) if self.matrix[u][v]]
            if self.matrix[0][v]:
                terms.append(ConvBNReLU(widths[v], name=f"input_{v}")(x, train))
            y = total(terms)
            if self.ops[v] in KERNEL_SIZES:
                size = KERNEL_SIZES[self.ops[v]]
                y = ConvBNReLU(widths[v], size, name=f"vertex_{v}")(y, train)
            else:
                y = max_pool(y)
            values.append(y)
        fed = [values[v] for v in range(1, last) if self.matrix[v][last]]
        if not self.matrix[0][last]:
            return jnp.concatenate(fed, axis=-1)
        direct = ConvBNReLU(self.features, name="input_output")(x, train)
        return direct + jnp.concatenate(fed, axis=-1) if fed else direct


class ElasticCell(nn.Module):
    """Any cell of up to 7 vertices.

    A vertex is as wide as the cell over the number of inner vertices that feed the output, give or
    take the remainder. A convolution is computed at the narrowest of `SHARES` of all channels,
    rounded up, that is wide enough. Each takes time to compile; a fourth, for cells with four
    vertices that feed the output, would serve 34 of the 3,000 that seed 0 samples.

    Args:
        features: output channels.
        inputs: channels of its input, that of a stack's first cell in those of the others: so all
            cells of a stack are alike, and scoring finds them as turns of one loop.
    """

    features: int
    inputs: int

    @nn.compact
    def __call__(
        self,
        x: Array,
        encoded: Mapping[str, Any],
        widths: Sequence[Array],
        offsets: Sequence[Array],
        train: bool,
    ) -> Array:
        """Maps `x` [B, H, W, features] to the same shape.

        Args:
            x: the input; zeros behind its `inputs` channels.
            encoded: of the genotype, see `NasBench101.encode`, each number by itself.
            widths, offsets: channels of each inner vertex in this cell, and its first channel of
                the output (5).
            train: whether BatchNorm updates its statistics.
        """
        edges, fan_in = encoded["edges"], encoded["fan_in"]
        each = [-(-self.features // n) for n in SHARES]
        share = jnp.minimum(fan_in, len(SHARES))
        entry = tuple((1, x.shape[-1], width) for width in each)
        inner = tuple((size, width, width) for size in KERNEL_SIZES.values() for width in each)
        values, output = [], 0
        for v in range(INNER):
            width, code = widths[v], encoded["codes"][v]
            is_fed = edges[0][v + 1]
            layer = ConvBNReLU(self.features, 1, entry, self.inputs, name=f"input_{v + 1}")
            y = layer(x, train, is_fed * share, is_fed * width)
            if v:
                pairs = zip(values, edges[1 : v + 1], strict=True)
                y += masked(total(z * w[v + 1].astype(z.dtype) for z, w in pairs), width)
            is_conv = (code > 0) & (code <= len(KERNEL_SIZES))
            choice = ((code - 1) * len(SHARES) + share) * is_conv
            layer = ConvBNReLU(self.features, 3, inner, name=f"vertex_{v + 1}")
            z = layer(y, train, choice, width * is_conv)
            z = lax.cond(code == _POOL, lambda y, z: max_pool(y), lambda y, z: z, y, z)
            output += jnp.roll(z, offsets[v], axis=-1) * edges[v + 1][-1].astype(x.dtype)
            values.append(z)
        whole = ((1, x.shape[-1], self.features),)
        direct = ConvBNReLU(self.features, 1, whole, self.inputs, name="input_output")
        return output + direct(x, train, edges[0][-1], edges[0][-1] * self.features)


def _numbers(x: Array) -> Any:
    """Each number of an array, in nested lists."""
    return [_numbers(row) for row in x] if x.ndim else x


def _halved(x: Array) -> Array:
    """The largest of each 2 x 2 pixels; the first of equals has the gradient."""
    first, *others = (x[:, i::2, j::2] for i in range(2) for j in range(2))
    for other in others:
        first = jnp.where(other > first, other, first)
    return first


class NasBench101Network(nn.Module):
    """Stem, stacks of cells with max pools between, and a linear classifier.

    Args:
        matrix, ops: of the exact network's cell.
        width: channels of the first stack; each further one has twice as many.
        stacks, cells: stacks of the network, cells of a stack.
        num_classes: width of the logits.
    """

    counts_dead_code: ClassVar[bool] = True  # as the benchmark's own figures do

    matrix: tuple[tuple[int, ...], ...]
    ops: tuple[str, ...]
    width: int
    stacks: int
    cells: int
    num_classes: int

    @nn.compact
    def __call__(
        self, images: Array, encoded: Mapping[str, Any] | None = None, train: bool = False
    ) -> Array:
        """Logits [B, C] of `images` [B, H, W, channels].

        Args:
            images: the batch; its dtype and the variables' decide the precision.
            encoded: one genotype of `NasBench101.encode` (no leading axis); None for the exact
                network.
            train: whether BatchNorm normalises by the batch and updates its running statistics.
        """
        # Read before the first cell, so that cells differ in nothing that is done in them.
        codes = {} if encoded is None else {key: _numbers(x) for key, x in encoded.items()}
        x = ConvBNReLU(self.width, 3, name="stem")(images, train)
        x = Feature(name="stem_feature")(x)
        for i in range(self.stacks * self.cells):
            stack, features = i // self.cells, self.width << (i // self.cells)
            if i and i % self.cells == 0:
                x = _halved(x)
            if encoded is None:
                x = Cell(self.matrix, self.ops, features, name=f"cells_{i}")(x, train)
            else:
                sizes = codes["widths"][stack], codes["offsets"][stack]
                inputs = x.shape[-1]
                if inputs < features:
                    x = jnp.pad(x, ((0, 0),) * 3 + ((0, features - inputs),))
                cell = ElasticCell(features, inputs, name=f"cells_{i}")
                x = cell(x, codes, *sizes, train)
            x = Feature(name=f"feature_{i}")(x)
        head = nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")
        return head(x.mean(axis=(1, 2)))
