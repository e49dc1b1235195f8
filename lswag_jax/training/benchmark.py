"""A benchmark of trained networks: many genotypes trained from scratch, several at once.

Networks of an elastic space have one shape, so that `at_once` of them train in one program, side by
side over weights and genotypes (`step.for_each_network`). What a genotype lacks is zero forward and
back: each network trains as its own `build(g)` would, on the same batches in the same order.
"""

import csv
import dataclasses
import functools
import io
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.data import Pool
from lswag_jax.files import write_atomically
from lswag_jax.options import Count, Seed, typed
from lswag_jax.runs import Archive
from lswag_jax.spaces import Space, initial
from lswag_jax.training.input_pipeline import Pipeline
from lswag_jax.training.optimizer import make_optimizer, make_schedule
from lswag_jax.training.runner import TrainOptions, check_data, make_problem
from lswag_jax.training.step import (
    Problem,
    for_each_network,
    init_state,
    make_eval_step,
    make_train_step,
)

ROWS, TABLE = "rows.jsonl", "table.csv"
Pools = tuple[Pool, Pool]


@typed
def make_benchmark(
    space: Space,
    genotypes: Sequence[Any],
    data_sets: Mapping[str, Pools],
    options: TrainOptions,
    workdir: str | os.PathLike,
    *,
    seeds: Sequence[Seed] = (0,),
    at_once: Count = 4,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> list[dict[str, Any]]:
    """Trains every genotype on every data set with every seed.

    Killed and called again it goes on: networks that are finished are not trained again.

    Args:
        space: with an elastic network.
        genotypes: to train, none twice.
        data_sets: training and validation pools by name.
        options: of each training; its `seed` is replaced, `init` and `accumulate` must be unset.
        workdir: receives `config.json`, `rows.jsonl` (a row per network, when finished) and at the
            end `table.csv`, the ground truth in the long format of correlation studies:
            genotype, dataset, metric, value, provenance.
        seeds: of the initial weights and of the order of the images.
        at_once: networks trained together, which bounds the memory.
        progress: called with the networks done and what to say beside it.

    Returns:
        The rows: `genotype`, `dataset`, `seed`, `params`, `macs`, `seconds`, and by `epochs`
        `accuracy` and `loss` (validation) and `train_loss`. A network that diverged has NaN there.

    Raises:
        ValueError: bad arguments, or a workdir of another benchmark.
    """
    _check(space, genotypes, options, data_sets)
    config = _describe(space, list(map(space.format, genotypes)), data_sets, options, seeds)
    with Archive(workdir, config, name=ROWS) as archive:
        done = {row["id"] for row in archive}
        for name, pools in data_sets.items():
            train = Together(space, pools, options, at_once)
            for seed in seeds:
                missing = [g for g in genotypes if _id(space, g, name, seed) not in done]
                for g, found in train(missing, seed):
                    about = {"id": _id(space, g, name, seed), "genotype": space.format(g)}
                    about |= {"dataset": name, "seed": seed}
                    sizes = {"params": space.num_params(g), "macs": space.macs(g)}
                    archive.append(about | sizes | found)
                    progress(len(archive), f"{name} {found['accuracy'][-1]:.4f}")
        rows = list(archive)
    write_table(rows, pathlib.Path(workdir) / TABLE, f"lswag_jax, {options.epochs} epochs")
    return rows


def _id(space: Space, genotype: Any, name: str, seed: int) -> str:
    return f"{space.format(genotype)} on {name}, seed {seed}"


def _check(space, genotypes, options: TrainOptions, data_sets) -> None:
    """Raise ValueError for arguments that cannot be."""
    if options.init or options.step.accumulate > 1:
        raise ValueError(
            "a benchmark trains from scratch and whole batches: unset init, accumulate."
        )
    if not genotypes or len(set(genotypes)) < len(genotypes):
        raise ValueError(f"genotypes must be distinct and at least one, got {len(genotypes)}.")
    if space.chain(genotypes[0]) is not None:
        raise ValueError(f"{space.name} has no elastic network, in which networks train together.")
    for pools in data_sets.values():
        check_data(space, *pools)


def _describe(space, texts, data_sets, options: TrainOptions, seeds) -> dict[str, Any]:
    """Describes the benchmark for its files."""
    about = {
        name: [{"where": pool.where, "size": pool.size} for pool in pools]
        for name, pools in data_sets.items()
    }
    free = {"seed", "workers", "log_every", "eval_every", "checkpoint_every"}
    values = {k: v for k, v in dataclasses.asdict(options).items() if k not in free}
    return {
        "space": space.describe(),
        "genotypes": texts,
        "data_sets": about,
        "options": values,
        "seeds": list(seeds),
    }


class Together:
    """Trains genotypes of a space on one data set, several at once, by programs compiled once.

    Called with genotypes and a seed it yields each genotype, and its `accuracy`, `loss` and
    `train_loss` after each of `epochs`, with its share of `seconds` without compilation.

    Args:
        space: with an elastic network; initial weights of all are cut from common ones.
        pools: training and validation.
        options: see `TrainOptions`; the seed is that of the call, and the last epoch is one of
            those that are validated.
        at_once: networks of a group; the last group is filled up to it.
    """

    def __init__(self, space: Space, pools: Pools, options: TrainOptions, at_once: int) -> None:
        self.space, self._pools, self._options, self._at_once = space, pools, options, at_once
        self._epoch = self._pipeline(pools[0], 0).steps_per_epoch
        problem = make_problem(space, None, pools[0], options, "dataset")
        self._programs = make_programs(space, problem, options, self._epoch)

    def _pipeline(self, pool: Pool, seed: int) -> Pipeline:
        size, options = (self.space.image_size, self.space.channels), self._options
        return Pipeline(pool, *size, options.batch_size, options.augment, seed, options.workers)

    def __call__(self, genotypes: Sequence[Any], seed: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Trains the genotypes, group by group."""
        init_key, key = jax.random.split(jax.random.key(seed))
        elastic = self._programs.init(init_key) if genotypes else None
        for first in range(0, len(genotypes), self._at_once):
            members = list(genotypes[first : first + self._at_once])
            filled = members + members[-1:] * (self._at_once - len(members))
            encoded = {k: jnp.asarray(v) for k, v in self.space.encode(filled).items()}
            curves, seconds = self._train(elastic, encoded, key, seed)
            about = {"epochs": list(curves), "seconds": seconds / len(members)}
            for i, g in enumerate(members):
                found = [{k: float(v[i]) for k, v in each.items()} for each in curves.values()]
                yield g, {k: [each[k] for each in found] for k in found[0]} | about

    def _train(self, elastic, encoded, key: jax.Array, seed: int) -> tuple[dict, float]:
        """Metrics [k] of a group by the number of the epoch, and seconds."""
        training, held = (self._pipeline(pool, seed) for pool in self._pools)
        programs, options, curves = self._programs, self._options, {}
        state, clock = programs.start(elastic, encoded), _Clock()
        batches = training.training()
        for epoch in range(1, options.epochs + 1):
            losses = []
            for _ in range(self._epoch):
                state, metrics = programs.train(state, encoded, next(batches), key)
                losses.append(metrics["loss"])
                clock.after_first(metrics)
            if (options.epochs - epoch) % options.eval_every == 0:
                validated = held.validation()
                curves[epoch] = _epoch(programs, state.variables, encoded, validated, losses)
        return curves, clock.seconds()


class Programs(NamedTuple):
    """Compiled functions of several networks, whose trees have a leading axis of them.

    Attributes:
        init: key -> variables of the elastic network.
        start: (these, encoding) -> initial states.
        train: (states, encoding, batch, key) -> (states, metrics).
        validate: (variables, encoding, batch) -> sums.
    """

    init: Callable
    start: Callable
    train: Callable
    validate: Callable


def make_programs(
    space: Space, problem: Problem, options: TrainOptions, steps_per_epoch: int
) -> Programs:
    """The programs that train networks of a space together.

    Args:
        space: with an elastic network, which `problem` holds.
        problem: see `runner.make_problem`.
        options: see `TrainOptions`.
        steps_per_epoch: of the training images.
    """
    total = options.epochs * steps_per_epoch
    schedule = make_schedule(options.optimizer, total, steps_per_epoch)
    optimizer = make_optimizer(options.optimizer, schedule)

    def start(elastic, encoded):
        def one(encoded):
            return init_state(space.active_variables(elastic, encoded), optimizer, options.step)

        return for_each_network(one)(encoded)

    train = _with_genotype(make_train_step(problem, optimizer, options.augment, options.step), 1)
    validate = _with_genotype(make_eval_step(problem))
    return Programs(
        init=initial.jitted(space.init),
        start=jax.jit(start),
        train=jax.jit(_on_one_batch(train), donate_argnums=0),
        validate=jax.jit(_on_one_batch(validate)),
    )


def _with_genotype(step: Callable, leading: int = 0) -> Callable:
    """A step of (state or variables, encoding, batch, ...)."""

    @functools.wraps(step)
    def run(state, encoded, batch, *rest):
        encoded = {k: v[None] for k, v in encoded.items()} if leading else encoded
        return step(state, {**batch, "encoded": encoded}, *rest)

    return run


def _on_one_batch(step: Callable) -> Callable:
    """A step of several networks: (states or variables, encoding, and what all of them share)."""

    def run(states, encoded, *shared):
        return for_each_network(lambda *own: step(*own, *shared))(states, encoded)

    return run


class _Clock:
    """Seconds since the end of the first step, which compiles."""

    def __init__(self) -> None:
        self._start: float | None = None

    def after_first(self, values: Any) -> None:
        if self._start is None:
            jax.block_until_ready(values)
            self._start = time.perf_counter()

    def seconds(self) -> float:
        return 0.0 if self._start is None else time.perf_counter() - self._start


def _epoch(programs, variables, encoded, batches, losses) -> dict[str, np.ndarray]:
    """Validation and mean training loss [k] after an epoch; NaN where a network diverged."""
    sums = jax.device_get([programs.validate(variables, encoded, batch) for batch in batches])
    totals = {key: sum(np.asarray(s[key], np.float64) for s in sums) for key in sums[0]}
    train_loss = np.mean(jax.device_get(losses), axis=0)
    count = np.where(np.isfinite(train_loss), totals["count"], math.nan)
    found = {"accuracy": totals["top1"] / count, "loss": totals["loss"] / count}
    return found | {"train_loss": train_loss}


def write_table(
    rows: Sequence[Mapping[str, Any]], path: str | os.PathLike, provenance: str
) -> None:
    """Writes the ground truth in long format, CSV.

    Metrics are `accuracy`, the mean over the seeds after the last epoch; `accuracy_seedS`;
    `accuracy_epochE`, the mean after epoch E; `params` and `macs`. A network that diverged has an
    empty value.

    Args:
        rows: of `make_benchmark`.
        path: of the file, which is replaced.
        provenance: where the values come from.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        epochs = row.get("epochs", range(1, len(row["accuracy"]) + 1))  # 0.1's rows have none
        values = {f"accuracy_epoch{i}": a for i, a in zip(epochs, row["accuracy"], strict=True)}
        values |= {
            "accuracy": row["accuracy"][-1],
            f"accuracy_seed{row['seed']}": row["accuracy"][-1],
        }
        values |= {"params": row["params"], "macs": row["macs"]}
        for metric, value in values.items():
            found.setdefault((row["genotype"], row["dataset"], metric), []).append(float(value))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("genotype", "dataset", "metric", "value", "provenance"))
    for (*key, metric), values in found.items():
        mean = sum(values) / len(values)
        writer.writerow((*key, metric, repr(mean) if math.isfinite(mean) else "", provenance))
    write_atomically(path, text.getvalue())
