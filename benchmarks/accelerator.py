"""What a TPU or GPU makes of scoring: rates by batch_size, precisions, memory, a minute's worth.

    python benchmarks/run.py --save accelerator       # about eight minutes, compiling included
    python benchmarks/run.py accelerator --runlocal   # the mechanism alone, small, on any machine

L-SWAG of AutoFormer-S (224 px) and NAS-Bench-201 (16 channels, 5 cells), 64 random images each.
Under `batch_size` k networks run as one batch, in which an elastic network runs all its choices:
the script finds the best k, 1 (one by one) among them. Every figure goes to `--rows` as it comes,
and a run that is stopped shows what it has.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.stats
import speed_vit
import tables

import lswag_jax

PRECISIONS = ("highest", "high", "default")
BATCH_SIZES = (1, 4, 16, 64, 256)


class Case(NamedTuple):
    """A population to be scored, and how much of it."""

    name: str
    space: str
    arguments: dict[str, Any]
    images: int
    batch_sizes: tuple[int, ...]
    ranked: int  # networks that are scored under each precision


CASES = (
    Case("NAS-Bench-201", "nasbench201", {"num_classes": 10}, 64, BATCH_SIZES, 64),
    Case("AutoFormer-S", "autoformer_small", {"image_size": 224}, 64, BATCH_SIZES[:3], 32),
)
_TINY = {"image_size": 8, "num_classes": 3}
RUNLOCAL = (
    Case("NAS-Bench-201", "nasbench201", _TINY | {"width": 4, "cells": 1}, 8, (1, 2), 4),
    Case("AutoFormer-S", "autoformer_small", _TINY | {"patch_size": 4}, 8, (1, 2), 4),
)


class Population:
    """Genotypes and a batch of a case."""

    def __init__(self, case: Case) -> None:
        self.space = lswag_jax.spaces.get(case.space, **case.arguments)
        self._rng = np.random.default_rng(0)
        shape = (case.images, *self.space.image_shape)
        images = self._rng.normal(size=shape).astype(np.float32)
        self._batch = images, np.arange(case.images) % self.space.num_classes
        self.images = case.images

    def score(self, num: int, **options: Any) -> lswag_jax.ScoreTable:
        """The first `num` genotypes, drawn once."""
        genotypes = self.space.sample(np.random.default_rng(1), num)
        return lswag_jax.score(self.space, genotypes, *self._batch, **options)

    def operations(self, num: int) -> float:
        """Floating-point operations of products in a forward and backward pass of a network."""
        genotypes = self.space.sample(np.random.default_rng(1), num)
        return 6 * self.images * float(np.mean([self.space.macs(g) for g in genotypes]))


def rate(population: Population, batch_size: int, seconds: float, peak: float) -> dict[str, Any]:
    """Networks a second with a batch_size, and what it took to get there."""
    began = time.perf_counter()
    population.score(batch_size, batch_size=batch_size)
    first, num, took = time.perf_counter() - began, batch_size, 0.0
    while True:
        took = population.score(num, batch_size=batch_size).timing["score"]
        if took > seconds / 4:
            break
        num *= 2
    return {
        "batch_size": batch_size,
        "first call, s": first,
        "networks a second": num / took,
        "in a minute": 60 * num / took,
        "share of the product rate": population.operations(num) * num / took / peak,
        "most memory so far, MB": _memory(),
    }


def precisions(population: Population, num: int, batch_size: int) -> Iterator[dict[str, Any]]:
    """Speed and ranking under each precision, beside `highest`."""
    exact = None
    for precision in PRECISIONS:
        options: dict[str, Any] = {"batch_size": batch_size, "precision": precision}
        population.score(batch_size, **options)  # compiles
        table = population.score(num, **options)
        exact = table["lswag"] if exact is None else exact
        yield {
            "precision": precision,
            "networks a second": num / table.timing["score"],
            "Spearman with highest": scipy.stats.spearmanr(exact, table["lswag"]).statistic,
            "largest deviation": float(np.abs(table["lswag"] / exact - 1).max()),
        }


def _memory() -> float | None:
    """Most bytes that the device has held, in MB; None where it does not tell."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    return None if peak is None else peak / 1e6


def main() -> None:
    """Measures case by case until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runlocal", action="store_true", help="small")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing is begun")
    parser.add_argument("--rows", type=pathlib.Path, default="results/benchmarks/accelerator.jsonl")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    deadline = time.monotonic() + 60 * options.minutes
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    with options.rows.open("a") as file, contextlib.suppress(KeyboardInterrupt):
        for title, row in measured(options.runlocal, deadline):
            if "error" not in row:
                found.setdefault(title, []).append(row)
            file.write(json.dumps({"of": title} | row) + "\n")
            file.flush()
            print(title, row, flush=True)
    for title, rows in found.items():
        tables.show(title, rows)


def measured(runlocal: bool, deadline: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title of a table and a row of it, one after the other."""
    with jax.default_matmul_precision("highest"):  # as `score` has it
        peak = speed_vit.matmul_rate()
    for i, case in enumerate(RUNLOCAL if runlocal else CASES):
        if time.monotonic() > deadline:
            return
        # Half of the time that is left for the first case, all of it for the second.
        until = time.monotonic() + (deadline - time.monotonic()) / (len(CASES) - i)
        population, best = Population(case), {"networks a second": 0.0, "batch_size": 1}
        for batch_size in case.batch_sizes:
            took = time.monotonic()
            try:
                row = rate(population, batch_size, 0.2 if runlocal else 8.0, peak)
            except jax.errors.JaxRuntimeError as error:  # the device's memory is full
                yield f"{case.name}, L-SWAG", {"batch_size": batch_size, "error": f"{error}"[:80]}
                break
            yield f"{case.name}, L-SWAG", row
            best = max(best, row, key=lambda one: one["networks a second"])
            if time.monotonic() + 2 * (time.monotonic() - took) > until:
                break
        for row in precisions(population, case.ranked, best["batch_size"]):
            yield f"{case.name}, precision, batch_size={best['batch_size']}", row
            if time.monotonic() > until:
                break


if __name__ == "__main__":
    main()
