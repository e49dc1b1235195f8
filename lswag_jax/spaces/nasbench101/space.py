"""NAS-Bench-101: convolutional networks of one repeated cell, a graph of up to 7 vertices.

Source: google-research/nasbench (Ying et al., ICML 2019).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.spaces.base import Space
from lswag_jax.spaces.nasbench101 import network as networks
from lswag_jax.spaces.nasbench101.genotype import (
    KERNEL_SIZES,
    MAX_EDGES,
    MAX_VERTICES,
    OPS,
    NasBench101Genotype,
    padded,
    valid_cell,
    vertex_channels,
)
from lswag_jax.spaces.nasbench101.variables import active, cut

_DIRECT = NasBench101Genotype([[0, 1], [0, 0]], ("input", "output"))


@dataclasses.dataclass(frozen=True)
class NasBench101(Space):
    """The cells of NAS-Bench-101 in a network of any size.

    A 3x3 convolution, then stacks of equal cells; before each stack but the first a 2x2 max pool,
    and twice the channels after it; average over the image, linear classifier.

    Args:
        name: what reports call it.
        width: channels of the first stack, 5 or more, as many as vertices can share them.
        stacks, cells: stacks of the network, cells of a stack.
        image_size: in pixels; each pool halves it.
        channels: of the image.
        num_classes: width of the classifier.

    Example:
        >>> space = NasBench101()
        >>> genotype = space.parse("conv3x3~0|conv1x1~0,1|output~0,1,2")
        >>> space.num_params(genotype), space.parse(space.format(genotype)) == genotype
        (4342154, True)
    """

    name: str = "nasbench101"
    width: int = 128
    stacks: int = 3
    cells: int = 3
    image_size: int = 32
    channels: int = 3
    num_classes: int = 10

    genotype_class: ClassVar[type] = NasBench101Genotype

    def __post_init__(self) -> None:
        smallest = {"width": MAX_VERTICES - 2}
        for field in dataclasses.fields(self)[1:]:
            value, least = getattr(self, field.name), smallest.get(field.name, 1)
            if value < least:
                raise ValueError(f"{field.name} must be at least {least}, got {value}.")
        if self.image_size % 2 ** (self.stacks - 1):
            raise ValueError(
                f"image_size must be a multiple of 2 ** (stacks - 1), got {self.image_size} "
                f"for {self.stacks} stacks."
            )

    # Sizes ------------------------------------------------------------------------------------

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an input."""
        return self.image_size, self.image_size, self.channels

    def _cells(self) -> Iterator[tuple[int, int, int]]:
        """Pixels, input channels and output channels of each cell."""
        width = self.width
        for stack in range(self.stacks):
            pixels, out = (self.image_size >> stack) ** 2, self.width << stack
            for _ in range(self.cells):
                yield pixels, width, out
                width = out

    def _convs(self, g: NasBench101Genotype) -> Iterator[tuple[int, int, int, int]]:
        """Pixels, kernel size, input and output channels of each convolution, as executed."""
        yield self.image_size**2, 3, self.channels, self.width
        for pixels, in_channels, out_channels in self._cells():
            widths = vertex_channels(g.matrix, in_channels, out_channels)
            for v in range(1, g.num_vertices):
                if g.matrix[0][v]:
                    yield pixels, 1, in_channels, widths[v]
                if g.ops[v] in KERNEL_SIZES:
                    yield pixels, KERNEL_SIZES[g.ops[v]], widths[v], widths[v]

    def _features(self) -> int:
        """Inputs of the classifier."""
        return self.width << (self.stacks - 1)

    def num_params(self, g: NasBench101Genotype) -> int:
        """Trainable parameters of `g`: kernels, scales and offsets, classifier."""
        convs = sum(k * k * i * o + 2 * o for _, k, i, o in self._convs(g))
        return convs + (self._features() + 1) * self.num_classes

    def macs(self, g: NasBench101Genotype, rule: str = "exact") -> int:
        """Multiply-accumulates of one image.

        Args:
            g: the genotype.
            rule: "exact" counts convolutions and the classifier; "naslib" is the counter of the
                published FLOPs of NAS-Bench-Suite-Zero, which adds 3 for each unit normalised and
                the window's size for each unit pooled.

        Raises:
            ValueError: an unknown rule.
        """
        if rule not in ("exact", "naslib"):
            raise ValueError(f"rule must be 'exact' or 'naslib', got {rule!r}.")
        total = sum(n * k * k * i * o for n, k, i, o in self._convs(g))
        total += self._features() * self.num_classes
        if rule == "naslib":
            total += sum(3 * n * o for n, _, _, o in self._convs(g)) + self._pooled(g)
        return total

    def _pooled(self, g: NasBench101Genotype) -> int:
        """Values that all max pools read, each window by itself."""
        pools = [v for v, op in enumerate(g.ops) if op == "maxpool3x3"]
        total = 0
        for i, (pixels, in_channels, out_channels) in enumerate(self._cells()):
            widths = vertex_channels(g.matrix, in_channels, out_channels)
            total += sum(9 * pixels * widths[v] for v in pools)
            if i and i % self.cells == 0:
                total += 4 * pixels * in_channels
        return total

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: NasBench101Genotype) -> None:
        """Raise ValueError unless `g` belongs to the space: up to 7 vertices and 9 edges."""
        if not isinstance(g, NasBench101Genotype):
            raise ValueError(
                f"{self.name} holds NasBench101Genotype, got a genotype of type {type(g).__name__}."
            )
        for what, value, most in (
            ("vertices", g.num_vertices, MAX_VERTICES),
            ("edges", g.num_edges, MAX_EDGES),
        ):
            if value > most:
                raise ValueError(f"a cell of {self.name} has at most {most} {what}, got {value}.")

    def format(self, g: NasBench101Genotype) -> str:
        """`g` as operation~sources of each vertex, as "conv3x3~0|maxpool3x3~0,1|output~1,2".

        Vertices count from the input, 0. The benchmark itself has no text form.
        """
        return g.to_text()

    def spellings(self, g: NasBench101Genotype) -> Iterator[str]:
        """Texts of the isomorphic cells, its own first: the inner vertices in every valid order."""
        return g.spellings()

    def parse(self, text: str) -> NasBench101Genotype:
        """The inverse of `format`.

        Raises:
            ValueError: the text has another form or is not of this space.
        """
        g = NasBench101Genotype.from_text(text)
        self.check(g)
        return g

    def _sample_one(self, rng: np.random.Generator) -> NasBench101Genotype:
        """The benchmark's sampler, which NASLib uses too.

        Each of the 21 possible edges of 7 vertices with probability one half and uniform
        operations, pruned, and drawn again unless it is a cell of up to 9 edges. This is not
        uniform over the distinct cells: one draw in 200 keeps its 7 vertices, while 6 of 7 cells
        of the benchmark have 7.
        """
        g = None
        while g is None:
            matrix = np.triu(rng.integers(2, size=(MAX_VERTICES, MAX_VERTICES)), 1)
            g = valid_cell(matrix, rng.choice(OPS, MAX_VERTICES - 2))
        return g

    def mutate(
        self,
        rng: np.random.Generator,
        g: NasBench101Genotype,
        m_prob: float = 0.2,
        s_prob: float = 0.4,
    ) -> NasBench101Genotype:
        """A mutant of `g`; m_prob=0.2 and s_prob=1 is the rule of the benchmark's own example.

        Since a genotype is pruned, `g` gets back its unconnected vertices, in random places and
        with random operations, before the mutation. Invalid mutants are drawn again.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that a vertex's operation becomes one of the others.
            s_prob: probability that edges are mutated, each of the 21 flipped with 1/7.
        """
        inner, mutant = MAX_VERTICES - 2, None
        while mutant is None:
            places = 1 + np.sort(rng.choice(inner, g.num_vertices - 2, replace=False))
            matrix, ops = padded(rng, g, places)
            if rng.random() < s_prob:
                flips = rng.random(matrix.shape) < 1 / MAX_VERTICES
                matrix = matrix ^ np.triu(flips, 1)
            steps = np.where(rng.random(inner) < m_prob, rng.integers(1, len(OPS), inner), 0)
            ops = [OPS[(OPS.index(op) + s) % len(OPS)] for op, s in zip(ops, steps, strict=True)]
            mutant = valid_cell(matrix, ops)
        return mutant

    def crossover(
        self, rng: np.random.Generator, a: NasBench101Genotype, b: NasBench101Genotype
    ) -> NasBench101Genotype | None:
        """A child that has each vertex, with the edges into it, from either parent.

        Vertices are paired from the input on, the outputs with each other. None where the child
        has no path from input to output or too many edges.
        """
        (matrix_a, ops_a), (matrix_b, ops_b) = (
            padded(rng, g, range(1, g.num_vertices - 1)) for g in (a, b)
        )
        first = rng.random(MAX_VERTICES) < 0.5
        return valid_cell(np.where(first, matrix_a, matrix_b), np.where(first[1:-1], ops_a, ops_b))

    # Networks ---------------------------------------------------------------------------------

    def _module(self, g: NasBench101Genotype) -> networks.NasBench101Network:
        return networks.NasBench101Network(
            g.matrix, g.ops, self.width, self.stacks, self.cells, self.num_classes
        )

    def build(self, g: NasBench101Genotype) -> networks.NasBench101Network:
        """The Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(g)

    def network(self) -> networks.NasBench101Network:
        """The elastic module; it takes `encode`'s output."""
        return self._module(_DIRECT)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module, as zero-cost-nas draws them (float32).

        Kernels N(0, 2 / (k * k * output channels)), see `active_variables`.
        """
        encoded = {key: jnp.asarray(v, jnp.int32) for key, v in self._encode_one(_DIRECT).items()}
        return self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded)

    def _encode_one(self, g: NasBench101Genotype) -> dict[str, np.ndarray]:
        """The cell in the places of the largest, and the active sizes.

        `edges` [7, 7]; `codes` [5] of the inner operations, 1 + index into OPS, 0 where there is
        no vertex; `fan_in`, the inner vertices that feed the output; `widths` and `offsets`
        [stacks, 5], the inner vertices' channels and where they begin in the output.
        """
        matrix = np.array(g.matrix)
        edges = np.zeros((MAX_VERTICES, MAX_VERTICES), int)
        places = [*range(g.num_vertices - 1), MAX_VERTICES - 1]
        edges[np.ix_(places, places)] = matrix
        codes = np.zeros(networks.INNER, int)
        codes[: g.num_vertices - 2] = [1 + OPS.index(op) for op in g.ops[1:-1]]
        widths = np.zeros((self.stacks, networks.INNER), int)
        for stack in range(self.stacks):
            channels = vertex_channels(g.matrix, 1, self.width << stack)
            widths[stack, : g.num_vertices - 2] = channels[1:-1]
        shares = widths * edges[1:-1, -1]
        sizes = {
            "edges": edges,
            "codes": codes,
            "fan_in": edges[1:-1, -1].sum(),
            "widths": widths,
            "offsets": shares.cumsum(1) - shares,
        }
        return sizes | self._units(sizes)

    def _units(self, sizes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Active units of every layer."""
        is_fed = sizes["edges"][0, 1:]
        is_conv = (sizes["codes"] > 0) & (sizes["codes"] <= len(KERNEL_SIZES))
        stem = self.image_size**2
        in_units, out_units = [stem * self.channels], [stem * self.width]
        for i, (pixels, in_channels, out_channels) in enumerate(self._cells()):
            widths = sizes["widths"][i // self.cells]
            inner = widths * is_conv
            entry = np.r_[widths, out_channels] * is_fed
            into = np.stack([in_channels * is_fed[:-1], inner], axis=1).ravel()
            out = np.stack([entry[:-1], inner], axis=1).ravel()
            in_units += (pixels * np.r_[into, in_channels * is_fed[-1]]).tolist()
            out_units += (pixels * np.r_[out, entry[-1]]).tolist()
        return {
            "in_units": np.array([*in_units, self._features()]),
            "out_units": np.array([*out_units, self.num_classes]),
            "act_units": np.array(out_units),
        }

    def layer_sets(self) -> np.ndarray:
        """Every distinct set of present weight layers: projected inputs and convolutions."""
        rows = []
        for n, direct in itertools.product(range(networks.INNER + 1), (False, True)):
            for choice in itertools.product((False, True), repeat=2 * n):
                is_fed, is_conv = choice[:n], choice[n:]
                # Each vertex has an edge from the input or the vertex before, and one onwards.
                if (n and not is_fed[0]) or not n + direct or sum(is_fed) + n + direct > MAX_EDGES:
                    continue
                inner = np.zeros((networks.INNER, 2), bool)
                inner[:n] = np.transpose([is_fed, is_conv])
                cells = np.tile([*inner.ravel(), direct], self.stacks * self.cells)
                rows.append(np.r_[True, cells, True])
        return np.unique(rows, axis=0)

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Variables with what the cell does not have at zero and the rest at its own scale."""
        return active(variables, encoded, self.cells)

    def extract(self, variables: Mapping[str, Any], g: NasBench101Genotype) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""
        encoded = {key: value[0] for key, value in self.encode([g]).items()}
        return cut(self.active_variables(variables, encoded), encoded, g, self.cells)
