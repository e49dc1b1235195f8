"""DARTS cells: the space of NAS-Bench-301.

Source: quark0/darts (Liu et al., ICLR 2019); the network that is scored is NASLib's
(automl/NASLib, `search_spaces/nasbench301`), on which NAS-Bench-Suite-Zero computed its proxies.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lswag_jax.spaces.base import Space
from lswag_jax.spaces.darts import layers as darts_layers
from lswag_jax.spaces.darts import network as networks
from lswag_jax.spaces.darts.genotype import NODES, OPS, DartsGenotype, Edge
from lswag_jax.spaces.initial import torch_variables
from lswag_jax.spaces.layers import centre_scale

STEMS = ("cifar", "imagenet")
FORMS = ("darts", "naslib")


@dataclasses.dataclass(frozen=True)
class Darts(Space):
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
    layers: int = 8
    width: int = 32
    stem: str = "cifar"
    affine: bool = False
    pool_norm: bool = True
    image_size: int = 32
    channels: int = 3
    num_classes: int = 10

    genotype_class: ClassVar[type] = DartsGenotype

    def __post_init__(self) -> None:
        for field in ("layers", "width", "image_size", "channels", "num_classes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}.")
        if self.stem not in STEMS:
            raise ValueError(f"stem must be one of {STEMS}, got {self.stem!r}.")
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
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an input."""
        return self.image_size, self.image_size, self.channels

    @property
    def cells(self) -> list[darts_layers.Place]:
        """Where the cells stand in the network."""
        return darts_layers.cells(self.layers, self.width, self.stem)

    def num_params(self, g: DartsGenotype) -> int:
        """Trainable parameters of `g`."""
        self.check(g)
        return sum(layer.params for layer in darts_layers.layers_of(self, g))

    def macs(self, g: DartsGenotype, rule: str = "exact") -> int:
        """Multiply-accumulates of one image.

        Args:
            g: the genotype.
            rule: "exact" counts convolutions and the classifier; "naslib" adds what tensorwatch,
                NASLib's counter, charges for BatchNorm (2 an element, 1 without scale), ReLU (1)
                and pooling (its window), the published FLOPs of NAS-Bench-Suite-Zero.

        Raises:
            ValueError: an unknown rule.
        """
        self.check(g)
        return darts_layers.count_macs(darts_layers.layers_of(self, g), rule)

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: DartsGenotype) -> None:
        """Raise ValueError unless `g` belongs to the space."""
        if not isinstance(g, DartsGenotype):
            raise ValueError(
                f"{self.name} holds DartsGenotype, got a genotype of type {type(g).__name__}."
            )

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

    def _sample_one(self, rng: np.random.Generator) -> DartsGenotype:
        """For each node two distinct inputs, in ascending order, and two ops.

        All are uniform and independent, as in NASLib, which leaves the order of a node's edges
        random.
        """
        return DartsGenotype.from_nodes([_sample_node(rng, i % NODES) for i in range(2 * NODES)])

    def mutate(
        self,
        rng: np.random.Generator,
        g: DartsGenotype,
        m_prob: float = 1.0,
        s_prob: float = 1.0,
    ) -> DartsGenotype:
        """A mutant of `g` in which one edge has another op or another input.

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
        i, edge = _choose(rng, free), int(rng.integers(2))
        node = list(g.nodes[i])
        (op, source), (_, taken) = node[edge], node[1 - edge]
        if change_input:
            inputs = [s for s in range(2 + i % NODES) if s not in (source, taken)]
            node[edge] = op, _choose(rng, inputs)
        else:
            node[edge] = _choose(rng, [other for other in OPS if other != op]), source
        nodes = [*g.nodes[:i], tuple(sorted(node, key=_source)), *g.nodes[i + 1 :]]
        return DartsGenotype.from_nodes(nodes)

    def crossover(
        self, rng: np.random.Generator, a: DartsGenotype, b: DartsGenotype
    ) -> DartsGenotype:
        """A child with each node, its two edges together, of either parent."""
        pairs = zip(a.nodes, b.nodes, strict=True)
        return DartsGenotype.from_nodes([pair[int(rng.integers(2))] for pair in pairs])

    # Networks ---------------------------------------------------------------------------------

    @property
    def padded_maps(self) -> bool:
        """Nodes of a reduction cell are spread with zeros over maps of its inputs' size."""
        return True

    def build(self, g: DartsGenotype) -> networks.DartsNetwork:
        """The Flax module of exactly `g`'s size, to train or export."""
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
        """The elastic module; it takes `encode`'s output."""
        return self.build(_chain(["sep_conv_5x5"] * 4 * NODES))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module: PyTorch's defaults (float32)."""
        codes = networks.edge_codes(_chain(["sep_conv_5x5"] * 4 * NODES), self.pool_norm)
        images = jnp.zeros((1, *self.image_shape))
        return torch_variables(self.network(), key, images, codes)

    def _encode_one(self, g: DartsGenotype) -> dict[str, np.ndarray]:
        """`edge_codes`, and the active sizes."""
        layers = [
            layer
            for block in darts_layers.blocks_of(self, g)
            for layer in (block.layers if block.op is None else _padded(block))
        ]
        weights = [layer for layer in layers if layer.kind in ("conv", "linear")]
        return networks.edge_codes(g, self.pool_norm) | {
            "in_units": np.array([layer.in_units for layer in weights]),
            "out_units": np.array([layer.out_units for layer in weights]),
            "act_units": np.array([layer.in_units for layer in layers if layer.kind == "relu"]),
        }

    def layer_sets(self) -> np.ndarray:
        """Sets of present weight layers, bool [K, L], that give each layer its extreme bins.

        All sets are too many. An edge has 0 to 4 layers, and the depth of one of its own is lowest
        or highest where each other edge has none or all: the edges before it, those after it, and
        those of the other cell.
        """
        none, most = "max_pool_3x3", "sep_conv_5x5"
        rows = []
        for kind, edge in itertools.product(range(2), range(2 * NODES)):
            for before, after, other in itertools.product((none, most), repeat=3):
                for op in ("skip_connect", "dil_conv_3x3", most):
                    cell = [before] * edge + [op] + [after] * (2 * NODES - 1 - edge)
                    cells = [cell, [other] * 2 * NODES]
                    ops = cells[kind] + cells[1 - kind]
                    rows.append(self._encode_one(_chain(ops))["in_units"] > 0)
        return np.unique(rows, axis=0)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A 3x3 kernel is the centre of the 5x5 one at 5/3 of the scale; absent layers are zero."""
        flat = traverse_util.flatten_dict(dict(variables))
        for path, value in flat.items():
            edge = self._edge_of(path)
            if path[0] == "params" and edge is not None:
                is_there = encoded["slots"][edge][networks.SLOTS.index(path[3])]
                value = value * jnp.asarray(is_there, value.dtype)
                if path[3].startswith("depthwise"):
                    size = jnp.where(encoded["sizes"][edge] == 1, 3, 5)
                    value = value * centre_scale(size, 5, value.dtype)
                flat[path] = value
        return traverse_util.unflatten_dict(flat)

    def extract(self, variables: Mapping[str, Any], g: DartsGenotype) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""
        encoded = {key: value[0] for key, value in self.encode([g]).items()}
        flat = traverse_util.flatten_dict(self.active_variables(variables, encoded))
        cut = {}
        for path, value in flat.items():
            edge = self._edge_of(path)
            if edge is None:
                cut[path] = value
                continue
            op, source = (g.normal, g.reduce)[edge[0]][edge[1]]
            stride = darts_layers.edge_stride(bool(edge[0]), source)
            if path[3] in networks.slots(op, stride, self.pool_norm):
                is_small = path[3].startswith("depthwise") and networks.DEPTHWISE[op][0] == 3
                cut[path] = value[1:4, 1:4] if is_small else value
        return traverse_util.unflatten_dict(cut)

    def _edge_of(self, path: tuple[str, ...]) -> tuple[int, int] | None:
        """Cell type (0 normal, 1 reduction) and edge that a variable belongs to."""
        if not path[2].startswith("edge_"):
            return None
        place = self.cells[int(path[1].removeprefix("cells_"))]
        return int(place.reduces), int(path[2].removeprefix("edge_"))


def _padded(block: darts_layers.Block) -> list[darts_layers.Layer]:
    """The layers of an edge among those that the elastic edge has, absent ones of no units."""
    weights = [layer for layer in block.layers if layer.kind == "conv"]
    relus = [layer for layer in block.layers if layer.kind == "relu"]
    none = darts_layers.Layer("conv", 0, 0)
    # A reduction cell's edge begins with the two convolutions of a skip.
    before = 2 if block.reduces and block.op != "skip_connect" else 0
    weights = [none] * before + weights
    weights += [none] * (4 + 2 * block.reduces - len(weights))
    return weights + relus + [none._replace(kind="relu")] * (2 - len(relus))


def _chain(ops: Sequence[str]) -> DartsGenotype:
    """The genotype with these 16 ops whose every node reads the cell's two inputs."""
    edges = [(op, i % 2) for i, op in enumerate(ops)]
    return DartsGenotype(edges[: 2 * NODES], edges[2 * NODES :])


def _sample_node(rng: np.random.Generator, i: int) -> tuple[Edge, Edge]:
    first, second = sorted(int(s) for s in rng.choice(2 + i, 2, replace=False))
    return (_choose(rng, OPS), first), (_choose(rng, OPS), second)


def _source(edge: Edge) -> int:
    return edge[1]


def _choose(rng: np.random.Generator, choices) -> Any:
    return choices[int(rng.integers(len(choices)))]
