"""Searching NAS-Bench-201 by proxies: benchmark accuracy and rank of what is found, over seeds.

    python benchmarks/run.py search_nasbench201 --data=../shared/data

Random search, evolution and pruning on CIFAR-100 images at 16 px, looked up in the published
accuracies on ImageNet16-120. All of them score thin networks, as TE-NAS does; parameters are the
benchmark's own. TE-NAS's criteria are measured three times on half of the images, since their cost
grows with the square of the batch, all others once. The triple is LIBRA's for ImageNet16-120
(synflow, jacov, l2_norm), chosen by accuracies of this benchmark.
Searches of one fitness, strategy and seed resume. Seconds are of scoring, without compilation.
"""

import argparse
import pathlib

import numpy as np
import tables

from lswag_jax import data, search, spaces
from lswag_jax.analysis import lookup
from lswag_jax.runs import archive
from lswag_jax.scoring import Fitness, ScoreOptions

FITNESS = {
    "params": Fitness("params"),
    "nwot": Fitness("nwot"),
    "lswag": Fitness("lswag"),
    "libra": Fitness(("synflow", "jacov", "l2_norm")),
    "te_nas": Fitness(("ntk", "linear_regions"), "dense_rank_sum"),
}
STRATEGIES = {
    "random": lambda seed, num, _: search.RandomOptions(num=num, seed=seed),
    "evolution": lambda seed, num, _: search.EvolutionOptions(
        epochs=num // 20 - 1, population=20, select=8, crossover=10, mutation=10, seed=seed
    ),
    "pruning": lambda _, __, decimals: search.PruningOptions(decimals=decimals),
}


def main() -> None:
    """Searches and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/search_nasbench201")
    parser.add_argument("--num", type=int, default=60, help="networks a search; pruning has 58")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--width", type=int, default=4, help="of the networks that are scored")
    parser.add_argument("--cells", type=int, default=1, help="of a stage of them")
    parser.add_argument("--fitness", default=",".join(FITNESS))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    arguments = parser.parse_args()
    root, sizes = pathlib.Path(arguments.data), {"num_classes": 120, "image_size": 16}
    space = spaces.get("nasbench201", **sizes)
    table = str(root / "tables" / "nasbench201.csv.gz")
    truth = lookup.read(table, space, "arch_str", "in16_test200")
    values = np.array(list(truth.values()))
    print(f"best {values.max():.2f}, mean {values.mean():.2f} of {len(values)}\n")
    rows = []
    for fitness in arguments.fitness.split(","):
        for strategy in arguments.strategies.split(","):
            rows.append(_row(arguments, space, truth, fitness, strategy))
            print(fitness, strategy, rows[-1]["accuracy"], flush=True)
    tables.show("accuracy found", rows, {"mean of ten": 2, "million params": 2, "seconds": 1})


def _row(arguments, space, truth: dict, fitness: str, strategy: str) -> dict:
    """A row of the table, over the seeds."""
    found, params, seconds = [], [], []
    for seed in range(arguments.seeds):
        workdir = pathlib.Path(arguments.workdir) / f"{fitness}_{strategy}_{seed}"
        result = _search(arguments, fitness, strategy, seed, workdir)
        found.append(lookup.look_up(result.table.rows, result.fitness, truth))
        best = space.parse(result.table.ids[result.best])
        params.append(space.num_params(best) / 1e6)
        rows, _ = archive.read_rows(workdir / "archive.jsonl")
        seconds.append(sum(row["seconds"] for row in rows))
    accuracy = np.array([f.accuracy for f in found])
    ranks = ", ".join(str(f.rank) for f in sorted(found, key=lambda f: f.rank))
    return {
        "fitness": fitness,
        "strategy": strategy,
        "accuracy": f"{accuracy.mean():.2f} +- {accuracy.std():.2f}",
        "ranks": ranks,
        "mean of ten": None if strategy == "pruning" else np.mean([f.top for f in found]),
        "million params": np.mean(params),
        "seconds": np.mean(seconds),
    }


def _search(arguments, fitness: str, strategy: str, seed: int, workdir: pathlib.Path):
    """One search, with initial weights of its seed."""
    is_te_nas = fitness == "te_nas"
    sizes = {"width": arguments.width, "cells": arguments.cells, "image_size": 16}
    batch = data.load_batch(
        str(pathlib.Path(arguments.data) / "images" / "cifar100.npz"),
        arguments.batch // (2 if is_te_nas else 1),
        seed=0,
        channels=3,
        image_size=16,
        balanced=False,
    )
    return search.run(
        spaces.get("nasbench201", num_classes=120, **sizes),
        batch.images,
        batch.labels,
        FITNESS[fitness].proxies,
        STRATEGIES[strategy](seed, arguments.num, 3 if is_te_nas else None),
        workdir,
        fitness=FITNESS[fitness],
        score_options=ScoreOptions(seed=seed, repeats=3 if is_te_nas else 1),
    )


if __name__ == "__main__":
    main()
