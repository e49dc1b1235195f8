"""A super-network whose sub-networks share weights, and what they reach with them.

Source: AutoFormer (Chen et al., ICCV 2021), weight entanglement: each step draws a genotype and
trains the weights that it has, which are the first channels, heads, units and blocks of the whole.

A sub-network evaluated in the elastic network is `build(g)` with the weights that `extract` cuts
out, so that one compiled program evaluates any population.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from lswag_jax.data import Pool
from lswag_jax.proxies import Proxy
from lswag_jax.scoring.rows import Row
from lswag_jax.spaces import AutoFormer, Space
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.input_pipeline import Batch, Pipeline
from lswag_jax.training.loop import Devices, Evaluate
from lswag_jax.training.model_files import Model
from lswag_jax.training.step import Problem, TrainState, for_each_network, make_eval_step, summed

VALIDATED = 8  # genotypes whose mean accuracy is the validation metric
_SIZES = ("embed_dim", "num_heads", "hidden")  # what the network reads of an encoding


def check(space: Space) -> None:
    """Raise ValueError unless the networks of a space can share their weights.

    Running statistics of BatchNorm would be those of no sub-network.
    """
    if not isinstance(space, AutoFormer):
        raise ValueError(
            f"super-networks are trained of AutoFormer's spaces, not of {space.name}, whose "
            "weights or BatchNorm statistics cannot be shared."
        )


def encode(space: Space, genotypes: Sequence[Any]) -> dict[str, np.ndarray]:
    """What the elastic network reads of genotypes, with a leading axis."""
    encoded = space.encode(genotypes)
    return {key: encoded[key] for key in _SIZES}


def with_genotypes(
    batches: Callable[[int], Iterator[Batch]], space: Space, num: int, seed: int
) -> Callable[[int], Iterator[Batch]]:
    """Batches with `num` random genotypes each, which depend on the seed and the step only.

    Args:
        batches: of the number of the first step.
        space: of the genotypes.
        num: parts of a batch (`StepOptions.accumulate`).
        seed: of the draw.
    """

    def drawn(start: int) -> Iterator[Batch]:
        for step, batch in enumerate(batches(start), start):
            genotypes = space.sample(np.random.default_rng((seed, step)), num)
            yield batch | {"encoded": encode(space, genotypes)}

    return drawn


def make_evaluate(
    eval_step: Callable,
    batches: Callable[[], Iterator[Batch]],
    space: Space,
    seed: int,
    devices: Devices,
) -> Evaluate:
    """Validation of a super-network: mean over a few genotypes, always the same ones."""
    encoded = encode(space, space.sample(np.random.default_rng(seed), VALIDATED))
    several = _for_several(eval_step)

    def evaluate(state: TrainState) -> dict[str, float]:
        totals = _totals(several, state.variables, map(devices.divide, batches()), encoded)
        return {key: float(value.mean()) for key, value in totals.items()}

    return evaluate


def _for_several(eval_step: Callable) -> Callable:
    """An evaluation step of several genotypes: (variables, batch, encoded) -> sums [P]."""

    def several(variables, batch, encoded):
        def one(encoded):
            return eval_step(variables, {**batch, "encoded": encoded})

        return for_each_network(one)(encoded)

    return jax.jit(several)


def _totals(
    several: Callable, variables: Any, batches: Iterable[Mapping], encoded: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Means [P] of what an evaluation sums over all batches."""
    totals = summed(several(variables, batch, encoded) for batch in batches)
    count = totals.pop("count")
    return {key: np.asarray(value / count) for key, value in totals.items()}


class Accuracies:
    """What sub-networks reach with inherited weights, by one compiled program.

    Called with genotypes it yields for each `loss`, `top1` and, of more than five classes, `top5`.

    Args:
        model: a super-network.
        pool: of images that it was not trained on; they are kept in memory, as bytes.
        batch_size: images at once.
        chunk: genotypes at once; None for 1 on a CPU and 8 elsewhere.

    Raises:
        ValueError: `model` is no super-network.
    """

    def __init__(
        self, model: Model, pool: Pool, batch_size: int = 256, chunk: int | None = None
    ) -> None:
        if model.genotype is not None:
            raise ValueError("only a super-network has sub-networks to evaluate.")
        self.model, space = model, model.space
        self.chunk = chunk or (1 if jax.default_backend() == "cpu" else 8)
        problem = Problem(model.module, space.num_classes, model.mean, model.std)
        self._several = _for_several(make_eval_step(problem))
        augment, size = AugmentOptions(crop=model.crop), (space.image_size, space.channels)
        batches = Pipeline(pool, *size, min(batch_size, pool.size), augment).validation()
        self._batches = list(batches)

    def __call__(self, genotypes: Sequence[Any]) -> Iterator[dict[str, float]]:
        """Metrics of each genotype, as they come; ValueError for one of another space."""
        for start in range(0, len(genotypes), self.chunk):
            members = list(genotypes[start : start + self.chunk])
            padded = members + members[-1:] * (self.chunk - len(members))
            encoded = encode(self.model.space, padded)
            totals = _totals(self._several, self.model.variables, self._batches, encoded)
            for i in range(len(members)):
                yield {key: float(value[i]) for key, value in totals.items()}

    def complete(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Adds `InheritedAccuracy` to rows of genotypes; the `complete` of `search.run`."""
        rows = iter(rows)
        while members := list(itertools.islice(rows, self.chunk)):
            genotypes = [self.model.space.from_json(row["genotype"]) for row in members]
            for row, found in zip(members, self(genotypes), strict=True):
                parts = row.get("parts", {}) | {InheritedAccuracy.name: {"score": [found["top1"]]}}
                whole: Any = {**row, "parts": parts}
                yield whole


@dataclasses.dataclass(frozen=True)
class InheritedAccuracy(Proxy):
    """Top-1 on held-out images with inherited weights: AutoFormer's own fitness.

    Named in a search's proxies, and measured by `Accuracies.complete`.
    """

    name: ClassVar[str] = "inherited_accuracy"
    paper: ClassVar[str] = "AutoFormer, ICCV 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    is_zero_cost: ClassVar[bool] = False
    weakness: ClassVar[str] = "needs a trained super-network"
