"""NAS-Bench-101: convolutional networks of one repeated cell, a graph of up to 7 vertices.

Source: google-research/nasbench (Ying et al., ICML 2019).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.options import Bound, Depth, ImageSize, Share, Size
from lswag_jax.spaces.base import Space, scale_params
from lswag_jax.spaces.layers import centre_scale, unit_mask
from lswag_jax.spaces.nasbench101 import network as networks
from lswag_jax.spaces.nasbench101.genotype import (
    INNER,
    KERNEL_SIZES,
    MAX_EDGES,
    MAX_VERTICES,
    OPS,
    NasBench101Genotype,
    padded,
    valid_cell,
    vertex_channels,
)
from lswag_jax.spaces.nasbench101.plan import network as network_plan
from lswag_jax.spaces.plan import Path, Plan

_OUTPUT = MAX_VERTICES - 1  # the largest cell's last vertex
_DIRECT = NasBench101Genotype(((0, 1), (0, 0)), ("input", "output"))


@dataclasses.dataclass(frozen=True)
class NasBench101(Space[NasBench101Genotype]):
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
    width: Annotated[int, Bound(INNER, 100_000)] = 128
    stacks: Depth = 3
    cells: Depth = 3
    image_size: ImageSize = 32
    channels: Size = 3
    num_classes: Size = 10

    genotype_class: ClassVar[type] = NasBench101Genotype
    count_rules: ClassVar[tuple[str, ...]] = ("exact", "naslib")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 2 ** (self.stacks - 1):
            raise ValueError(
                f"image_size must be a multiple of 2 ** (stacks - 1), got {self.image_size} "
                f"for {self.stacks} stacks."
            )

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: NasBench101Genotype) -> None:
        """Raises ValueError unless `g` belongs to the space: up to 7 vertices and 9 edges."""
        super().check(g)
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
        """Reads what `format` writes.

        Raises:
            ValueError: the text has another form or is not of this space.
        """
        g = NasBench101Genotype.from_text(text)
        self.check(g)
        return g

    def sample_one(self, rng: np.random.Generator) -> NasBench101Genotype:
        """The benchmark's sampler, which NASLib uses too.

        Each of the 21 possible edges of 7 vertices with probability one half and uniform
        operations, pruned, and drawn again unless it is a cell of up to 9 edges. This is not
        uniform over the distinct cells: one draw in 200 keeps its 7 vertices, while 6 of 7 cells
        of the benchmark have 7.
        """
        g = None
        while g is None:
            matrix = np.triu(rng.integers(2, size=(MAX_VERTICES, MAX_VERTICES)), 1)
            g = valid_cell(matrix, rng.choice(OPS, INNER))
        return g

    def mutate(
        self,
        rng: np.random.Generator,
        g: NasBench101Genotype,
        m_prob: Share = 0.2,
        s_prob: Share = 0.4,
    ) -> NasBench101Genotype:
        """Makes a mutant of `g`; m_prob=0.2 and s_prob=1 is the benchmark's own example.

        Since a genotype is pruned, `g` gets back its unconnected vertices, in random places and
        with random operations, before the mutation. Invalid mutants are drawn again.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that a vertex's operation becomes one of the others.
            s_prob: probability that edges are mutated, each of the 21 flipped with 1/7.
        """
        inner, mutant = INNER, None
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
        """Builds the Flax module of exactly `g`'s size, to train or export."""
        self.check(g)
        return self._module(g)

    def network(self) -> networks.NasBench101Network:
        """Builds the elastic module, which takes `encode`'s output."""
        return self._module(_DIRECT)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module, as zero-cost-nas draws them (float32).

        Kernels N(0, 2 / (k * k * output channels)), see `active_variables`.
        """
        encoded = {key: jnp.asarray(v, jnp.int32) for key, v in self.codes(_DIRECT).items()}
        return dict(self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded))

    def codes(self, g: NasBench101Genotype) -> dict[str, np.ndarray]:
        """The cell in the places of the largest.

        `edges` [7, 7]; `codes` [5] of the inner operations, 1 + index into OPS, 0 for no
        vertex; `fan_in`, the inner vertices that feed the output; `widths` and `offsets`
        [stacks, 5], the inner vertices' channels and where they begin in the output.
        """
        matrix = np.array(g.matrix)
        edges = np.zeros((MAX_VERTICES, MAX_VERTICES), int)
        places = [*range(g.num_vertices - 1), MAX_VERTICES - 1]
        edges[np.ix_(places, places)] = matrix
        codes = np.zeros(INNER, int)
        codes[: g.num_vertices - 2] = [1 + OPS.index(op) for op in g.ops[1:-1]]
        widths = np.zeros((self.stacks, INNER), int)
        for stack in range(self.stacks):
            channels = vertex_channels(g.matrix, 1, self.width << stack)
            widths[stack, : g.num_vertices - 2] = channels[1:-1]
        shares = widths * edges[1:-1, -1]
        return {
            "edges": edges,
            "codes": codes,
            "fan_in": edges[1:-1, -1].sum(),
            "widths": widths,
            "offsets": shares.cumsum(1) - shares,
        }

    def plan(self, g: NasBench101Genotype) -> Plan:
        """Lists the layers of `g` in the places of the largest cell's."""
        return network_plan(self, g)

    def depth_extremes(self) -> Iterator[NasBench101Genotype]:
        """Lists a chain of vertices for every set of projected inputs and convolutions."""
        for n, direct in itertools.product(range(INNER + 1), (False, True)):
            for choice in itertools.product((False, True), repeat=2 * n):
                is_fed, is_conv = choice[:n], choice[n:]
                # Each vertex has an edge from the input or the vertex before, and one onwards.
                if (n and not is_fed[0]) or not n + direct or sum(is_fed) + n + direct > MAX_EDGES:
                    continue
                matrix = np.eye(n + 2, k=1, dtype=int)
                matrix[0, 1:] = *is_fed, direct
                ops = [OPS[0] if conv else "maxpool3x3" for conv in is_conv]
                yield NasBench101Genotype.of(matrix, ("input", *ops, "output"))

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Scales kernels to the genotype's own channels and zeroes what the cell lacks.

        A 1x1 kernel is the centre of the 3x3 one at three times the scale.
        """
        size = jnp.array([0, *(KERNEL_SIZES.get(op, 0) for op in OPS)])[encoded["codes"]]

        def of_outputs(path: Path, value: jax.Array) -> jax.Array | None:
            stack, kind, vertex = self._place(path)
            if not kind or vertex == _OUTPUT:  # the output has all channels
                return None
            mask = unit_mask(value.shape[-1], encoded["widths"][stack, vertex - 1], value.dtype)
            width = jnp.maximum(encoded["widths"][stack, vertex - 1], 1).astype(value.dtype)
            # N(0, 2 / (k * k * outputs)) of the genotype's own number of outputs.
            return (mask * jnp.sqrt(value.shape[-1] / width)).reshape(1, 1, 1, -1)

        def of_inputs(path: Path, value: jax.Array) -> jax.Array | None:
            stack, kind, vertex = self._place(path)
            if kind != "vertex":
                return encoded["edges"][0, vertex] if kind else None
            mask = unit_mask(value.shape[2], encoded["widths"][stack, vertex - 1], value.dtype)
            return mask.reshape(1, 1, -1, 1) * centre_scale(size[vertex - 1], 3, value.dtype)

        return scale_params(scale_params(variables, of_outputs), of_inputs)

    def _place(self, path: Path) -> tuple[int, str, int]:
        """Stack, kind ("input" or "vertex") and vertex of a kernel; kind "" for any other."""
        if path[-1] != "kernel" or not path[1].startswith("cells_"):
            return 0, "", 0
        kind, vertex = path[2].split("_")
        stack = int(path[1].removeprefix("cells_")) // self.cells
        return stack, kind, _OUTPUT if vertex == "output" else int(vertex)
