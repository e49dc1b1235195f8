"""What every search space offers."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lswag_jax import tasks
from lswag_jax.options import Checked, NumberOrZero, Share, typed_methods
from lswag_jax.spaces import depth
from lswag_jax.spaces.genotype import BaseGenotype, mix
from lswag_jax.spaces.plan import (
    Path,
    Plan,
    active_sizes,
    cut,
    flat_variables,
    tensorwatch_flops,
)
from lswag_jax.tasks import Task

Genotype = TypeVar("Genotype", bound=BaseGenotype)


@dataclasses.dataclass(frozen=True)
class Block:
    """One link of a network that is scored as a chain (`lswag_jax.capture.chain`).

    Attributes:
        name: of the submodule in the whole network, whose variables it has; empty for all of it.
        module: takes the output of the block before; equal modules share a compiled program.
        is_scored: False for a head whose layers are left out of what is recorded.
    """

    name: str
    module: nn.Module
    is_scored: bool = True


class NetworkError(ValueError):
    """A genotype belongs to its space, but its network cannot be made or run."""


@typed_methods
class Space(Checked, abc.ABC, Generic[Genotype]):
    """A search space: its genotypes, their plans, and their networks.

    Subclasses are frozen dataclasses whose fields are checked by their types. A space writes down
    what a genotype is (`check`, `format`, `parse`, and how to sample and vary it), the layers of
    its network (`plan`), and the network (`build`). Counts, active sizes, depth bins and the cut
    of variables are read off the plan.

    Networks are scored in one of two ways. `network()` may be *elastic*: as large as every
    genotype, which it takes encoded as an input, so that one compiled program serves the space.
    Or `chain(g)` gives the blocks of the *exact* network, each compiled once, or the network as a
    single block. Either way a score is the exact network's own (elastic/exact equivalence):

        score(network(), active_variables(v, e), e) == score(build(g), extract(v, g))

    where e is the encoding of g. `docs/add_a_space.md` adds whole spaces, one by `SimpleSpace`,
    which writes down choices and a function alone.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.get("nasbench201", width=4, cells=1, image_size=8)
        >>> g = space.parse(space.format(space.sample(np.random.default_rng(0), 1)[0]))
        >>> variables = space.extract(space.init(jax.random.key(0)), g)
        >>> leaves = jax.tree.leaves(variables["params"])
        >>> sum(leaf.size for leaf in leaves) == space.num_params(g) == space.plan(g).params
        True
        >>> space.build(g).apply(variables, jnp.zeros((2, *space.image_shape))).shape
        (2, 10)
    """

    name: str
    image_size: int
    channels: int
    num_classes: int
    genotype_class: ClassVar[type]
    __dataclass_fields__: ClassVar[dict[str, Any]]  # of every subclass
    count_rules: ClassVar[tuple[str, ...]] = ("exact",)  # of `macs`

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("lswag_jax."):  # types of others are theirs to keep
            typed_methods(cls)

    @property
    def task(self) -> Task:
        """What the networks are to predict."""
        return tasks.classification(self.num_classes)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input, as a rule height, width and channels of an image."""
        return self.image_size, self.image_size, self.channels

    def describe(self) -> dict[str, Any]:
        """Tells what the space is in plain values, for files and to compare runs by."""
        return dataclasses.asdict(self)

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: Genotype) -> None:
        """Raises ValueError unless `g` belongs to the space."""
        if not isinstance(g, self.genotype_class):
            raise ValueError(
                f"{self.name} holds {self.genotype_class.__name__}, got a genotype of type "
                f"{type(g).__name__}."
            )

    @abc.abstractmethod
    def format(self, g: Genotype) -> str:
        """Writes `g` as text, for benchmark spaces the benchmark's own."""

    @abc.abstractmethod
    def parse(self, text: str) -> Genotype:
        """Reads what `format` writes; ValueError for another form."""

    def spellings(self, g: Genotype) -> Iterator[str]:
        """Yields the texts of all genotypes that are the same network as `g`, its own first."""
        yield self.format(g)

    def from_json(self, data: Mapping[str, Any]) -> Genotype:
        """Makes a checked genotype of this space from its JSON dictionary."""
        g = self.genotype_class.from_json(data)
        self.check(g)
        return g

    def sample(self, rng: np.random.Generator, n: NumberOrZero) -> list[Genotype]:
        """Draws `n` random genotypes, with replacement."""
        return [self.sample_one(rng) for _ in range(n)]

    @abc.abstractmethod
    def sample_one(self, rng: np.random.Generator) -> Genotype:
        """Draws one random genotype."""

    def mutate(
        self, rng: np.random.Generator, g: Genotype, m_prob: Share = 0.2, s_prob: Share = 0.4
    ) -> Genotype:
        """Makes a mutant of `g`; each space defines what the two probabilities apply to.

        By default, for genotypes of one field, each entry is drawn anew with probability `m_prob`.
        """
        del s_prob
        fresh = self.sample_one(rng).genes
        return self.genotype_class(mix(rng.random(len(g.genes)) < m_prob, fresh, g.genes))

    def crossover(self, rng: np.random.Generator, a: Genotype, b: Genotype) -> Genotype | None:
        """Makes a child with each gene of either parent; None where the parents do not fit."""
        if len(a.genes) != len(b.genes):
            return None
        return self.genotype_class(mix(rng.random(len(a.genes)) < 0.5, a.genes, b.genes))

    # The plan and what is read off it ---------------------------------------------------------

    @abc.abstractmethod
    def plan(self, g: Genotype) -> Plan:
        """Lists the layers of `g`; of elastic networks also the places that `g` leaves empty."""

    def num_params(self, g: Genotype) -> int:
        """Counts the trainable parameters of `g`."""
        return self.plan(g).params

    def macs(self, g: Genotype, rule: str = "exact") -> int:
        """Counts the multiply-accumulates of one input.

        Args:
            g: the genotype.
            rule: "exact" counts convolutions, linear layers and attention; another one of
                `count_rules` is what the space's benchmark publishes.

        Raises:
            ValueError: an unknown rule.
        """
        if rule not in self.count_rules:
            known = " or ".join(map(repr, self.count_rules))
            raise ValueError(f"rule must be {known}, got {rule!r}.")
        return self.exact_macs(g) if rule == "exact" else self.published_macs(g)

    def exact_macs(self, g: Genotype) -> int:
        """Counts the multiply-accumulates of `g` by the rule "exact"."""
        return self.plan(g).macs

    def published_macs(self, g: Genotype) -> int:
        """Counts the multiply-accumulates of `g` as its benchmark does."""
        return tensorwatch_flops(self.plan(g))

    def encode(self, genotypes: Sequence[Genotype]) -> dict[str, np.ndarray]:
        """Encodes genotypes as int32 arrays with a leading axis P, the input of the elastic module.

        Returns:
            What the space's network reads, and the active sizes that proxies read, in order of
            execution: `in_units` and `out_units` [P, L] of each weight layer, a sample (0 marks an
            absent layer), and `act_units` [P, A] of each activation layer.

        Raises:
            ValueError: a genotype is not of this space.
        """
        for g in genotypes:
            self.check(g)
        if not len(genotypes):
            raise ValueError("genotypes of encode must be at least one, got none.")
        rows = [self.codes(g) | self._active_sizes(g) for g in genotypes]
        return {key: np.stack([row[key] for row in rows]).astype(np.int32) for key in rows[0]}

    def codes(self, g: Genotype) -> dict[str, np.ndarray]:
        """Encodes what the elastic module reads of `g`; nothing by default."""
        del g
        return {}

    def _active_sizes(self, g: Genotype) -> dict[str, np.ndarray]:
        return active_sizes(self.plan(g).without(self.unscored))

    def layer_sets(self) -> np.ndarray:
        """Finds sets of present weight layers, bool [K, L], with each layer's extreme bins."""
        return _layer_sets(self)

    def depth_extremes(self) -> Iterable[Genotype]:
        """Lists genotypes among which each weight layer has its lowest and highest depth.

        Only elastic networks are asked for them.
        """
        raise NotImplementedError(f"{self.name} has no elastic network.")

    def bin_range(self, rule: depth.BinRule = "zero_based") -> np.ndarray:
        """Finds the lowest and highest depth bin [2, L] that each weight layer can have."""
        return depth.bin_range(self.layer_sets(), rule)

    # Networks ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def build(self, g: Genotype) -> nn.Module:
        """Builds the Flax module of exactly `g`'s size, to train or export."""

    @abc.abstractmethod
    def network(self) -> nn.Module:
        """Builds the module whose variables are `init`'s; elastic unless the space has chains."""

    @property
    def is_elastic(self) -> bool:
        """Whether `network` is elastic, so that one program scores every genotype."""
        return type(self).chain is Space.chain

    def narrowed(self, genotypes: Sequence[Genotype]) -> "Space[Genotype]":
        """The smallest space of the same layers that holds these genotypes; by default all of it.

        Its elastic network is a corner of this one's: each of its variables is the first entries,
        along every axis, of this one's, so that a genotype has the same scores and costs less.
        """
        del genotypes
        return self

    def corner(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Cuts this space's variables, the first entries of each, from those of a larger one."""
        own = flat_variables(jax.eval_shape(self.init, jax.random.key(0)))
        flat = flat_variables(dict(variables))
        return traverse_util.unflatten_dict(
            {path: flat[path][tuple(map(slice, leaf.shape))] for path, leaf in own.items()}
        )

    def largest(self) -> Genotype:
        """A genotype as large as the elastic network, where `narrowed` gives smaller ones."""
        raise NotImplementedError(f"{self.name} has no narrower networks.")

    def chain(self, g: Genotype) -> list[Block] | None:
        """Lists the blocks of `g` in order, where shapes differ too much for an elastic network.

        Such a network is scored block by block, one compiled program a kind of block, or where it
        is a single block by a program of its own; None where `network` is elastic.
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

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws initial variables of `network` (float32), here of one that takes images alone."""
        return dict(self.network().init(key, jnp.zeros((1, *self.image_shape))))

    def active_variables(
        self, variables: Mapping[str, Any], encoded: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Gives the elastic variables as one genotype has them, in the elastic module's shapes.

        Where the initial scale depends on sizes that the genotype chooses, here it is made that of
        the active ones; weights that the genotype does not have may become zero.
        """
        del encoded
        return variables

    def extract(self, variables: Mapping[str, Any], g: Genotype) -> dict[str, Any]:
        """Cuts the variables of `build(g)` from those of `network` by the plan."""
        encoded = {key: value[0] for key, value in self.encode([g]).items()}
        return cut(self.plan(g), self.active_variables(variables, encoded))


def sizes(space: Space, g: Any) -> dict[str, int | None]:
    """Parameters and multiply-accumulates of a network; None where it cannot be made."""
    try:
        return {"params": space.num_params(g), "macs": space.macs(g)}
    except NetworkError:
        return {"params": None, "macs": None}


def scale_params(
    variables: Mapping[str, Any], factor: Callable[[Path, jax.Array], Any]
) -> dict[str, Any]:
    """Multiplies each parameter by `factor(path, parameter)`; None leaves it as it is."""
    flat = flat_variables(dict(variables))
    for path, value in flat.items():
        scale = factor(path, value) if path[0] == "params" else None
        if scale is not None:
            scale = scale if isinstance(scale, jax.Array) else np.asarray(scale)
            flat[path] = value * scale.astype(value.dtype)  # on the host what is there
    return traverse_util.unflatten_dict(flat)


@functools.lru_cache(maxsize=16)
def _layer_sets(space: Space) -> np.ndarray:
    plans = (space.plan(g).without(space.unscored) for g in space.depth_extremes())
    return np.unique([[x.present for x in plan.weight_layers] for plan in plans], axis=0)
