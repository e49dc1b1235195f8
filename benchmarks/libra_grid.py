"""Which merge rule, window and bins of LIBRA do best on split halves over all benchmarks together.

    python benchmarks/libra_grid.py --data=../shared/data --workdir=results/libra_grid

Every combination chooses on one half of a benchmark and is judged on the other, 5 seeds, 15
benchmarks. The best of the grid is itself a choice by labels; so each benchmark is also judged by
the combination that is best on the others (leave one space out: NAS-Bench-201's three data sets, or
TransNAS's tasks of one space, leave together).
"""

import argparse
import dataclasses
import itertools
import pathlib

import numpy as np
from paper_benchmarks import CASES, benchmark, published
from paper_tables import keep, markdown

from lswag_jax import libra
from lswag_jax.libra import PRESETS, LibraOptions

BINS = {name: PRESETS[name] for name in ("published", "recommended")}
WINDOWS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
RULES = ("log_rank_sum", "rank_sum", "min_rank", "top_log", "z_sum", "vote")
SECONDS = ("min_ig", "max_ig", "none")


def grid() -> dict[tuple[str, ...], LibraOptions]:
    """Options by their short names; without a second there is one window and one rule."""
    found = {}
    for bins, second, double in itertools.product(BINS, SECONDS, (False, True)):
        for rule, window in itertools.product(RULES, WINDOWS):
            third = "none" if second == "none" else "bias_match"
            if second == "none" and (bins, rule, window) != ("published", RULES[0], WINDOWS[0]):
                continue
            if double and second == "none":
                continue
            options = dataclasses.replace(
                BINS[bins], rule=rule, window=window, second=second, third=third, double_best=double
            )
            key = (bins, second, rule, str(window), "z1 twice" if double else "equal")
            found[key] = options
    return found


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
        arrays = benchmark(published(case, root), case.dataset)[:3]
        for key, values in options.items():
            rhos[key, name] = libra.evaluate(*arrays, values).split_half.mean()
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
    published_key = ("published", "min_ig", "log_rank_sum", "0.1", "equal")
    shown = [row for row in rows if tuple(row[c] for c in columns) == published_key]
    shown += [row for row in rows if row["second"] == "none"]
    print(markdown([{k: r[k] for k in (*columns, "mean")} for r in rows[:12] + shown]))
    spaces = np.array([case.space for case in CASES.values()])
    held = np.empty(len(spaces))
    for space in dict.fromkeys(spaces):
        best = means[:, spaces != space].mean(1).argmax()
        held[spaces == space] = means[best, spaces == space]
        print(f"without {space}: best {' '.join(keys[best])}")
    print(f"the best on other spaces: {held.mean():.4f}; "
          f"published: {means[keys.index(published_key)].mean():.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
