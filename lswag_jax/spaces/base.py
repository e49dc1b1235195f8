"""What every search space offers."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from lswag_jax import tasks
from lswag_jax.spaces import depth
from lswag_jax.tasks import Task


@dataclasses.dataclass(frozen=True)
class Block:
    """One link of a network that is scored as a chain (`lswag_jax.capture.chain`).

    Attributes:
        name: of the submodule in the whole network, whose variables it has.
        module: takes the output of the block before; equal modules share a compiled program.
        is_scored: False for a head whose layers are left out of what is recorded.
    """

    name: str
    module: nn.Module
    is_scored: bool = True


class Space(abc.ABC):
    """A search space: its genotypes, what they count, and their networks.

    Subclasses are frozen dataclasses. The elastic network takes an encoded genotype as input, so
    that one compiled program serves every genotype. The law of every space:

        score(network(), active_variables(v, e), e) == score(build(g), extract(v, g))

    where e is the encoding of g.
    """

    name: str
    num_classes: int
    genotype_class: ClassVar[type]

    @property
    def task(self) -> Task:
        """What the networks are to predict."""
        return tasks.classification(self.num_classes)

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    # Genotypes --------------------------------------------------------------------------------

    @abc.abstractmethod
    def check(self, g: Any) -> None:
        """Raise ValueError unless `g` belongs to the space."""

    @abc.abstractmethod
    def format(self, g: Any) -> str:
        """`g` as text, for benchmark spaces the benchmark's own."""

    @abc.abstractmethod
    def parse(self, text: str) -> Any:
        """The inverse of `format`; ValueError for another form."""

    def spellings(self, g: Any) -> Iterator[str]:
        """Texts of the genotypes that are the same network as `g`, its own first."""
        yield self.format(g)

    def from_json(self, data: Mapping[str, Any]) -> Any:
        """A checked genotype of this space from its JSON dictionary."""
        g = self.genotype_class.from_json(data)
        self.check(g)
        return g

    def sample(self, rng: np.random.Generator, n: int) -> list[Any]:
        """`n` random genotypes, with replacement."""
        return [self._sample_one(rng) for _ in range(n)]

    @abc.abstractmethod
    def _sample_one(self, rng: np.random.Generator) -> Any: ...

    @abc.abstractmethod
    def mutate(
        self, rng: np.random.Generator, g: Any, m_prob: float = 0.2, s_prob: float = 0.4
    ) -> Any:
        """A mutant of `g`; what the two probabilities concern is the space's to say."""

    @abc.abstractmethod
    def crossover(self, rng: np.random.Generator, a: Any, b: Any) -> Any | None:
        """A child with each gene of either parent; None where the parents do not fit."""

    @abc.abstractmethod
    def num_params(self, g: Any) -> int:
        """Trainable parameters of `g`."""

    @abc.abstractmethod
    def macs(self, g: Any, rule: str = "exact") -> int:
        """Multiply-accumulates of one input, by a counting rule of the space."""

    # Networks ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def build(self, g: Any) -> nn.Module:
        """The Flax module of exactly `g`'s size, to train or export."""

    @abc.abstractmethod
    def network(self) -> nn.Module:
        """The elastic module, large enough for every genotype; it takes `encode`'s output."""

    def chain(self, g: Any) -> list[Block] | None:
        """The blocks of `g` in order, where shapes differ too much for an elastic network.

        Such a network is scored block by block, one compiled program a kind of block; None where
        `network` is elastic.
        """
        del g
        return None

    @property
    def unscored(self) -> tuple[str, ...]:
        """Names of the network's last submodules whose layers proxies do not see."""
        return ()

    @property
    def padded_maps(self) -> bool:
        """Whether the elastic network has feature maps larger than the exact one's."""
        return False

    @property
    def any_size(self) -> bool:
        """Whether the networks take images of any size, as those without position tables do."""
        return True

    @abc.abstractmethod
    def init(self, key: jax.Array) -> dict[str, Any]:
        """Initial variables of the elastic module (float32)."""

    def encode(self, genotypes: Sequence[Any]) -> dict[str, np.ndarray]:
        """Genotypes as int32 arrays with a leading axis P, the input of the elastic module.

        Returns:
            What the space's network reads, and the active sizes that proxies read, in order of
            execution: `in_units` and `out_units` [P, L] of each weight layer, a sample (0 marks a
            layer that is not there), and `act_units` [P, A] of each activation layer.

        Raises:
            ValueError: a genotype is not of this space.
        """
        for g in genotypes:
            self.check(g)
        rows = [self._encode_one(g) for g in genotypes]
        return {key: np.stack([row[key] for row in rows]).astype(np.int32) for key in rows[0]}

    @abc.abstractmethod
    def _encode_one(self, g: Any) -> dict[str, np.ndarray]: ...

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The elastic variables as one genotype has them, in the elastic module's shapes.

        Where the initial scale depends on sizes that the genotype chooses, here it is made that of
        the active ones; weights that the genotype does not have may become zero.
        """
        del encoded
        return variables

    @abc.abstractmethod
    def extract(self, variables: Mapping[str, Any], g: Any) -> dict[str, Any]:
        """The variables of `build(g)`, cut from those of the elastic module."""

    @abc.abstractmethod
    def layer_sets(self) -> np.ndarray:
        """Every distinct set of present weight layers, bool [K, L]."""

    def bin_range(self, rule: str = "zero_based") -> np.ndarray:
        """Lowest and highest depth bin [2, L] that each weight layer can have."""
        return depth.bin_range(self.layer_sets(), rule)
