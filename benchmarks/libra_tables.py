"""Tables 1 and 4 of the LIBRA paper beside what public values give, in-sample and on split halves.

    python benchmarks/run.py libra_tables --data=../shared/data --workdir=results/libra_tables

No network is scored: the values are NAS-Bench-Suite-Zero's. A third table is of the networks that
we scored ourselves (`benchmarks/scores/`): the proxies that the Suite lacks (L-SWAG, ZiCo, SWAP,
...) are added, and AZ-NAS's merge where its parts exist. The tables are kept
as CSV too.
"""

import argparse
import csv
import pathlib

import numpy as np
import tables as result_tables
from libra_cases import AZ_NAS, CASES, PAIRS, TABLE_4, THIRDS, benchmark, published, with_own

from lswag_jax.analysis import correlation, libra
from lswag_jax.analysis.libra import PRESETS, LibraOptions
from lswag_jax.proxies.merge import merge

BEST_PROXY = LibraOptions(second="none", third="none")
RANDOM_SEEDS = 20


def row_of_table_1(name: str, found: libra.Benchmark, az_nas: float | None) -> dict[str, str]:
    """One benchmark: ours, the yardsticks and the paper's."""
    arrays = found[:3]
    best = libra.evaluate(*arrays, BEST_PROXY)
    row = {"benchmark": name, "n": str(len(found.accuracy)), "proxies": str(len(found.scores))}
    for size in ("params", "flops"):
        column = found.scores.get(size, found.scores.get("macs"))
        row[f"#{size}"] = f"{correlation.spearman(column, found.accuracy):.3f}"
    row["best proxy"] = f"{best.selection.proxies[0]} {best.in_sample:.3f}"
    row["its choice on split halves"] = spread(best.split_half)
    for label, options in PRESETS.items():
        result = libra.evaluate(*arrays, options)
        row[f"LIBRA {label}"] = f"{'+'.join(result.selection.proxies)} {result.in_sample:.3f}"
        row[f"{label}, split halves"] = spread(result.split_half)
    row["AZ-NAS's merge"] = "" if az_nas is None else f"{az_nas:.3f}"
    paper = CASES[name].paper
    names = ("paper TE-NAS", "paper T-CET", "paper AZ-NAS", "paper LIBRA")
    return row | {key: f"{value:.2f}" for key, value in zip(names, paper, strict=True)}


def spread(rhos: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(rhos):.3f} +- {np.std(rhos):.3f}"


def az_nas(table, dataset: str) -> float | None:
    """Rho of the log-rank sum of AZ-NAS's proxies; None where one is missing."""
    sizes = [name for name in ("macs", "flops") if name in table.metrics(dataset)]
    names = [*AZ_NAS[:3], *sizes[:1]]
    if not sizes or any(name not in table.metrics(dataset) for name in names):
        return None
    values = np.array([table.values(dataset, name) for name in names])
    accuracy = table.values(dataset, "val_accuracy", "drop")
    known = ~np.isnan(values).any(0) & ~np.isnan(accuracy)
    return correlation.spearman(merge(values[:, known]), accuracy[known])


def rows_of_table_4(benchmarks: dict[str, libra.Benchmark]) -> list[dict[str, str]]:
    """The ablations: pairs (4a) and thirds (4b), from the window and from all proxies."""
    variants = [("4a", {"second": key, "third": "none"}, paper) for key, paper in PAIRS.items()]
    variants += [("4b", {"third": key}, paper) for key, paper in THIRDS.items()]
    rows = []
    for part, changes, paper in variants:
        pooled = changes.get("second") == "max_ig" or changes["third"] in ("random", "min_bias")
        for pool in ("window", "all") if pooled else ("window",):
            kind = changes["second"] if part == "4a" else changes["third"]
            row = {"table": part, "choice": kind, "pool": pool}
            for name, said in zip(TABLE_4, paper, strict=True):
                row[name] = f"{ablation(benchmarks[name], changes | {'pool': pool})}; {said:.2f}"
            rows.append(row)
    return rows


def ablation(found: libra.Benchmark, changes: dict[str, str]) -> str:
    """In-sample and split-half rho; of random choices the mean over seeds."""
    seeds = range(RANDOM_SEEDS if "random" in changes.values() else 1)
    results = [libra.evaluate(*found[:3], LibraOptions(**changes, seed=s)) for s in seeds]
    in_sample = np.mean([r.in_sample for r in results])
    return f"{in_sample:.3f} / {np.mean([r.split_half for r in results]):.3f}"


def keep(rows: list[dict[str, str]], path: pathlib.Path) -> None:
    """Writes rows as CSV."""
    with open(path, "w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Prints the tables and keeps them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/libra_tables")
    parser.add_argument("--scores", default="benchmarks/scores", help="folder of CASE.csv.gz")
    arguments = parser.parse_args()
    root, folder = pathlib.Path(arguments.data) / "tables", pathlib.Path(arguments.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: published(case, root) for name, case in CASES.items()}
    found = {name: benchmark(tables[name], case.dataset) for name, case in CASES.items()}
    rows = {"table_1": [row_of_table_1(name, b, None) for name, b in found.items()]}
    rows["table_4"] = rows_of_table_4(found)
    for name, case in CASES.items():
        scores, dataset = pathlib.Path(arguments.scores) / f"{name}.csv.gz", case.dataset
        if not scores.exists():
            continue
        table = with_own(case, root, scores)
        row = row_of_table_1(name, benchmark(table, dataset), az_nas(table, dataset))
        rows.setdefault("table_1_own", []).append(row)
    for name, table in rows.items():
        keep(table, folder / f"{name}.csv")
        result_tables.show(name, table)


if __name__ == "__main__":
    main()
