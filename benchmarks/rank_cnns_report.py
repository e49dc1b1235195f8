"""Correlations of the rows that `rank_cnns` kept: its tables.

    python benchmarks/run.py rank_cnns_report --data=../shared/data --workdir=results/rank_cnns

For NAS-Bench-201 also the eight rows of the paper's Table 3, the grid of L-SWAG's options beside
them (a step that uses published correlations) and agreement with other people's NASWOT values.
"""

import argparse
import itertools
import pathlib

import numpy as np
import tables
from rank_cnns import CASES, OTHERS, read, variants

import lswag_jax
from lswag_jax.analysis import correlation, window
from lswag_jax.analysis import report as correlation_report
from lswag_jax.proxies import LSwag
from lswag_jax.runs.archive import read_rows
from lswag_jax.scoring.table import ScoreTable

PAPER = {  # Table 3 of the paper: no mu, window, Psi -> C10, C100, IN16
    (False, False, False): (0.75, 0.80, 0.78),
    (True, False, False): (0.78, 0.81, 0.79),
    (False, True, False): (0.77, 0.81, 0.79),
    (False, False, True): (0.71, 0.75, 0.71),
    (True, True, False): (0.79, 0.82, 0.80),
    (True, False, True): (0.79, 0.82, 0.80),
    (False, True, True): (0.79, 0.77, 0.75),
    (True, True, True): (0.79, 0.83, 0.80),
}
NB201 = {"nb201_cifar10": "cifar10", "nb201_cifar100": "cifar100", "nb201_in16": "in16"}


class Result:
    """One scored population and its ground truth."""

    def __init__(self, name: str, root: pathlib.Path, folder: pathlib.Path):
        self.case, columns = CASES[name], read(CASES[name], root)
        path = folder / "window.json"
        self.window = window.load(path) if path.exists() else None
        proxies = [LSwag(), *(variants(self.window) if self.case.full else ()), *OTHERS]
        rows, _ = read_rows(folder / "archive.jsonl")
        self.table = ScoreTable(rows, lswag_jax.proxies.resolve(proxies))
        order = np.random.default_rng(0).permutation(len(next(iter(columns.values()))))
        self.truth = {key: values[order[: len(rows)]] for key, values in columns.items()}

    def values(self) -> dict[str, np.ndarray]:
        """Scores for ranking: the proxies, and the factors of L-SWAG."""
        parts, failed = self.table.parts["lswag"], ~np.isfinite(self.table.values("lswag"))
        factors = {"Lambda": parts["lambda"], "Psi": parts["psi"]}
        found = {name: self.table.values(name) for name in self.table}
        return found | {k: np.where(failed, -np.inf, v) for k, v in factors.items()}

    def lambda_of(self, key: str, bins: tuple[int, int]) -> np.ndarray:
        """Lambda of a variant over the layers in a window."""
        parts = self.table.parts[key]
        per_layer = parts["lambda_l" if "lambda_l" in parts else "layers"]
        depth = self.table.parts["lswag"]["bins"]
        inside = (depth >= bins[0]) & (depth <= bins[1])
        return np.where(inside, per_layer, 0).sum(1)


def correlations(name: str, result: Result, target: str) -> None:
    """Shows the correlations of every score with one target."""
    truth = result.truth[target]
    known, values = np.isfinite(truth), result.values()
    params = result.table.column("params")
    rows = correlation_report.summary(
        {k: v[known] for k, v in values.items()}, truth[known], params[known]
    )
    half, tenth = (truth >= np.quantile(truth[known], q) for q in (0.5, 0.9))
    shown = []
    for row in rows:
        score = values[row["proxy"]]
        parts = {"best half": half, "best 10 %": tenth}
        within = {k: correlation.spearman(score[part], truth[part]) for k, part in parts.items()}
        shown.append(tables.correlations(row) | within)
    tables.show(f"{name}, {target}", shown, tables.INTERVAL, int(known.sum()))


def readings(result: Result, bins: tuple[int, int]) -> dict[tuple[bool, bool, bool], np.ndarray]:
    """Scores of the eight rows of Table 3; without "no mu" the gradient factor is ZiCo's."""
    parts, picked = result.table.parts, result.table.parts["lswag_picked"]
    found = {}
    for no_mu, in_window, with_psi in PAPER:
        key = "lswag" if no_mu else "zico"
        psi = picked["psi"] if in_window else parts["lswag"]["psi"]
        gradient = result.lambda_of(key, bins if in_window else (0, 9))
        found[no_mu, in_window, with_psi] = gradient * (psi if with_psi else 1)
    return found


def table_3(results: dict[str, Result]) -> None:
    """The paper's Table 3 with its own rows beside ours, validation accuracy as the target."""
    shown = []
    for row, paper in PAPER.items():
        ours, alone = [], []
        for name, result in results.items():
            truth = result.truth[f"{NB201[name]}_nbsz_val"]
            known = np.isfinite(truth)
            rank = readings(result, result.window or (0, 9))[row]
            ours.append(correlation.spearman(_worst(result, rank)[known], truth[known]))
            psi = result.table.parts["lswag_picked" if row[1] else "lswag"]["psi"]
            alone.append(correlation.spearman(_worst(result, psi)[known], truth[known]))
        ticks = ["x" if tick else "" for tick in row]
        said = " / ".join(f"{value:.2f}" for value in paper)
        only = " / ".join(f"{v:.3f}" for v in alone) if row[2] and not row[0] else ""
        shown.append(
            dict(zip(("no mu", "window", "Psi"), ticks, strict=True))
            | {"paper C10 / C100 / IN16": said, "ours": " / ".join(f"{v:.3f}" for v in ours)}
            | {"ours, Psi alone": only}
        )
    tables.show("Table 3", shown)


def _worst(result: Result, values: np.ndarray) -> np.ndarray:
    """Failures get the worst rank."""
    failed = ~np.isfinite(result.table.values("lswag"))
    return np.where(failed | ~np.isfinite(values), -np.inf, values)


def grid(results: dict[str, Result]) -> None:
    """Deviation of each option's L-SWAG from the paper's last row, all data sets."""
    kinds = ("lswag", "lswag_signed", "lswag_minibatch", "lswag_minibatch_signed")
    windows = {"all": (0, 9), "picked": None, "lower half": (0, 4), "upper half": (5, 9)}
    reduces = ("union", "sum", "mean", "logsum")
    rows = []
    for kind, (label, bins), reduce in itertools.product(kinds, windows.items(), reduces):
        rhos = []
        for name, result in results.items():
            truth = result.truth[f"{NB201[name]}_nbsz_val"]
            known = np.isfinite(truth)
            parts = result.table.parts["lswag"]
            psi_l = parts["psi_l"]
            psi = {
                "union": parts["psi"],
                "sum": psi_l.sum(1),
                "mean": psi_l.sum(1) / np.maximum((psi_l > 0).sum(1), 1),
                "logsum": np.log(np.maximum(psi_l, 1)).sum(1),
            }[reduce]
            score = result.lambda_of(kind, bins or result.window) * psi
            rhos.append(correlation.spearman(_worst(result, score)[known], truth[known]))
        deviation = np.mean(np.abs(np.array(rhos) - PAPER[True, True, True][: len(rhos)]))
        rows.append((deviation, kind, label, reduce, rhos))
    shown = [
        {"gradients": kind, "window of Lambda": label, "Psi": reduce}
        | dict(zip(("C10", "C100", "IN16"), rhos, strict=False))
        | {"mean deviation": deviation}
        for deviation, kind, label, reduce, rhos in sorted(rows, key=lambda row: row[0])
    ]
    tables.show("options of L-SWAG", shown)


def agreement(name: str, result: Result) -> None:
    """Rank correlation of our NASWOT with other people's, on connected cells."""
    ours = result.table.values("nwot")
    for column in (f"{NB201[name]}_nbsz_nwot", "cifar10_naswot_mellor"):
        if column not in result.truth or not column.startswith(NB201[name] + "_"):
            continue
        theirs = result.truth[column]
        known = np.isfinite(theirs) & np.isfinite(ours) & (theirs > -1e7)
        rho = correlation.spearman(ours[known], theirs[known])
        print(f"{name}: our nwot against {column}: Spearman {rho:.3f} (n = {known.sum()})")


def main() -> None:
    """Prints the tables of the populations that have been scored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/rank_cnns")
    arguments = parser.parse_args()
    folders = {name: pathlib.Path(arguments.workdir) / name for name in CASES}
    results = {
        name: Result(name, pathlib.Path(arguments.data), folder)
        for name, folder in folders.items()
        if (folder / "archive.jsonl").exists() and (folder / "archive.jsonl").stat().st_size
    }
    for name, result in results.items():
        table = result.table
        counts = {s: int((table.status == s).sum()) for s in sorted(set(table.status))}
        seconds = np.median(table.column("seconds"))
        print(f"\n## {name}: {len(table)} networks, picked window {result.window}")
        print(f"status {counts}, median {seconds:.2f} s each")
        if name in NB201:
            targets = [f"{NB201[name]}_test200", f"{NB201[name]}_nbsz_val"]
            agreement(name, result)
        else:
            targets = ["val_accuracy"]
        for target in targets:
            correlations(name, result, target)
    ours = {name: results[name] for name in NB201 if name in results}
    if ours:
        table_3(ours)
        grid(ours)


if __name__ == "__main__":
    main()
