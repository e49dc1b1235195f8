"""AutoFormer: vision transformers with a free depth, width, head count and MLP ratio.

Source: microsoft/Cream, AutoFormer (Chen et al., ICCV 2021); the `vitbench` variant is the
stand-alone ViT of Auto-Prox (Wei et al., AAAI 2024) on which ViT-Bench-101 was trained.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax import tasks
from lswag_jax.options import Bound, Depth, ImageSize, Positive, Share, Size
from lswag_jax.spaces.autoformer import network as networks
from lswag_jax.spaces.autoformer import variables as network_variables
from lswag_jax.spaces.autoformer.genotype import AutoFormerGenotype
from lswag_jax.spaces.autoformer.plan import cream_macs
from lswag_jax.spaces.autoformer.plan import network as network_plan
from lswag_jax.spaces.base import Space
from lswag_jax.spaces.genotype import choose, mix
from lswag_jax.spaces.plan import Plan, cut


@dataclasses.dataclass(frozen=True)
class AutoFormer(Space[AutoFormerGenotype]):
    """A space of AutoFormer-like vision transformers.

    Args:
        name: what reports call it.
        embed_dims, head_counts, mlp_ratios, depths: the choices.
        head_dim: channels of a head; None splits `embed_dim` over the heads.
        relative_position: 2-D relative position tables for keys and values.
        norm_eps: epsilon of LayerNorm.
        image_size, patch_size: in pixels; the patch divides the image.
        channels: of the image.
        num_classes: of what is recognised.
        head: "classification", one vector of logits, or "detection", for each patch the logits of
            the classes and a box (`lswag_jax.detection`).

    Example:
        >>> space = AutoFormer("mine", (64,), (2, 4), (3.0, 4.0), (2, 3), image_size=32,
        ...                    patch_size=8, num_classes=10)
        >>> genotype = space.sample(np.random.default_rng(0), 1)[0]
        >>> space.parse(space.format(genotype)) == genotype
        True
    """

    name: str
    embed_dims: tuple[Size, ...]
    head_counts: tuple[Size, ...]
    mlp_ratios: tuple[Annotated[float, Bound(0, 1_000, above=True)], ...]
    depths: tuple[Depth, ...]
    head_dim: Size | None = 64
    relative_position: bool = True
    norm_eps: Positive = 1e-5
    image_size: ImageSize = 224
    patch_size: ImageSize = 16
    channels: Size = 3
    num_classes: Size = 1000
    head: Literal["classification", "detection"] = "classification"

    genotype_class: ClassVar[type] = AutoFormerGenotype
    count_rules: ClassVar[tuple[str, ...]] = ("exact", "cream")

    def __post_init__(self) -> None:
        for field in ("embed_dims", "head_counts", "mlp_ratios", "depths"):
            choices = tuple(getattr(self, field))
            if not choices or min(choices) <= 0 or len(set(choices)) < len(choices):
                raise ValueError(f"{field} must be different positive choices, got {choices}.")
            object.__setattr__(self, field, choices)
        super().__post_init__()
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

    def describe(self) -> dict[str, Any]:
        """Tells what the space is; a classifier's head is left out, as before there was another."""
        found = super().describe()
        return found if self.is_detector else {k: v for k, v in found.items() if k != "head"}

    # Sizes ------------------------------------------------------------------------------------

    @property
    def is_detector(self) -> bool:
        """Whether the networks have an output for each patch."""
        return self.head == "detection"

    @property
    def task(self) -> tasks.Task:
        """What the networks are to predict."""
        make = tasks.detection if self.is_detector else tasks.classification
        return make(self.num_classes)

    @property
    def num_patches(self) -> int:
        """Patch tokens of an image; one class token comes on top."""
        return (self.image_size // self.patch_size) ** 2

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: AutoFormerGenotype) -> None:
        """Raises ValueError unless `g` belongs to the space.

        An MLP ratio need not be one of the choices, only not above them: the published
        AutoFormer-T has a ratio of 3.0, which is not among Tiny's.
        """
        super().check(g)
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
        """Reads what `format` writes.

        Raises:
            ValueError: the text has another form or is not of this space.
        """
        try:
            dim, heads, ratios = text.split("/")
            g = AutoFormerGenotype(
                int(dim), tuple(map(int, heads.split(","))), tuple(map(float, ratios.split(",")))
            )
        except ValueError:
            raise ValueError(
                f"{text!r} is not of the form 'embed_dim/heads/ratios', such as '192/3,4/3.5,4'."
            ) from None
        self.check(g)
        return g

    def sample_one(self, rng: np.random.Generator) -> AutoFormerGenotype:
        """Depth, each block's ratio and heads, then width, all uniform."""
        depth = choose(rng, self.depths)
        genes = [(choose(rng, self.mlp_ratios), self._sample_heads(rng)) for _ in range(depth)]
        ratios, heads = zip(*genes, strict=True)
        return AutoFormerGenotype(choose(rng, self.embed_dims), heads, ratios)

    def _sample_heads(self, rng: np.random.Generator) -> int:
        return choose(rng, self.head_counts)

    def mutate(
        self,
        rng: np.random.Generator,
        g: AutoFormerGenotype,
        m_prob: Share = 0.2,
        s_prob: Share = 0.4,
    ) -> AutoFormerGenotype:
        """Makes a mutant of `g` by the rule of AutoFormer's evolution.py.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that one block's ratio, and that its heads, are drawn anew.
            s_prob: probability that the depth, and that the width, are drawn anew.
        """
        heads, ratios, dim = list(g.num_heads), list(g.mlp_ratio), g.embed_dim
        if rng.random() < s_prob:
            depth = choose(rng, self.depths)
            new = depth - g.depth
            heads = heads[:depth] + [self._sample_heads(rng) for _ in range(new)]
            ratios = ratios[:depth] + [choose(rng, self.mlp_ratios) for _ in range(new)]
        ratios = [choose(rng, self.mlp_ratios) if rng.random() < m_prob else r for r in ratios]
        heads = [self._sample_heads(rng) if rng.random() < m_prob else h for h in heads]
        if rng.random() < s_prob:
            dim = choose(rng, self.embed_dims)
        return AutoFormerGenotype(dim, tuple(heads), tuple(ratios))

    def crossover(
        self, rng: np.random.Generator, a: AutoFormerGenotype, b: AutoFormerGenotype
    ) -> AutoFormerGenotype | None:
        """Makes a child with each gene of either parent; None for parents of different depth.

        AutoFormer's own code makes a malformed child in that case; we make none.
        """
        if a.depth != b.depth:
            return None
        pick = rng.random(2 * a.depth + 1) < 0.5
        genes = [(g.embed_dim, *g.num_heads, *g.mlp_ratio) for g in (a, b)]
        dim, *rest = mix(pick, *genes)
        return AutoFormerGenotype(dim, tuple(rest[: a.depth]), tuple(rest[a.depth :]))

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
            outputs=self.task.outputs,
            per_patch=self.is_detector,
        )

    def build(self, g: AutoFormerGenotype) -> networks.VisionTransformer:
        """Builds the Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(g.embed_dim, g.num_heads, g.hidden)

    @property
    def any_size(self) -> bool:
        """Positions are those of one image size."""
        return False

    def network(self) -> networks.VisionTransformer:
        """Builds the elastic module, as large as every genotype; it takes `encode`'s output."""
        dim, depth = max(self.embed_dims), max(self.depths)
        hidden = math.floor(dim * max(self.mlp_ratios))
        module = self._module(dim, (max(self.head_counts),) * depth, (hidden,) * depth)
        return module.clone(largest_head=dim // min(self.head_counts))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module, as the published code does (float32)."""
        codes = self.codes(self.largest())
        encoded = {name: jnp.asarray(value, jnp.int32) for name, value in codes.items()}
        return dict(self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded))

    def largest(self) -> AutoFormerGenotype:
        """The widest genotype of most blocks, heads and hidden units."""
        depth = max(self.depths)
        sizes = (max(self.head_counts),) * depth, (max(self.mlp_ratios),) * depth
        return AutoFormerGenotype(max(self.embed_dims), *sizes)

    def narrowed(self, genotypes: Sequence[AutoFormerGenotype]) -> "AutoFormer":
        """The space without the widths above those of the genotypes."""
        return _up_to(self, max(g.embed_dim for g in genotypes))

    def codes(self, g: AutoFormerGenotype) -> dict[str, np.ndarray]:
        """`embed_dim`; `num_heads` and `hidden` [max depth], 0 for blocks that are absent."""
        absent = (0, max(self.depths) - g.depth)
        return {
            "embed_dim": np.array(g.embed_dim),
            "num_heads": np.pad(g.num_heads, absent),
            "hidden": np.pad(g.hidden, absent),
        }

    def plan(self, g: AutoFormerGenotype) -> Plan:
        """Lists the layers of `g` in the places of the deepest network's."""
        return network_plan(self, g)

    def published_macs(self, g: AutoFormerGenotype) -> int:
        """Counts as Cream does, see `cream_macs`."""
        return cream_macs(self, g)

    def depth_extremes(self) -> Iterator[AutoFormerGenotype]:
        """Lists a network of each depth."""
        for depth in self.depths:
            heads, ratio = self.head_counts[0], self.mlp_ratios[0]
            yield AutoFormerGenotype(self.embed_dims[0], (heads,) * depth, (ratio,) * depth)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Zeroes kernels where the genotype has no units or no block."""
        return network_variables.active(variables, encoded, self.head_dim)

    def extract(self, variables: Mapping[str, Any], g: AutoFormerGenotype) -> dict[str, Any]:
        """Cuts the variables of `build(g)` from those of the elastic module."""
        if self.head_dim is None:
            variables = network_variables.split_heads(variables, g)
        return cut(self.plan(g), variables)


@functools.lru_cache(maxsize=64)
def _up_to(space: AutoFormer, width: int) -> AutoFormer:
    """A space without the widths above one."""
    dims = tuple(d for d in space.embed_dims if d <= width)
    return dataclasses.replace(space, embed_dims=dims)
