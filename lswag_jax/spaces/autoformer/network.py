"""The Flax network of the AutoFormer spaces: one module, exact or elastic.

Without an encoding it runs the exact network of its fields' sizes. With one (see
`AutoFormer.encode`) it computes the sub-network of that genotype: surplus channels, heads, hidden
units and blocks are masked, and exactly zero forward and back.
"""

import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import total
from lswag_jax.spaces.autoformer.heads import cut_heads, join_heads, like
from lswag_jax.spaces.cost import costs
from lswag_jax.spaces.layers import Feature, torch_uniform, unit_mask

MAX_DISTANCE = 14  # relative positions are clipped to [-14, 14], in patches
Array = jax.Array

# timm truncates at +-2 in absolute units, 100 standard deviations: a plain normal.
_linear_init = nn.initializers.normal(0.02)


@jax.jit
def gelu(x: Array) -> Array:
    """Exact GELU, x/2 (1 + erf(x / sqrt 2)), in the form that PyTorch computes."""
    return _gelu(x)


@jax.custom_vjp
def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


def _gelu_backward(x: Array, y_bar: Array) -> tuple[Array]:
    """One pass over memory that computes erf again instead of reading what was kept of it."""
    cdf = 0.5 * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))
    density = jnp.exp(-0.5 * x * x) * np.sqrt(0.5 / np.pi).astype(x.dtype)
    return (y_bar * (cdf + x * density),)


_gelu.defvjp(lambda x: (_gelu(x), x), _gelu_backward)


class LayerNorm(nn.Module):
    """LayerNorm over the active channels; the others come out as zero."""

    eps: float

    @nn.compact
    def __call__(self, x: Array, mask: Array | float) -> Array:
        """Normalises `x` [..., D] over the channels where `mask` [D] is 1."""
        norm = nn.LayerNorm(epsilon=self.eps, use_fast_variance=False, name="norm")
        if isinstance(mask, float | int):
            return norm(x)
        where = jnp.broadcast_to(mask > 0, (1,) * (x.ndim - 1) + mask.shape)
        return norm(x, mask=where) * like(mask, x)


class QKV(nn.Module):
    """Linear layer to queries, keys and values.

    AutoFormer's super-network slices the bias of a block as the first 3 * width entries of one
    flat vector, so that the place of an entry depends on the width; an elastic call does the same.
    """

    num_heads: int
    head_dim: int

    @nn.compact
    def __call__(self, x: Array, active_width: Array | None = None) -> Array:
        """Maps `x` [B, N, D] to [B, N, 3, H, K]; the active width is that of H * K."""
        shape = (3, self.num_heads, self.head_dim)
        kernel = self.param("kernel", _linear_init, (x.shape[-1], *shape))
        bias = self.param("bias", nn.initializers.zeros, (int(np.prod(shape)),))
        if active_width is not None:
            # Entry `unit` of part p lies at p * active_width + unit of the flat bias; units beyond
            # the width are zeroed.
            part, unit = np.divmod(np.arange(bias.size), bias.size // 3)
            bias = bias.at[part * active_width + unit].get(mode="clip") * (unit < active_width)
        y_BxNxF = x @ kernel.reshape(x.shape[-1], -1) + bias.reshape(1, 1, -1)
        return y_BxNxF.reshape(*x.shape[:-1], *shape)


def _relative_index(grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the vertical and of the horizontal table for each query token and key slot.

    Slot 0 is the class token as key, slot 1 + r the key tokens of grid row (or column) r. Row 0
    of a table is for pairs with the class token.
    """
    row, col = np.divmod(np.arange(grid * grid), grid)

    def index(place: np.ndarray) -> np.ndarray:
        delta = np.clip(np.arange(grid)[None] - place[:, None], -MAX_DISTANCE, MAX_DISTANCE)
        return np.pad(delta + MAX_DISTANCE + 1, ((1, 0), (1, 0)))

    return index(row), index(col)


@functools.lru_cache(maxsize=64)
def _over_slots(formula: str, grid: int) -> Callable[[Array, Array], Array]:
    """A product with one coordinate's table, half of the product with that of all keys."""
    share = Fraction(grid * grid + 1, 2 * (grid + 1))
    return costs(share)(functools.partial(jnp.einsum, formula))


class RelativePosition(nn.Module):
    """2-D relative position embeddings r[n, m] = vertical[n, m] + horizontal[n, m], K wide.

    Since a table depends on one coordinate of the key only, products with r are taken over grid
    rows and columns (sqrt(N) slots) instead of over all N keys. They cost what they stand for.
    """

    head_dim: int

    def setup(self) -> None:  # noqa: D102
        shape = (2 * MAX_DISTANCE + 2, self.head_dim)
        self.vertical = self.param("vertical", _linear_init, shape)
        self.horizontal = self.param("horizontal", _linear_init, shape)

    def _slots(self, grid: int) -> tuple[Array, Array]:
        rows, cols = _relative_index(grid)
        return self.vertical[rows], self.horizontal[cols]

    def logits(self, q_BxNxHxK: Array, grid: int) -> Array:
        """q_n . r[n, m], [B, H, N, N]."""
        product = _over_slots("bnhk,nsk->bhns", grid)
        v, h = (product(q_BxNxHxK, e) for e in self._slots(grid))
        patches = v[..., 1:, None] + h[..., None, 1:]
        patches = patches.reshape(*v.shape[:-1], grid * grid)
        return jnp.concatenate([v[..., :1] + h[..., :1], patches], axis=-1)

    def values(self, a_BxHxNxN: Array, grid: int) -> Array:
        """sum_m A[n, m] r[n, m], [B, N, H, K]."""
        cls, patches = a_BxHxNxN[..., :1], a_BxHxNxN[..., 1:]
        patches = patches.reshape(*patches.shape[:-1], grid, grid)
        sums = (patches.sum(-1), patches.sum(-2))
        product = _over_slots("bhns,nsk->bnhk", grid)
        return total(
            product(jnp.concatenate([cls, s], axis=-1), e)
            for s, e in zip(sums, self._slots(grid), strict=True)
        )


class Attention(nn.Module):
    """Attention with heads of one fixed width; surplus heads are masked."""

    num_heads: int
    head_dim: int
    relative_position: bool

    @nn.compact
    def __call__(self, x: Array, out_mask: Array | float, active_heads: Array | None) -> Array:
        """Maps `x` [B, N, D] to the same shape."""
        width = None if active_heads is None else active_heads * self.head_dim
        qkv = QKV(self.num_heads, self.head_dim, name="qkv")(x, width)
        q, k, v = (qkv[:, :, part] for part in range(3))
        logits = jnp.einsum("bnhk,bmhk->bhnm", q, k)
        grid = math.isqrt(x.shape[1] - 1)
        if self.relative_position:
            logits += RelativePosition(self.head_dim, name="rel_k").logits(q, grid)
        attention = jax.nn.softmax(logits * self.head_dim**-0.5)
        out = jnp.einsum("bhnm,bmhk->bnhk", attention, v)
        if self.relative_position:
            out += RelativePosition(self.head_dim, name="rel_v").values(attention, grid)
        out = out.reshape(*x.shape[:-1], -1)
        out *= like(unit_mask(out.shape[-1], width, x.dtype), out)
        return nn.Dense(x.shape[-1], kernel_init=_linear_init, name="proj")(out) * out_mask


class ElasticHeadAttention(nn.Module):
    """Attention that splits an elastic embedding over an elastic number of heads.

    Args:
        num_heads: the largest number of heads.
        largest_head: channels of the widest head.
    """

    num_heads: int
    largest_head: int

    @nn.compact
    def __call__(self, x: Array, out_mask: Array | float, dim: Array, heads: Array) -> Array:
        """Maps `x` [B, N, D] to the same shape; `dim` and `heads` are the active sizes."""
        head_dim = dim // jnp.maximum(heads, 1)  # an absent block has no heads
        qkv = QKV(1, x.shape[-1], name="qkv")(x, jnp.where(heads > 0, dim, 0))
        sizes, shape = (heads, head_dim), (self.num_heads, self.largest_head)
        of_heads = cast(Array, cut_heads(qkv[:, :, :, 0], sizes, *shape))
        q, k, v = (of_heads[:, :, part] for part in range(3))
        logits = jnp.einsum("bnhk,bmhk->bhnm", q, k)
        attention = jax.nn.softmax(logits * head_dim.astype(x.dtype) ** -0.5)
        out = jnp.einsum("bhnm,bmhk->bnhk", attention, v)
        out = join_heads(out, sizes, x.shape[-1])
        return nn.Dense(x.shape[-1], kernel_init=_linear_init, name="proj")(out) * out_mask


class MLP(nn.Module):
    """Linear, GELU, linear."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array, dim_mask: Array | float, active: Array | None) -> Array:
        """Maps `x` [B, N, D] to the same shape through `active` hidden units."""
        mask = unit_mask(self.hidden, active, x.dtype)
        h = nn.Dense(self.hidden, kernel_init=_linear_init, name="fc1")(x)
        h = gelu(h * like(mask, h))
        return nn.Dense(x.shape[-1], kernel_init=_linear_init, name="fc2")(h) * dim_mask


_NO_SIZES: tuple[Any, Any, Any] = (None, None, None)


class Block(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x)); in training a branch may be dropped."""

    num_heads: int
    hidden: int
    head_dim: int | None
    relative_position: bool
    norm_eps: float
    drop_path: float
    largest_head: int

    def _branch(self, x: Array, train: bool) -> Array:
        """`x`, dropped for each sample with probability `drop_path`, its mean kept."""
        if not train or not self.drop_path:
            return x
        keep = 1 - self.drop_path
        kept = jax.random.bernoulli(self.make_rng("drop_path"), keep, (x.shape[0], 1, 1))
        return x * kept.astype(x.dtype) / keep

    @nn.compact
    def __call__(self, x: Array, mask: Array | float, sizes: tuple | None, train: bool) -> Array:
        """Maps `x` [B, N, D] to the same shape; `sizes` are active channels, heads and hidden."""
        dim, heads, hidden = _NO_SIZES if sizes is None else sizes
        active = None if sizes is None else dim * (heads > 0)
        out_mask = mask if sizes is None else like(mask * (heads > 0), x)
        h = LayerNorm(self.norm_eps, name="attn_norm")(x, mask)
        if self.head_dim is None and sizes is not None:
            attention = ElasticHeadAttention(self.num_heads, self.largest_head, name="attn")
            x += self._branch(attention(h, out_mask, dim, heads), train)
        else:
            head_dim = self.head_dim or x.shape[-1] // self.num_heads
            attention = Attention(self.num_heads, head_dim, self.relative_position, name="attn")
            x += self._branch(attention(h, out_mask, heads), train)
        x = Feature(name="attn_feature")(x, active)
        h = LayerNorm(self.norm_eps, name="mlp_norm")(x, mask)
        x += self._branch(MLP(self.hidden, name="mlp")(h, out_mask, hidden), train)
        return Feature(name="mlp_feature")(x, active)


class VisionTransformer(nn.Module):
    """The AutoFormer network: patch embedding, pre-norm blocks, mean of the patch tokens, head.

    Where each patch has an output, the head follows every patch token in place of their mean.

    Args:
        embed_dim: channels of a token.
        num_heads, hidden: of each block; their length is the depth.
        head_dim: channels of a head, or None to split `embed_dim`.
        relative_position: whether blocks have relative position tables (needs `head_dim`).
        norm_eps: epsilon of LayerNorm.
        patch_size: in pixels.
        outputs: width of the head.
        per_patch: whether each patch has an output.
        drop_path: probability that training drops a branch of the last block (stochastic depth);
            it grows linearly from 0 at the first.
        largest_head: channels of the widest head that a genotype can have, where `head_dim` is None
            and the network elastic; 0 takes all.
    """

    embed_dim: int
    num_heads: tuple[int, ...]
    hidden: tuple[int, ...]
    head_dim: int | None
    relative_position: bool
    norm_eps: float
    patch_size: int
    outputs: int
    per_patch: bool = False
    drop_path: float = 0.0
    largest_head: int = 0

    @nn.compact
    def __call__(
        self, images: Array, encoded: Mapping[str, Array] | None = None, train: bool = False
    ) -> Array:
        """Outputs [B, D] of `images` [B, H, W, channels], or [B, rows, columns, D] of patches.

        Args:
            images: the batch; its dtype and the variables' decide the precision.
            encoded: one genotype of `AutoFormer.encode` (no leading axis); None for the exact
                network.
            train: whether branches are dropped, by the random stream "drop_path".
        """
        mask = unit_mask(
            self.embed_dim, None if encoded is None else encoded["embed_dim"], images.dtype
        )
        x = _patches(images, self.patch_size)
        uniform = torch_uniform(x.shape[-1])
        x = nn.Dense(self.embed_dim, kernel_init=uniform, bias_init=uniform, name="patch_embed")(x)
        cls = self.param("cls_token", _linear_init, (1, 1, self.embed_dim))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], *cls.shape[1:])), x], axis=1)
        x += self.param("pos_embed", _linear_init, (1, *x.shape[1:]))
        x *= like(mask, x)
        for i, (heads, hidden) in enumerate(zip(self.num_heads, self.hidden, strict=True)):
            block = Block(
                heads,
                hidden,
                self.head_dim,
                self.relative_position,
                self.norm_eps,
                self.drop_path * i / max(len(self.num_heads) - 1, 1),
                self.largest_head or self.embed_dim,
                name=f"blocks_{i}",
            )
            sizes = None
            if encoded is not None:
                sizes = encoded["embed_dim"], encoded["num_heads"][i], encoded["hidden"][i]
            x = block(x, mask, sizes, train)
        x = LayerNorm(self.norm_eps, name="norm")(x, mask)[:, 1:]
        x = x if self.per_patch else x.mean(axis=1)
        x = nn.Dense(self.outputs, kernel_init=_linear_init, name="head")(x)
        if not self.per_patch:
            return x
        rows, columns = (side // self.patch_size for side in images.shape[1:3])
        return x.reshape(-1, rows, columns, self.outputs)


def _patches(images: Array, size: int) -> Array:
    """Images [B, H, W, C] as patch vectors [B, N, size * size * C] (row, column, channel)."""
    b, h, w, c = images.shape
    x = images.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // size) * (w // size), size * size * c)
