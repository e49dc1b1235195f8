"""NAS-Bench-201: cells of four nodes with one of five operations on each of six edges.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020; code D-X-Y/AutoDL-Projects (xautodl).
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
from lswag_jax.spaces.layers import centre_scale
from lswag_jax.spaces.nasbench201 import network as networks
from lswag_jax.spaces.nasbench201.genotype import EDGES, OPS, NasBench201Genotype


@dataclasses.dataclass(frozen=True)
class NasBench201(Space):
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
    width: int = 16
    cells: int = 5
    image_size: int = 32
    channels: int = 3
    num_classes: int = 10

    genotype_class: ClassVar[type] = NasBench201Genotype

    def __post_init__(self) -> None:
        for field in ("width", "cells", "image_size", "channels", "num_classes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}.")
        if self.image_size % 4:
            raise ValueError(f"image_size must be a multiple of 4, got {self.image_size}.")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an input."""
        return self.image_size, self.image_size, self.channels

    def _stages(self) -> list[tuple[int, int]]:
        """Channels and pixels of each stage."""
        return [(self.width * 2**s, (self.image_size // 2**s) ** 2) for s in range(3)]

    def num_params(self, g: NasBench201Genotype) -> int:
        """Trainable parameters of `g`."""
        return self.params_of(g.ops)

    def params_of(self, ops: Sequence[str]) -> int:
        """Trainable parameters where a cell's edges have these operations together."""
        c, k = self.width, self.num_classes
        total = 9 * self.channels * c + 2 * c
        total += 2 * 4 * c + 4 * c * k + k
        for channels in (c, 2 * c):  # residual blocks
            total += (9 + 18 + 1) * 2 * channels**2 + 2 * 2 * 2 * channels
        for size in _conv_sizes(ops):
            total += self.cells * sum(size**2 * ch**2 + 2 * ch for ch, _ in self._stages())
        return total

    def macs(self, g: NasBench201Genotype, rule: str = "exact") -> int:
        """Multiply-accumulates of one image.

        Args:
            g: the genotype.
            rule: "exact" counts convolutions and the classifier; "naslib" adds what tensorwatch,
                NASLib's counter, charges for BatchNorm (2 an element), ReLU (1) and pooling (its
                window), the published FLOPs of NAS-Bench-Suite-Zero.

        Raises:
            ValueError: an unknown rule.
        """
        return self.macs_of(g.ops, rule)

    def macs_of(self, ops: Sequence[str], rule: str = "exact") -> int:
        """`macs` where a cell's edges have these operations together."""
        if rule not in ("exact", "naslib"):
            raise ValueError(f"rule must be 'exact' or 'naslib', got {rule!r}.")
        stages = self._stages()
        total = 9 * self.channels * self.width * self.image_size**2
        total += 4 * self.width * self.num_classes
        for channels, pixels in stages[1:]:
            total += (9 + 18 + 1) * channels**2 // 2 * pixels
        for size in _conv_sizes(ops):
            total += self.cells * sum(size**2 * ch**2 * pixels for ch, pixels in stages)
        return total + (self._elementwise(ops) if rule == "naslib" else 0)

    def _elementwise(self, ops: Sequence[str]) -> int:
        """What tensorwatch counts besides the multiply-accumulates."""
        units = [channels * pixels for channels, pixels in self._stages()]
        per_edge = 3 * len(_conv_sizes(ops)) + 9 * ops.count("avg_pool_3x3")
        total = 2 * units[0] + self.cells * per_edge * sum(units)
        for before, after in itertools.pairwise(units):
            total += before + (2 + 1 + 2 + 4 // 2) * after  # ReLU, BN, ReLU, BN, pooling
        window = (self.image_size // 4 + 1) ** 2  # of the global pooling, as it counts
        return total + 3 * units[2] + 4 * self.width * window

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: NasBench201Genotype) -> None:
        """Raise ValueError unless `g` is a genotype of NAS-Bench-201."""
        if not isinstance(g, NasBench201Genotype):
            raise ValueError(
                f"{self.name} holds NasBench201Genotype, got a genotype of type {type(g).__name__}."
            )

    def format(self, g: NasBench201Genotype) -> str:
        """The benchmark's string."""
        return g.to_string()

    def parse(self, text: str) -> NasBench201Genotype:
        """The inverse of `format`."""
        return NasBench201Genotype.from_string(text)

    def genotypes(self) -> list[NasBench201Genotype]:
        """All 15,625 genotypes."""
        return [NasBench201Genotype(ops) for ops in itertools.product(OPS, repeat=len(EDGES))]

    def _sample_one(self, rng: np.random.Generator) -> NasBench201Genotype:
        """Every edge uniform: all genotypes are equally likely."""
        return NasBench201Genotype([OPS[i] for i in rng.integers(len(OPS), size=len(EDGES))])

    def mutate(
        self,
        rng: np.random.Generator,
        g: NasBench201Genotype,
        m_prob: float = 0.2,
        s_prob: float = 0.4,
    ) -> NasBench201Genotype:
        """Draws each edge's operation anew with probability `m_prob`; there is nothing else."""
        del s_prob
        fresh = self._sample_one(rng)
        pick = rng.random(len(EDGES)) < m_prob
        return NasBench201Genotype(np.where(pick, fresh.ops, g.ops).tolist())

    def crossover(
        self, rng: np.random.Generator, a: NasBench201Genotype, b: NasBench201Genotype
    ) -> NasBench201Genotype:
        """A child with each edge's operation of either parent."""
        return NasBench201Genotype(np.where(rng.random(len(EDGES)) < 0.5, a.ops, b.ops).tolist())

    # Networks ---------------------------------------------------------------------------------

    def _module(self, ops: tuple[str, ...]) -> networks.NasBench201Network:
        return networks.NasBench201Network(ops, self.width, self.cells, self.num_classes)

    def build(self, g: NasBench201Genotype) -> networks.NasBench201Network:
        """The Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(g.ops)

    def network(self) -> networks.NasBench201Network:
        """The elastic module; it takes `encode`'s output."""
        return self._module(("nor_conv_3x3",) * len(EDGES))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module: PyTorch's defaults (float32)."""
        encoded = {"codes": jnp.full(len(EDGES), OPS.index("nor_conv_3x3"))}
        return self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded)

    def _encode_one(self, g: NasBench201Genotype) -> dict[str, np.ndarray]:
        """`codes` [6] of the operations, and the active sizes."""
        is_conv = np.array([op in networks.CONV_SIZES for op in g.ops])
        return {"codes": np.array(g.codes)} | self.active_sizes(is_conv)

    def active_sizes(self, is_conv: np.ndarray) -> dict[str, np.ndarray]:
        """`in_units`, `out_units` and `act_units` (see `encode`).

        Args:
            is_conv: of each convolution that a cell may have, in order, whether it is there.
        """
        units = [channels * pixels for channels, pixels in self._stages()]
        pixels = self.image_size**2 * self.channels
        in_units, out_units, act_units = [pixels], [units[0]], []
        for stage, size in enumerate(units):
            if stage:
                before = units[stage - 1]
                in_units += [before, size, before // 4]
                out_units += [size] * 3
                act_units += [before, size]
            cells = np.tile(is_conv * size, self.cells).tolist()
            in_units, out_units, act_units = in_units + cells, out_units + cells, act_units + cells
        return {
            "in_units": np.array([*in_units, 4 * self.width]),
            "out_units": np.array([*out_units, self.num_classes]),
            "act_units": np.array([*act_units, units[2]]),
        }

    def layer_sets(self) -> np.ndarray:
        """Every distinct set of present weight layers: with or without each edge's convolution."""
        rows = []
        for choice in itertools.product((False, True), repeat=len(EDGES)):
            stage = list(choice) * self.cells
            rows.append([True, *stage, *[True] * 3, *stage, *[True] * 3, *stage, True])
        return np.array(rows)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A 1x1 kernel is the centre of the 3x3 one at three times the scale, others are zero."""
        size = jnp.array([networks.CONV_SIZES.get(op, 0) for op in OPS])[encoded["codes"]]
        flat = traverse_util.flatten_dict(dict(variables))
        for path, value in flat.items():
            if path[-1] == "kernel" and path[-3].startswith("edge_"):
                edge = int(path[-3].removeprefix("edge_"))
                flat[path] = value * centre_scale(size[edge], 3, value.dtype)
        return traverse_util.unflatten_dict(flat)

    def extract(self, variables: Mapping[str, Any], g: NasBench201Genotype) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""
        encoded = {key: value[0] for key, value in self.encode([g]).items()}
        cut = {}
        for path, value in traverse_util.flatten_dict(
            self.active_variables(variables, encoded)
        ).items():
            edges = [part for part in path if part.startswith("edge_")]
            size = networks.CONV_SIZES.get(g.ops[int(edges[0][5:])], 0) if edges else 3
            if size:
                is_small = size == 1 and path[-1] == "kernel"
                cut[path] = value[1:2, 1:2] if is_small else value
        return traverse_util.unflatten_dict(cut)


def _conv_sizes(ops: Sequence[str]) -> list[int]:
    """Kernel sizes of a cell's convolutions."""
    return [networks.CONV_SIZES[op] for op in ops if op in networks.CONV_SIZES]
