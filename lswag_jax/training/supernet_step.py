"""A step of training a super-network that costs what its genotypes are wide and deep."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from lswag_jax.spaces import AutoFormer
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.step import Problem, StepOptions, make_train_step

# Steps for each width and depth, from which compiling a program of its own pays: that took 5 s of
# CPU for `autoformer_mini`, and saved 9 ms a step (benchmarks/speed_vit_tasks.py).
STEPS_A_PROGRAM = 1_000


def train_step(
    space: AutoFormer,
    problem: Problem,
    optimizer: optax.GradientTransformation,
    augment: AugmentOptions,
    options: StepOptions,
    steps: int,
) -> Callable:
    """`step.make_train_step` of a super-network, jitted: (state, batch, key) -> (state, metrics).

    The weights that a genotype of width d and n blocks trains are the first d channels and the
    first n blocks of the whole. A step runs the elastic network of the smallest such corner that
    holds the genotypes of its batch; each corner's program is compiled when a step first needs it.
    All steps equal those of the whole network up to rounding. A short training, for which so many
    programs would not pay, has the program of the whole alone.

    Args:
        space: of the genotypes, which the batch holds as host arrays (`encoded`).
        problem: of `space.network()`.
        optimizer, augment, options: as for `make_train_step`.
        steps: of the whole training.
    """

    def jitted(problem: Problem) -> Callable:
        return jax.jit(make_train_step(problem, optimizer, augment, options), donate_argnums=0)

    @functools.cache
    def program(dim: int, depth: int) -> Callable:
        return jitted(_Corner.of(space, problem, dim, depth))

    def step(state, batch, key):
        return program(*_size(batch["encoded"]))(state, batch, key)

    pays = steps >= STEPS_A_PROGRAM * len(space.embed_dims) * len(space.depths)
    return step if pays else jitted(problem)


def _size(encoded: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Width and depth that hold all genotypes of a batch."""
    depths = (encoded["num_heads"] > 0).sum(axis=-1)
    return int(encoded["embed_dim"].max()), int(depths.max())


@dataclasses.dataclass(frozen=True)
class _Corner(Problem):
    """A super-network's problem, computed by its first channels and blocks.

    Attributes:
        space: of the genotypes that fit.
    """

    space: AutoFormer = None  # type: ignore[assignment]

    @classmethod
    def of(cls, space: AutoFormer, whole: Problem, dim: int, depth: int) -> "_Corner":
        """The corner of a width and depth of the space."""
        smaller = dataclasses.replace(
            space,
            embed_dims=[d for d in space.embed_dims if d <= dim],
            depths=[n for n in space.depths if n <= depth],
        )
        # A block's rate of stochastic depth is that of its place in the deepest network.
        share = (depth - 1) / max(max(space.depths) - 1, 1)
        drop_path = whole.module.drop_path * share  # type: ignore[attr-defined]
        module = smaller.network().clone(drop_path=drop_path)
        rest = (space.num_classes, whole.mean, whole.std, whole.loss)
        return cls(module, *rest, space=smaller)

    def apply(
        self, variables: Mapping[str, Any], images: Any, encoded: Any, train: bool, **options: Any
    ) -> Any:
        """As `Problem.apply` of the whole network's variables and genotype."""
        depth = max(self.space.depths)
        blocks = {key: encoded[key][:depth] for key in ("num_heads", "hidden")}
        corner = self.space.corner(variables)
        return super().apply(corner, images, {**encoded, **blocks}, train, **options)
