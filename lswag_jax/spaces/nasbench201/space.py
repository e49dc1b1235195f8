"""NAS-Bench-201: cells of four nodes with one of five operations on each of six edges.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020; code D-X-Y/AutoDL-Projects (xautodl).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.options import Depth, ImageSize, Size
from lswag_jax.spaces.base import Space, scale_params
from lswag_jax.spaces.blocks import edge_of
from lswag_jax.spaces.layers import centre_scale
from lswag_jax.spaces.nasbench201 import network as networks
from lswag_jax.spaces.nasbench201.genotype import EDGES, OPS, NasBench201Genotype
from lswag_jax.spaces.nasbench201.plan import CONV_SIZES
from lswag_jax.spaces.nasbench201.plan import network as network_plan
from lswag_jax.spaces.plan import Path, Plan


@dataclasses.dataclass(frozen=True)
class NasBench201(Space[NasBench201Genotype]):
    """The space of NAS-Bench-201; by default the benchmark's own network for CIFAR-10.

    Args:
        name: what reports call it.
        width: channels of the first stage; the others have 2 and 4 times as many.
        cells: of each of the three stages.
        image_size: in pixels, a multiple of 4.
        channels: of the image.
        num_classes: width of the classifier.

    Example:
        >>> space = NasBench201(width=4, cells=1, image_size=8)
        >>> genotype = space.sample(np.random.default_rng(0), 1)[0]
        >>> space.parse(space.format(genotype)) == genotype
        True
    """

    name: str = "nasbench201"
    width: Size = 16
    cells: Depth = 5
    image_size: ImageSize = 32
    channels: Size = 3
    num_classes: Size = 10

    genotype_class: ClassVar[type] = NasBench201Genotype
    count_rules: ClassVar[tuple[str, ...]] = ("exact", "naslib")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 4:
            raise ValueError(f"image_size must be a multiple of 4, got {self.image_size}.")

    # Genotypes --------------------------------------------------------------------------------

    def format(self, g: NasBench201Genotype) -> str:
        """The benchmark's string."""
        return g.to_string()

    def parse(self, text: str) -> NasBench201Genotype:
        """Reads what `format` writes."""
        return NasBench201Genotype.from_string(text)

    def genotypes(self) -> list[NasBench201Genotype]:
        """Lists all 15,625 genotypes."""
        return [NasBench201Genotype(ops) for ops in itertools.product(OPS, repeat=len(EDGES))]

    def sample_one(self, rng: np.random.Generator) -> NasBench201Genotype:
        """Every edge uniform: all genotypes are equally likely."""
        return NasBench201Genotype(tuple(OPS[i] for i in rng.integers(len(OPS), size=len(EDGES))))

    # Networks ---------------------------------------------------------------------------------

    def plan(self, g: NasBench201Genotype) -> Plan:
        """Lists the layers of `g`, with the place of a convolution on each edge."""
        return network_plan(self, g.ops)

    def depth_extremes(self) -> Iterator[NasBench201Genotype]:
        """Lists cells with and without each edge's convolution."""
        for ops in itertools.product(("none", "nor_conv_3x3"), repeat=len(EDGES)):
            yield NasBench201Genotype(ops)

    def module(self, edges: Sequence) -> networks.NasBench201Network:
        """The network whose cells have these operations, or sets of them, on their edges."""
        return networks.NasBench201Network(tuple(edges), self.width, self.cells, self.num_classes)

    def build(self, g: NasBench201Genotype) -> networks.NasBench201Network:
        """Builds the Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self.module(g.ops)

    def network(self) -> networks.NasBench201Network:
        """Builds the elastic module, which takes `encode`'s output."""
        return self.module(("nor_conv_3x3",) * len(EDGES))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module: PyTorch's defaults (float32)."""
        encoded = {"codes": jnp.full(len(EDGES), OPS.index("nor_conv_3x3"))}
        return dict(self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded))

    def codes(self, g: NasBench201Genotype) -> dict[str, np.ndarray]:
        """`codes` [6], index into `OPS` of each operation."""
        return {"codes": np.array(g.codes)}

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Makes a 1x1 kernel of a 3x3 one's centre, at three times the scale; zeroes the others."""
        size = jnp.array([CONV_SIZES.get(op, 0) for op in OPS])[encoded["codes"]]

        def factor(path: Path, value: jax.Array) -> jax.Array | None:
            edge = edge_of(path)
            is_kernel = edge is not None and path[-1] == "kernel"
            return centre_scale(size[edge], 3, value.dtype) if is_kernel else None

        return scale_params(variables, factor)
