"""The micro space of TransNAS-Bench-101: 4,096 cells in a fixed skeleton."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.options import Share
from lswag_jax.spaces.base import scale_params
from lswag_jax.spaces.blocks import edge_of
from lswag_jax.spaces.layers import centre_scale
from lswag_jax.spaces.plan import Path
from lswag_jax.spaces.transnas.genotype import (
    EDGES,
    NUM_EDGES,
    TransNASMacroGenotype,
    TransNASMicroGenotype,
)
from lswag_jax.spaces.transnas.network import TransNASNetwork
from lswag_jax.spaces.transnas.space import TransNAS

_EXAMPLE = "41414-1_02_333"


@dataclasses.dataclass(frozen=True)
class TransNASMicro(TransNAS[TransNASMicroGenotype]):
    """Cells of four nodes and six edges, each edge one of four operations.

    Args:
        modules: kinds of the modules: 1 plain, 2 twice the channels, 3 half the resolution, 4 both.

    Example:
        >>> space = TransNASMicro()
        >>> genotype = space.parse("64-41414-1_02_333")
        >>> genotype.ops, space.num_params(genotype), len(space.genotypes())
        ((1, 0, 2, 3, 3, 3), 22571908, 4096)
    """

    name: str = "transnas_micro"
    modules: tuple[int, ...] = (4, 1, 4, 1, 4)

    genotype_class: ClassVar[type] = TransNASMicroGenotype
    _digits: ClassVar[str] = "the modules, then six operations from 0 to 3 as a_bc_def"

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", TransNASMacroGenotype(self.modules).modules)
        super().__post_init__()

    @property
    def _max_strides(self) -> int:
        return sum(kind > 2 for kind in self.modules)

    def _modules(self, g: TransNASMicroGenotype) -> tuple[int, ...]:
        return self.modules

    def _ops(self, g: TransNASMicroGenotype) -> tuple[int, ...]:
        return g.ops

    def depth_extremes(self) -> Iterator[TransNASMicroGenotype]:
        """Lists cells with and without each edge's convolution, or its factorised reduction."""
        choices = [(0, 2) if source else (0, 1, 2) for source, _ in EDGES]
        return map(TransNASMicroGenotype, itertools.product(*choices))

    def format(self, g: TransNASMicroGenotype) -> str:
        """`g` as the benchmark's code, for example "64-41414-1_02_333"."""
        a, *rest = map(str, g.ops)
        modules = "".join(map(str, self.modules))
        return f"{self.width}-{modules}-{a}_{''.join(rest[:2])}_{''.join(rest[2:])}"

    def parse(self, text: str) -> TransNASMicroGenotype:
        """Reads what `format` writes.

        Raises:
            ValueError: the text has another form, or other channels or modules than the space.
        """
        digits = self._code(text, _EXAMPLE)[1].replace("_", "")
        if digits.isdecimal() and len(digits) == NUM_EDGES and set(digits) <= set("0123"):
            g = TransNASMicroGenotype(tuple(int(digit) for digit in digits))
            if self.format(g) == text:
                return g
        raise self._malformed(text, _EXAMPLE)

    def genotypes(self) -> tuple[TransNASMicroGenotype, ...]:
        """Lists all 4,096 genotypes, in the order of their codes."""
        return _every_genotype()

    def mutate(
        self,
        rng: np.random.Generator,
        g: TransNASMicroGenotype,
        m_prob: Share = 0.2,
        s_prob: Share = 0.4,
    ) -> TransNASMicroGenotype:
        """Makes a mutant of `g`.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that an edge's operation is drawn anew.
            s_prob: probability that one edge, drawn by chance, gets another operation, which by
                itself (m_prob=0, s_prob=1) is NASLib's mutation.
        """
        ops = [int(rng.integers(4)) if rng.random() < m_prob else op for op in g.ops]
        if rng.random() < s_prob:
            edge = int(rng.integers(NUM_EDGES))
            ops[edge] = (ops[edge] + int(rng.integers(1, 4))) % 4
        return TransNASMicroGenotype(tuple(ops))

    # Networks ---------------------------------------------------------------------------------

    def network(self) -> TransNASNetwork:
        """Builds the elastic module, which takes `encode`'s output."""
        return self._module(self.modules, (3,) * NUM_EDGES)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of the elastic module (float32).

        Convolutions of the encoder by Kaiming's rule with fan-out, as in the benchmark; the head
        and decoders by PyTorch's default.
        """
        encoded = {"ops": jnp.full(NUM_EDGES, 3)}
        return dict(self.network().init(key, jnp.zeros((1, *self.image_shape)), encoded))

    def codes(self, g: TransNASMicroGenotype) -> dict[str, np.ndarray]:
        """`ops` [6], the operations."""
        return {"ops": np.array(g.ops)}

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Makes a 1x1 kernel of a 3x3 one's centre, at three times the scale; zeroes the others."""

        def factor(path: Path, value: jax.Array) -> jax.Array | None:
            edge = edge_of(path)
            if edge is None or path[-1] != "kernel":
                return None
            op = jnp.asarray(encoded["ops"][edge])
            if path[-2] == "conv":
                return centre_scale(jnp.array([0, 0, 1, 3])[op], 3, value.dtype)
            return op == 1  # of a factorised reduction

        return scale_params(variables, factor)


@functools.cache
def _every_genotype() -> tuple[TransNASMicroGenotype, ...]:
    return tuple(map(TransNASMicroGenotype, itertools.product(range(4), repeat=NUM_EDGES)))
