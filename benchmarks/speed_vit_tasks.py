"""Networks a CPU hour of the six tasks: each by itself, or several elastic ones in one program.

    python benchmarks/run.py --save speed_vit_tasks

CPU seconds of compiling a training step and of running it, for the same genotypes of
`autoformer_mini` on images of noise; and what follows for a training of 620 steps. "in turn" is
`lax.map`, as `make_benchmark` does it on a CPU, "side by side" is `vmap`. Then a step of training a
super-network, by the program of the whole and by those of its corners (`training.supernet_step`).
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tables as result_tables
import vit_tasks

from lswag_jax import spaces
from lswag_jax.training import supernet, supernet_step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import make_optimizer, make_schedule
from lswag_jax.training.step import Problem, StepOptions, init_state, make_train_step

STEPS = 620


def cost(train: Callable, state: Any, *rest: Any, steps: int) -> tuple[float, float]:
    """CPU seconds of compiling and of a step."""
    start = time.process_time()
    compiled = train.lower(state, *rest).compile()
    compiling = time.process_time() - start
    jax.block_until_ready(compiled(state, *rest))
    start = time.process_time()
    for _ in range(steps):
        found = compiled(state, *rest)
    jax.block_until_ready(found)
    return compiling, (time.process_time() - start) / steps


def start(space: spaces.AutoFormer, module: Any) -> tuple[Any, Callable]:
    """The optimizer and the training step of a module."""
    problem = Problem(module, space.num_classes, (0.0,) * 3, (1.0,) * 3)
    optimizer = make_optimizer(
        vit_tasks.OPTIMIZER, make_schedule(vit_tasks.OPTIMIZER, STEPS, STEPS)
    )
    return optimizer, make_train_step(problem, optimizer, AugmentOptions(), StepOptions())


def one_by_one(space, genotypes: list, batch: dict, steps: int) -> tuple[float, float]:
    """CPU seconds of compiling a program, and of a step of a network."""
    found = []
    for g in genotypes:
        optimizer, step = start(space, space.build(g))
        variables, key = vit_tasks.elastic(space, 0)
        state = init_state(space.extract(variables, g), optimizer, StepOptions())
        found.append(cost(jax.jit(step), state, batch, key, steps=steps))
    compiling, running = np.mean(found, axis=0)
    return compiling, running


def together(space, genotypes: list, batch: dict, steps: int, each: Callable) -> tuple:
    """The same of elastic networks in one program; `each` maps a function over them."""
    optimizer, step = start(space, space.network())
    variables, key = vit_tasks.elastic(space, 0)
    encoded = {k: jax.numpy.asarray(v) for k, v in space.encode(genotypes).items()}

    def one(state, encoded):
        parts = {k: v[None] for k, v in encoded.items()}
        return step(state, {**batch, "encoded": parts}, key)

    def first(encoded):
        return init_state(space.active_variables(variables, encoded), optimizer, StepOptions())

    states = jax.jit(each(first))(encoded)
    compiling, running = cost(jax.jit(each(one)), states, encoded, steps=steps)
    return compiling, running / len(genotypes)


def super_network(space, genotypes: list, batch: dict) -> list[dict]:
    """CPU seconds of compiling and of a step with each genotype, the second time it is met."""
    problem = Problem(space.network(), space.num_classes, (0.0,) * 3, (1.0,) * 3)
    optimizer, _ = start(space, space.network())
    variables, key = vit_tasks.elastic(space, 0)
    macs = np.array([space.macs(g) for g in genotypes])
    rows = []
    for name, steps in (("the whole", 1), ("corners", 10**6)):
        step = supernet_step.train_step(
            space, problem, optimizer, AugmentOptions(), StepOptions(), steps
        )
        state = init_state(jax.tree.map(jax.numpy.array, variables), optimizer, StepOptions())
        seconds = []
        for g in [*genotypes, *genotypes]:
            begin = time.process_time()
            state, _ = step(state, {**batch, "encoded": supernet.encode(space, [g])}, key)
            jax.block_until_ready(state)
            seconds.append(time.process_time() - begin)
        once, again = np.split(np.array(seconds), 2)
        rows.append(
            {
                "program of": name,
                "compiling, s in all": sum(once) - sum(again),
                "step, ms: mean": 1e3 * again.mean(),
                "of the largest": 1e3 * again[0],
                "mean over largest": again.mean() / again[0],
                "the same of MACs": macs.mean() / macs.max(),
            }
        )
    return rows


def in_turn(function: Callable) -> Callable:
    """A function mapped over networks one after the other."""
    return lambda *trees: jax.lax.map(lambda own: function(*own), trees)


def largest(space: spaces.AutoFormer) -> Any:
    """The genotype of the most multiply-accumulates."""
    depth = max(space.depths)
    heads, ratios = (max(space.head_counts),) * depth, (max(space.mlp_ratios),) * depth
    return spaces.AutoFormerGenotype(max(space.embed_dims), heads, ratios)


def main() -> None:
    """Measures and shows a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=4, help="genotypes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--drawn", type=int, default=100, help="genotypes of the super-network")
    arguments = parser.parse_args()
    space = spaces.get("autoformer_mini")
    genotypes = space.sample(np.random.default_rng(0), arguments.num)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 255, (64, *space.image_shape)).astype(np.float32)
    batch = {"image": images, "label": rng.integers(0, 10, 64).astype(np.int32)}
    common = (space, genotypes, batch, arguments.steps)
    rows = []
    for name, measure in (
        ("each its own network", lambda: one_by_one(*common)),
        (f"{arguments.num} elastic ones in turn", lambda: together(*common, in_turn)),
        (f"{arguments.num} elastic ones side by side", lambda: together(*common, jax.vmap)),
    ):
        compiling, running = measure()
        seconds = STEPS * running
        rows.append(
            {
                "trained": name,
                "compiling, s a program": compiling,
                "step, ms a network": 1e3 * running,
                "training, s": seconds,
                "networks a CPU hour": 3600 / seconds,
            }
        )
        print(rows[-1], flush=True)
    result_tables.show("networks a CPU hour", rows, 1, arguments.num)
    drawn = [largest(space), *space.sample(np.random.default_rng(1), arguments.drawn)]
    rows = super_network(space, drawn, batch)
    result_tables.show("a step of a super-network", rows, 2, len(drawn))


if __name__ == "__main__":
    main()
