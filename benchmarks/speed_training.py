"""Training networks together against training them one by one, in seconds a network and step.

    python benchmarks/run.py speed_training --together=1,4,16 --separate=4

Together: k genotypes in one elastic program, as `make_benchmark` trains them, and vmapped, which
on a CPU it does not do. Separate: exact networks, each compiled for itself; the mean over
`--separate` of them stands for any number. Compilation is told apart. Last, images/s of a whole
training by `lswag-train`'s loop, its input pipeline included.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from unittest import mock

import jax
import numpy as np
import tables
from train_vits import SPACE

from lswag_jax.data import sources
from lswag_jax.runs.archive import read_rows
from lswag_jax.training import benchmark, inherit, runner, step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import OptimizerOptions, make_optimizer, make_schedule

STEP, WHOLE = "s a network and step", "s with it, 1000 steps"
POOL = sources.open_pool("embedded")


def timed(compiled, state, *rest, steps: int) -> float:
    """Seconds a step, after a first one."""
    state, metrics = compiled(state, *rest)
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for _ in range(steps):
        state, metrics = compiled(state, *rest)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / steps


def compile_and_time(train, *arguments, steps: int) -> tuple[float, float]:
    """Seconds of compilation and of a step."""
    start = time.perf_counter()
    compiled = train.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return seconds, timed(compiled, *arguments, steps=steps)


def together(k: int, options: runner.TrainOptions, batch: dict, steps: int) -> tuple[float, float]:
    """Compilation and seconds a network and step of k genotypes at once."""
    problem = runner.make_problem(SPACE, None, POOL, options, "dataset")
    programs, key = benchmark.make_programs(SPACE, problem, options, 100)
    encoded = SPACE.encode(SPACE.sample(np.random.default_rng(0), k))
    arguments = (programs.start(encoded), encoded, batch, key)
    compilation, seconds = compile_and_time(programs.train, *arguments, steps=steps)
    return compilation, seconds / k


def images_per_second(options: runner.TrainOptions) -> float:
    """Of a training of the largest network, the median over the epochs."""
    g = max(SPACE.sample(np.random.default_rng(0), 100), key=SPACE.macs)
    options = dataclasses.replace(options, epochs=10, log_every=0, checkpoint_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        runner.train(SPACE, g, POOL, POOL, options, folder)
        rows, _ = read_rows(f"{folder}/{runner.METRICS}")
    rates = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return float(np.median(rates))


def separate(num: int, options: runner.TrainOptions, batch: dict, steps: int) -> tuple:
    """Mean compilation and seconds a step of exact networks."""
    optimizer = make_optimizer(options.optimizer, make_schedule(options.optimizer, 100, 100))
    found = []
    for g in SPACE.sample(np.random.default_rng(0), num):
        problem = runner.make_problem(SPACE, g, POOL, options, "dataset")
        state = step.init_state(
            inherit.initial(SPACE, g, jax.random.key(0)), optimizer, options.step
        )
        train = step.make_train_step(problem, optimizer, options.augment, options.step)
        train = jax.jit(train, donate_argnums=0)
        found.append(compile_and_time(train, state, batch, jax.random.key(0), steps=steps))
    return tuple(np.mean(found, axis=0))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--together", default="1,4,16")
    parser.add_argument("--separate", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    arguments = parser.parse_args()
    print(json.dumps(vars(arguments)), jax.devices())
    size = arguments.batch_size
    options = runner.TrainOptions(
        epochs=1, batch_size=size, optimizer=OptimizerOptions(), augment=AugmentOptions(flip=True)
    )
    batch = {
        "image": np.stack([POOL.image(i) for i in range(size)]),
        "label": np.array([POOL.label(i) for i in range(size)], np.int32),
    }
    rows = []
    for how, over in (("together", step.for_each_network), ("vmapped", jax.vmap)):
        for k in map(int, arguments.together.split(",")):
            with mock.patch.object(benchmark, "for_each_network", over):
                compilation, seconds = together(k, options, batch, arguments.steps)
            whole = seconds + compilation / k / 1000
            rows.append(_row(f"{k} {how}", seconds, compilation, whole))
    compilation, seconds = separate(arguments.separate, options, batch, arguments.steps)
    whole = seconds + compilation / 1000
    rows.append(_row("each by itself", seconds, compilation, whole))
    tables.show("seconds", rows, {"compilation, s": 1, STEP: 4, WHOLE: 4})
    tables.show_figures("lswag-train", {"images/s": images_per_second(options)}, digits=0)


def _row(networks: str, seconds: float, compilation: float, whole: float) -> dict:
    return {"networks": networks, STEP: seconds, "compilation, s": compilation, WHOLE: whole}


if __name__ == "__main__":
    main()
