"""AutoFormer: vision transformers with a free depth, width, head count and MLP ratio.

Source: microsoft/Cream, AutoFormer (Chen et al., ICCV 2021); the `vitbench` variant is the
stand-alone ViT of Auto-Prox (Wei et al., AAAI 2024) on which ViT-Bench-101 was trained.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.spaces.autoformer import network as networks
from lswag_jax.spaces.autoformer.genotype import AutoFormerGenotype
from lswag_jax.spaces.base import Space

MAX_DISTANCE = networks.MAX_DISTANCE


@dataclasses.dataclass(frozen=True)
class AutoFormer(Space):
    """A space of AutoFormer-like vision transformers.

    Args:
        name: what reports call it.
        embed_dims, head_counts, mlp_ratios, depths: the choices.
        head_dim: channels of a head; None splits `embed_dim` over the heads.
        relative_position: 2-D relative position tables for keys and values.
        norm_eps: epsilon of LayerNorm.
        image_size, patch_size: in pixels; the patch divides the image.
        channels: of the image.
        num_classes: width of the classifier.

    Example:
        >>> space = AutoFormer("mine", (64,), (2, 4), (3.0, 4.0), (2, 3), image_size=32,
        ...                    patch_size=8, num_classes=10)
        >>> genotype = space.sample(np.random.default_rng(0), 1)[0]
        >>> space.parse(space.format(genotype)) == genotype
        True
    """

    name: str
    embed_dims: tuple[int, ...]
    head_counts: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    depths: tuple[int, ...]
    head_dim: int | None = 64
    relative_position: bool = True
    norm_eps: float = 1e-5
    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    num_classes: int = 1000

    genotype_class: ClassVar[type] = AutoFormerGenotype

    def __post_init__(self) -> None:
        for field in ("embed_dims", "head_counts", "mlp_ratios", "depths"):
            choices = tuple(getattr(self, field))
            if not choices or min(choices) <= 0:
                raise ValueError(f"{field} must be positive choices, got {choices}.")
            object.__setattr__(self, field, choices)
        for field in ("image_size", "patch_size", "channels", "num_classes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}.")
        if self.head_dim is None and self.relative_position:
            raise ValueError("relative_position needs a head_dim, got head_dim=None.")
        if self.head_dim is None:
            for d, h in itertools.product(self.embed_dims, self.head_counts):
                if d % h:
                    raise ValueError(
                        f"head_counts must divide embed_dims where head_dim is None, got {h} heads "
                        f"for {d} channels."
                    )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {self.patch_size} and {self.image_size}."
            )

    # Sizes ------------------------------------------------------------------------------------

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an input."""
        return self.image_size, self.image_size, self.channels

    @property
    def num_patches(self) -> int:
        """Patch tokens of an image; one class token comes on top."""
        return (self.image_size // self.patch_size) ** 2

    def _width(self, g: AutoFormerGenotype, heads: int) -> int:
        """Channels of the queries of a block with `heads` heads."""
        return g.embed_dim if self.head_dim is None else self.head_dim * heads

    def num_params(self, g: AutoFormerGenotype) -> int:
        """Trainable parameters of `g`."""
        d, patch = g.embed_dim, self.patch_size**2 * self.channels
        total = patch * d + d + (self.num_patches + 1) * d + d
        for heads, hidden in zip(g.num_heads, g.hidden, strict=True):
            width = self._width(g, heads)
            total += 4 * d + 3 * width * (d + 1) + width * d + d
            total += d * hidden + hidden + hidden * d + d
            if self.relative_position:
                total += 4 * (2 * MAX_DISTANCE + 2) * self.head_dim
        return total + 2 * d + d * self.num_classes + self.num_classes

    def macs(self, g: AutoFormerGenotype, rule: str = "exact") -> int:
        """Multiply-accumulates of one image.

        Args:
            g: the genotype.
            rule: "exact" counts patch embedding, linear layers and attention products (with
                relative position also q r_k and A r_v) with the true token count; "cream" is the
                published counter `get_complexity` of microsoft/Cream with its off-by-one token
                count.

        Raises:
            ValueError: an unknown rule.
        """
        if rule not in ("exact", "cream"):
            raise ValueError(f"rule must be 'exact' or 'cream', got {rule!r}.")
        d, patch = g.embed_dim, self.patch_size**2 * self.channels
        n = self.num_patches + (1 if rule == "exact" else 2)
        total = self.num_patches * patch * d
        for heads, hidden in zip(g.num_heads, g.hidden, strict=True):
            width = self._width(g, heads)
            products = 4 if self.relative_position and rule == "exact" else 2
            total += n * 4 * width * d + products * n * n * width + 2 * n * d * hidden
            if rule == "cream":
                total += 2 * n * d + 28 * n * n + n * n // 2 + n * width // 2
        if rule == "cream":
            # The position table counts half, the patch embedding's bias once.
            return total + (self.num_patches + 1) * d // 2 + d + (n - 1) * d * self.num_classes
        return total + d * self.num_classes

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: AutoFormerGenotype) -> None:
        """Raise ValueError unless `g` belongs to the space.

        An MLP ratio need not be one of the choices, only not above them: the published
        AutoFormer-T has a ratio of 3.0, which is not among Tiny's.
        """
        if not isinstance(g, AutoFormerGenotype):
            raise ValueError(
                f"{self.name} holds AutoFormerGenotype, got a genotype of type {type(g).__name__}."
            )
        for field, value, choices in (
            ("depth", g.depth, self.depths),
            ("embed_dim", g.embed_dim, self.embed_dims),
            *(("num_heads", h, self.head_counts) for h in g.num_heads),
        ):
            if value not in choices:
                raise ValueError(f"{field} of {self.name} must be one of {choices}, got {value}.")
        if max(g.mlp_ratio) > max(self.mlp_ratios):
            raise ValueError(
                f"mlp_ratio of {self.name} must be one of {self.mlp_ratios} or below, got "
                f"{max(g.mlp_ratio)}."
            )

    def format(self, g: AutoFormerGenotype) -> str:
        """`g` as "embed_dim/heads/ratios", for example "192/3,4/3.5,4"."""
        heads = ",".join(str(h) for h in g.num_heads)
        ratios = ",".join(str(r).removesuffix(".0") for r in g.mlp_ratio)
        return f"{g.embed_dim}/{heads}/{ratios}"

    def parse(self, text: str) -> AutoFormerGenotype:
        """The inverse of `format`.

        Raises:
            ValueError: the text has another form or is not of this space.
        """
        try:
            dim, heads, ratios = text.split("/")
            g = AutoFormerGenotype(
                int(dim), [int(h) for h in heads.split(",")], [float(r) for r in ratios.split(",")]
            )
        except ValueError:
            raise ValueError(
                f"{text!r} is not of the form 'embed_dim/heads/ratios', such as '192/3,4/3.5,4'."
            ) from None
        self.check(g)
        return g

    def _sample_one(self, rng: np.random.Generator) -> AutoFormerGenotype:
        """Depth, each block's ratio and heads, then width, all uniform."""
        depth = _choose(rng, self.depths)
        genes = [(_choose(rng, self.mlp_ratios), self._sample_heads(rng)) for _ in range(depth)]
        ratios, heads = zip(*genes, strict=True)
        return AutoFormerGenotype(_choose(rng, self.embed_dims), heads, ratios)

    def _sample_heads(self, rng: np.random.Generator) -> int:
        return _choose(rng, self.head_counts)

    def mutate(
        self,
        rng: np.random.Generator,
        g: AutoFormerGenotype,
        m_prob: float = 0.2,
        s_prob: float = 0.4,
    ) -> AutoFormerGenotype:
        """A mutant of `g` by the rule of AutoFormer's evolution.py.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that one block's ratio, and that its heads, are drawn anew.
            s_prob: probability that the depth, and that the width, are drawn anew.
        """
        heads, ratios, dim = list(g.num_heads), list(g.mlp_ratio), g.embed_dim
        if rng.random() < s_prob:
            depth = _choose(rng, self.depths)
            new = depth - g.depth
            heads = heads[:depth] + [self._sample_heads(rng) for _ in range(new)]
            ratios = ratios[:depth] + [_choose(rng, self.mlp_ratios) for _ in range(new)]
        ratios = [_choose(rng, self.mlp_ratios) if rng.random() < m_prob else r for r in ratios]
        heads = [self._sample_heads(rng) if rng.random() < m_prob else h for h in heads]
        if rng.random() < s_prob:
            dim = _choose(rng, self.embed_dims)
        return AutoFormerGenotype(dim, heads, ratios)

    def crossover(
        self, rng: np.random.Generator, a: AutoFormerGenotype, b: AutoFormerGenotype
    ) -> AutoFormerGenotype | None:
        """A child with each gene of either parent; None for parents of different depth.

        AutoFormer's own code makes a malformed child in that case; we make none.
        """
        if a.depth != b.depth:
            return None
        pick = rng.random(2 * a.depth + 1) < 0.5
        genes = zip(
            (a.embed_dim, *a.num_heads, *a.mlp_ratio),
            (b.embed_dim, *b.num_heads, *b.mlp_ratio),
            strict=True,
        )
        child = [x if first else y for first, (x, y) in zip(pick, genes, strict=True)]
        return AutoFormerGenotype(child[0], child[1 : a.depth + 1], child[a.depth + 1 :])

    # Networks ---------------------------------------------------------------------------------

    def _module(self, dim: int, heads: Sequence[int], hidden: Sequence[int]):
        return networks.VisionTransformer(
            embed_dim=dim,
            num_heads=tuple(heads),
            hidden=tuple(hidden),
            head_dim=self.head_dim,
            relative_position=self.relative_position,
            norm_eps=self.norm_eps,
            patch_size=self.patch_size,
            num_classes=self.num_classes,
        )

    def build(self, g: AutoFormerGenotype) -> networks.VisionTransformer:
        """The Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(g.embed_dim, g.num_heads, g.hidden)

    @property
    def any_size(self) -> bool:
        """Positions are those of one image size."""
        return False

    def network(self) -> networks.VisionTransformer:
        """The elastic module, large enough for every genotype; it takes `encode`'s output."""
        dim, depth = max(self.embed_dims), max(self.depths)
        hidden = math.floor(dim * max(self.mlp_ratios))
        return self._module(dim, (max(self.head_counts),) * depth, (hidden,) * depth)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module, as the published code draws them (float32)."""
        largest = AutoFormerGenotype(
            max(self.embed_dims),
            (max(self.head_counts),) * max(self.depths),
            (max(self.mlp_ratios),) * max(self.depths),
        )
        encoded = {
            key: jnp.asarray(value, jnp.int32) for key, value in self._encode_one(largest).items()
        }
        return self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded)

    def _encode_one(self, g: AutoFormerGenotype) -> dict[str, np.ndarray]:
        """`embed_dim`; `num_heads` and `hidden` [max depth], 0 where there is no block; sizes."""
        depth, tokens = max(self.depths), self.num_patches + 1
        pad = depth - g.depth
        width = np.array([self._width(g, h) for h in g.num_heads])
        hidden, d = np.array(g.hidden), np.full(g.depth, g.embed_dim)
        blocks_in = np.stack([d, width, d, hidden], axis=1) * tokens
        blocks_out = np.stack([3 * width, d, hidden, d], axis=1) * tokens
        pixels = self.image_size**2 * self.channels
        ends = [self.num_patches * g.embed_dim], [self.num_classes]
        return {
            "embed_dim": np.array(g.embed_dim),
            "num_heads": np.pad(g.num_heads, (0, pad)),
            "hidden": np.pad(hidden, (0, pad)),
            "in_units": np.r_[pixels, np.pad(blocks_in, ((0, pad), (0, 0))).ravel(), g.embed_dim],
            "out_units": np.r_[ends[0], np.pad(blocks_out, ((0, pad), (0, 0))).ravel(), ends[1]],
            "act_units": np.pad(hidden * tokens, (0, pad)),
        }

    def layer_sets(self) -> np.ndarray:
        """Every distinct set of present weight layers, bool [K, L]: one row a depth."""
        rows = [
            np.r_[True, np.repeat(np.arange(max(self.depths)) < depth, 4), True]
            for depth in sorted(self.depths)
        ]
        return np.stack(rows)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Kernels are zero where the genotype has no units or no block."""
        return networks.active(variables, encoded, self.head_dim)

    def extract(self, variables: Mapping[str, Any], g: AutoFormerGenotype) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""
        self.check(g)
        return networks.extract(variables, g, self.head_dim)


def _choose(rng: np.random.Generator, choices: Sequence) -> Any:
    return choices[int(rng.integers(len(choices)))]
