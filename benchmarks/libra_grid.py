"""Which merge rule, window and bins of LIBRA do best on split halves over all benchmarks together.

    python benchmarks/run.py libra_grid --data=../shared/data --workdir=results/libra_grid

Every combination chooses on one half of a benchmark and is judged on the other, 5 seeds, 15
benchmarks. The best of the grid is itself a choice by labels; so each benchmark is also judged by
the combination that is best on the others (leave one space out: NAS-Bench-201's three data sets, or
TransNAS's tasks of one space, leave together).
"""

import argparse
import dataclasses
import functools
import itertools
import pathlib

import numpy as np
import tables
from libra_cases import CASES, benchmark, published
from libra_tables import keep

from lswag_jax.analysis import correlation, libra
from lswag_jax.analysis.libra import PRESETS, LibraOptions
from lswag_jax.scoring.fitness import Fitness

BINS = {name: PRESETS[name] for name in ("published", "recommended")}
PUBLISHED = ("published", "min_ig", "log_rank_sum", "0.1", "equal")
WINDOWS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
RULES = ("log_rank_sum", "rank_sum", "min_rank", "top_log", "z_sum", "vote")


def grid() -> dict[tuple[str, ...], LibraOptions]:
    """Options by their short names; the best proxy alone has neither window nor rule."""
    found = {("", "none", "", "", ""): LibraOptions(second="none", third="none")}
    for bins, second, double, rule, window in itertools.product(
        BINS, ("min_ig", "max_ig"), (False, True), RULES, WINDOWS
    ):
        key = (bins, second, rule, str(window), "z1 twice" if double else "equal")
        found[key] = dataclasses.replace(
            BINS[bins], rule=rule, window=window, second=second, double_best=double
        )
    return found


def split_halves(found: libra.Benchmark, options: dict, seeds: int = 5) -> dict:
    """Mean rho on the other half for each of the options, as `libra.evaluate` has it.

    What is known of the candidates depends on the half and the bins alone, and is worked out once.
    """
    total = dict.fromkeys(options, 0.0)
    for seed in range(seeds):
        half, rest = libra.halves(len(found.accuracy), seed)
        scores = {name: values[half] for name, values in found.scores.items()}
        arrays = scores, found.accuracy[half], found.params[half]
        picked = {bins: libra.select(*arrays, values) for bins, values in BINS.items()}
        others = {name: values[rest] for name, values in found.scores.items()}

        @functools.cache
        def rho(fitness: Fitness, others=others, accuracy=found.accuracy[rest]) -> float:
            return correlation.spearman(fitness.merge(others), accuracy)

        for key, values in options.items():
            known = picked[key[0] or "published"]
            names = libra.choose(known.candidates, known.accuracy_bias, values)
            total[key] += rho(Fitness(names[:1] * values.double_best + names, values.rule)) / seeds
    return total


def main() -> None:
    """Prints the best of the grid, and what choosing by it is worth on other benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/libra_grid")
    arguments = parser.parse_args()
    root, folder = pathlib.Path(arguments.data) / "tables", pathlib.Path(arguments.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    options, rhos = grid(), {}
    for name, case in CASES.items():
        for key, rho in split_halves(
            benchmark(published(case, root), case.dataset), options
        ).items():
            rhos[key, name] = rho
    keys = list(options)
    means = np.array([[rhos[key, name] for name in CASES] for key in keys])
    columns = ("bins", "second", "rule", "window", "weights")
    rows = [
        dict(zip(columns, keys[i], strict=True))
        | {"mean": f"{means[i].mean():.4f}"}
        | {name: f"{rho:.3f}" for name, rho in zip(CASES, means[i], strict=True)}
        for i in np.argsort(-means.mean(1))
    ]
    keep(rows, folder / "grid.csv")
    named = {PUBLISHED: "published", ("", "none", "", "", ""): "best proxy alone"}
    shown = rows[:12] + [row for row in rows if tuple(row[c] for c in columns) in named]
    tables.show("grid", [{k: row[k] for k in (*columns, "mean")} for row in shown])
    spaces = np.array([case.space for case in CASES.values()])
    print(f"\npublished {means[keys.index(PUBLISHED)].mean():.4f}; chosen on the other spaces from")
    print(f"everything: {elsewhere(keys, means, spaces)}")
    own = [i for i, key in enumerate(keys) if key[:2] == PUBLISHED[:2]]
    print(f"rules, windows and weights: {elsewhere([keys[i] for i in own], means[own], spaces)}")


def elsewhere(keys: list[tuple[str, ...]], means: np.ndarray, spaces: np.ndarray) -> str:
    """Mean of each space's rho by what is best on the other spaces, and what that is."""
    held, chosen = np.empty(len(spaces)), []
    for space in dict.fromkeys(spaces):
        best = means[:, spaces != space].mean(1).argmax()
        held[spaces == space] = means[best, spaces == space]
        chosen.append(f"{' '.join(keys[best])} (for {space})")
    return f"{held.mean():.4f}, by {'; '.join(chosen)}"


if __name__ == "__main__":
    main()
