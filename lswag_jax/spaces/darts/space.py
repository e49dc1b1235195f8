"""DARTS cells: the space of NAS-Bench-301.

Source: quark0/darts (Liu et al., ICLR 2019); the network that is scored is NASLib's
(automl/NASLib, `search_spaces/nasbench301`), on which NAS-Bench-Suite-Zero computed its proxies.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.options import Depth, ImageSize, Share, Size
from lswag_jax.spaces.base import Space, scale_params
from lswag_jax.spaces.blocks import edge_of
from lswag_jax.spaces.darts import network as networks
from lswag_jax.spaces.darts.codes import edge_codes
from lswag_jax.spaces.darts.genotype import NODES, OPS, DartsGenotype, Edge
from lswag_jax.spaces.darts.plan import SLOTS, Place, cells
from lswag_jax.spaces.darts.plan import network as network_plan
from lswag_jax.spaces.genotype import choose
from lswag_jax.spaces.initial import torch_variables
from lswag_jax.spaces.layers import centre_scale
from lswag_jax.spaces.plan import Path, Plan

FORMS = ("darts", "naslib")


@dataclasses.dataclass(frozen=True)
class Darts(Space[DartsGenotype]):
    """The DARTS space: two cells, stacked into one network.

    The defaults are NASLib's scoring network. The evaluation networks of DARTS have
    `affine=True, pool_norm=False`, and `layers=20, width=36` on CIFAR or `layers=14, width=48,
    stem="imagenet", image_size=224, num_classes=1000` on ImageNet; no auxiliary head is built.

    Args:
        name: what reports call it.
        layers: cells of the network; those at one and two thirds of the depth reduce.
        width: channels of the first cells' nodes.
        stem: "cifar" (3x3 convolution to 3 * width) or "imagenet" (three of stride 2).
        affine: BatchNorm inside ops has scale and offset, as it has everywhere else.
        pool_norm: pooling is followed by BatchNorm.
        image_size: in pixels.
        channels: of the image.
        num_classes: width of the classifier.

    Example:
        >>> space = Darts()
        >>> genotype = space.sample(np.random.default_rng(0), 1)[0]
        >>> space.parse(space.format(genotype)) == genotype
        True
    """

    name: str = "darts"
    layers: Depth = 8
    width: Size = 32
    stem: Literal["cifar", "imagenet"] = "cifar"
    affine: bool = False
    pool_norm: bool = True
    image_size: ImageSize = 32
    channels: Size = 3
    num_classes: Size = 10

    genotype_class: ClassVar[type] = DartsGenotype
    count_rules: ClassVar[tuple[str, ...]] = ("exact", "naslib")

    def __post_init__(self) -> None:
        super().__post_init__()
        step = 4 if self.stem == "cifar" else 32
        if self.image_size % step:
            raise ValueError(
                f"image_size must be a multiple of {step} with the {self.stem} stem, got "
                f"{self.image_size}."
            )
        if self.stem == "imagenet" and self.width % 2:
            raise ValueError(f"width must be even with the imagenet stem, got {self.width}.")

    # Sizes ------------------------------------------------------------------------------------

    @property
    def cells(self) -> list[Place]:
        """Where the cells stand in the network."""
        return cells(self.layers, self.width, self.stem)

    # Genotypes --------------------------------------------------------------------------------

    def format(self, g: DartsGenotype, form: str = "darts") -> str:
        """`g` as text that `parse` reads.

        Args:
            g: the genotype.
            form: "darts" for what quark0/darts prints, "naslib" for the pairs (input, op index)
                of NASLib's tables.

        Raises:
            ValueError: an unknown form.
        """
        self.check(g)
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {form!r}.")
        return g.to_text() if form == "darts" else str([list(cell) for cell in g.to_naslib()])

    def parse(self, text: str) -> DartsGenotype:
        """The genotype that `format` wrote, in either form.

        Raises:
            ValueError: the text is of neither form, or no genotype of this space.
        """
        return DartsGenotype.from_text(text)

    def sample_one(self, rng: np.random.Generator) -> DartsGenotype:
        """For each node two distinct inputs, in ascending order, and two ops.

        All are uniform and independent, as in NASLib, which leaves the order of a node's edges
        random.
        """
        return DartsGenotype.from_nodes([_sample_node(rng, i % NODES) for i in range(2 * NODES)])

    def mutate(
        self,
        rng: np.random.Generator,
        g: DartsGenotype,
        m_prob: Share = 1.0,
        s_prob: Share = 1.0,
    ) -> DartsGenotype:
        """Makes a mutant of `g` in which one edge has another op or another input.

        The edge is uniform among those that can change, its new op or input among the others.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: weight of changing an op against `s_prob`; with both 0 nothing changes.
            s_prob: weight of changing an input.
        """
        if m_prob + s_prob <= 0:
            return g
        change_input = rng.random() * (m_prob + s_prob) < s_prob
        free = [i for i in range(2 * NODES) if i % NODES or not change_input]
        i, edge = choose(rng, free), int(rng.integers(2))
        node = list(g.nodes[i])
        (op, source), (_, taken) = node[edge], node[1 - edge]
        if change_input:
            inputs = [s for s in range(2 + i % NODES) if s not in (source, taken)]
            node[edge] = op, choose(rng, inputs)
        else:
            node[edge] = choose(rng, [other for other in OPS if other != op]), source
        nodes = [*g.nodes[:i], tuple(sorted(node, key=_source)), *g.nodes[i + 1 :]]
        return DartsGenotype.from_nodes(nodes)

    def crossover(
        self, rng: np.random.Generator, a: DartsGenotype, b: DartsGenotype
    ) -> DartsGenotype:
        """Makes a child with each node, its two edges together, of either parent."""
        pairs = zip(a.nodes, b.nodes, strict=True)
        return DartsGenotype.from_nodes([pair[int(rng.integers(2))] for pair in pairs])

    # Networks ---------------------------------------------------------------------------------

    @property
    def padded_maps(self) -> bool:
        """Nodes of a reduction cell are spread with zeros over maps of its inputs' size."""
        return True

    def build(self, g: DartsGenotype) -> networks.DartsNetwork:
        """Builds the Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return networks.DartsNetwork(
            normal=g.normal,
            reduce=g.reduce,
            layers=self.layers,
            width=self.width,
            stem=self.stem,
            affine=self.affine,
            pool_norm=self.pool_norm,
            num_classes=self.num_classes,
        )

    def network(self) -> networks.DartsNetwork:
        """Builds the elastic module, which takes `encode`'s output."""
        return self.build(_chain(["sep_conv_5x5"] * 4 * NODES))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module: PyTorch's defaults (float32)."""
        codes = edge_codes(_chain(["sep_conv_5x5"] * 4 * NODES), self.pool_norm)
        images = jnp.zeros((1, *self.image_shape))
        return torch_variables(self.network(), key, images, codes)

    def codes(self, g: DartsGenotype) -> dict[str, np.ndarray]:
        """`edge_codes` of both cells."""
        return edge_codes(g, self.pool_norm)

    def plan(self, g: DartsGenotype) -> Plan:
        """Lists the layers of `g`, with the places of all that an edge may have."""
        return network_plan(self, g.normal, g.reduce)

    def depth_extremes(self) -> Iterator[DartsGenotype]:
        """Lists genotypes that give each layer its extreme bins; all are too many.

        An edge has 0 to 4 layers, and the depth of one of these is lowest or highest where each
        other edge has none or all: the edges before it, those after it, and those of the other
        cell.
        """
        none, most = "max_pool_3x3", "sep_conv_5x5"
        for kind, edge in itertools.product(range(2), range(2 * NODES)):
            for before, after, other in itertools.product((none, most), repeat=3):
                for op in ("skip_connect", "dil_conv_3x3", most):
                    cell = [before] * edge + [op] + [after] * (2 * NODES - 1 - edge)
                    both = [cell, [other] * 2 * NODES]
                    yield _chain(both[kind] + both[1 - kind])

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Zeroes absent layers; a 3x3 kernel is the centre of the 5x5 one at 5/3 of the scale."""

        def factor(path: Path, value: jax.Array) -> jax.Array | None:
            edge = self.edge_of(path)
            if edge is None:
                return None
            present = jnp.asarray(encoded["slots"][edge][SLOTS.index(path[3])], value.dtype)
            if not path[3].startswith("depthwise"):
                return present
            size = jnp.where(encoded["sizes"][edge] == 1, 3, 5)
            return present * centre_scale(size, 5, value.dtype)

        return scale_params(variables, factor)

    def edge_of(self, path: tuple[str, ...]) -> tuple[int, int] | None:
        """Cell type (0 normal, 1 reduction) and edge that a variable belongs to."""
        edge = edge_of(path)
        if edge is None:
            return None
        place = self.cells[int(path[1].removeprefix("cells_"))]
        return int(place.reduces), edge


def _chain(ops: Sequence[str]) -> DartsGenotype:
    """The genotype with these 16 ops whose every node reads the cell's two inputs."""
    edges = [(op, i % 2) for i, op in enumerate(ops)]
    return DartsGenotype.of(edges[: 2 * NODES], edges[2 * NODES :])


def _sample_node(rng: np.random.Generator, i: int) -> tuple[Edge, Edge]:
    first, second = sorted(int(s) for s in rng.choice(2 + i, 2, replace=False))
    return (choose(rng, OPS), first), (choose(rng, OPS), second)


def _source(edge: Edge) -> int:
    return edge[1]
