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
from lswag_jax.spaces import Space
from lswag_jax.training.input_pipeline import Pipeline
from lswag_jax.training.optimizer import make_optimizer, make_schedule
from lswag_jax.training.runner import TrainOptions, check_data, make_problem
from lswag_jax.training.step import (
    Problem,
    for_each_network,
    init_state,
    make_eval_step,
    make_train_step,
    summed,
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

    Killed and called again it resumes: networks that are finished are not trained again.

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
        The rows: `genotype`, `dataset`, `seed`, `params`, `macs`, and by epoch `accuracy` and
        `loss` (validation) and `train_loss`. A network that diverged has NaN there.

    Raises:
        ValueError: bad arguments, or a workdir of another benchmark.
    """
    _check(space, genotypes, options, data_sets)
    config = _describe(space, list(map(space.format, genotypes)), data_sets, options, seeds)
    with Archive(workdir, config, name=ROWS) as archive:
        done = {row["id"] for row in archive}
        for name, pools in data_sets.items():
            for seed in seeds:
                missing = [g for g in genotypes if _id(space, g, name, seed) not in done]
                settings = dataclasses.replace(options, seed=seed)
                for g, found in train_together(space, missing, pools, settings, at_once):
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
    if not space.is_elastic:
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


def train_together(
    space: Space, genotypes: Sequence[Any], pools: Pools, options: TrainOptions, at_once: int
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Trains genotypes in groups of `at_once`, all by two compiled programs.

    Args:
        space, genotypes: the networks; their initial weights are cut from common ones.
        pools: training and validation.
        options: see `TrainOptions`.
        at_once: the last group is filled up to it.

    Yields:
        Each genotype, and its `accuracy`, `loss` and `train_loss` by epoch, and its share of
        `seconds` without compilation.
    """
    if not genotypes:
        return
    training, validation = pools
    size = (space.image_size, space.channels, options.batch_size, options.augment, options.seed)
    pipeline, held = Pipeline(training, *size, options.workers), Pipeline(validation, *size)
    problem = make_problem(space, None, training, options, "dataset")
    epoch = pipeline.steps_per_epoch
    programs, key = make_programs(space, problem, options, epoch)
    for first in range(0, len(genotypes), at_once):
        members = list(genotypes[first : first + at_once])
        filled = members + members[-1:] * (at_once - len(members))
        encoded = {k: jnp.asarray(v) for k, v in space.encode(filled).items()}
        state, curves, clock = programs.start(encoded), [], _Clock()
        batches = pipeline.training()
        for _ in range(options.epochs):
            losses = []
            for _ in range(epoch):
                state, metrics = programs.train(state, encoded, next(batches), key)
                losses.append(metrics["loss"])
                clock.after_first(metrics)
            validated = held.validation()
            curves.append(_epoch(programs, state.variables, encoded, validated, losses))
        seconds = clock.seconds() / len(members)
        for i, g in enumerate(members):
            curve = {k: [float(c[k][i]) for c in curves] for k in curves[0]}
            yield g, curve | {"seconds": seconds}


class Programs(NamedTuple):
    """Compiled functions of several networks, whose trees have a leading axis of them.

    Attributes:
        start: encoding -> initial states.
        train: (states, encoding, batch, key) -> (states, metrics).
        validate: (variables, encoding, batch) -> sums.
    """

    start: Callable
    train: Callable
    validate: Callable


def make_programs(
    space: Space, problem: Problem, options: TrainOptions, steps_per_epoch: int
) -> tuple[Programs, jax.Array]:
    """The programs that train networks of a space together, and the key of their random numbers.

    Args:
        space: with an elastic network, which `problem` holds.
        problem: see `runner.make_problem`.
        options: see `TrainOptions`.
        steps_per_epoch: of the training images.
    """
    total = options.epochs * steps_per_epoch
    schedule = make_schedule(options.optimizer, total, steps_per_epoch)
    optimizer = make_optimizer(options.optimizer, schedule)
    init_key, key = jax.random.split(jax.random.key(options.seed))
    elastic = jax.jit(space.init)(init_key)

    def start(encoded):
        return init_state(space.active_variables(elastic, encoded), optimizer, options.step)

    train = _with_genotype(make_train_step(problem, optimizer, options.augment, options.step), 1)
    validate = _with_genotype(make_eval_step(problem))
    programs = Programs(
        start=jax.jit(for_each_network(start)),
        train=jax.jit(_on_one_batch(train), donate_argnums=0),
        validate=jax.jit(_on_one_batch(validate)),
    )
    return programs, key


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
    totals = summed(programs.validate(variables, encoded, batch) for batch in batches)
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
        values = {f"accuracy_epoch{i}": a for i, a in enumerate(row["accuracy"], 1)}
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
