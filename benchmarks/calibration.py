"""From rank to accuracy: coverage of the 80 % interval, and regret of what is trained next.

    python benchmarks/run.py --save calibration --data=../shared/data

Kept scores (`benchmarks/scores/`) beside published accuracies; nothing is scored or trained.
Coverage: k networks drawn at random are "trained", how many of the others does the interval hold?
Regret: of 5 random networks on, one after the other is trained, at k the best accuracy of the pool
minus the best that was trained: the one that `calibrate` names ("next"), the best by score that is
left ("by score"), and a random one ("random"). Means over draws. The same of reversed scores says
what a proxy costs that ranks the wrong way.
"""

import argparse
import pathlib

import numpy as np
import rank_cnns
import rank_vits
import tables

from lswag_jax import spaces
from lswag_jax.analysis import tables as score_tables
from lswag_jax.analysis.calibration import calibrate
from lswag_jax.analysis.correlation import spearman

SCORES = pathlib.Path(__file__).resolve().parent / "scores"
CNNS = (
    "nb201_cifar10", "nb101", "nb301", "micro_class_scene", "micro_autoencoder", "micro_jigsaw",
    "macro_class_scene",
)  # fmt: skip
VITS = ("c100_kd_acc", "flower_kd_acc")
PROXIES = ("lswag", "nwot")
FIRST = 5
COVERAGE_AT, REGRET_AT = (5, 10, 20, 50), (10, 20)


def cnn(name: str, root: pathlib.Path) -> dict[str, float]:
    """Accuracy of each network of a convolutional benchmark by its text."""
    case = rank_cnns.CASES[name]
    space, columns = spaces.get(**case.space), rank_cnns.read(case, root)
    values = columns["cifar10_test200" if name.startswith("nb201") else "val_accuracy"]
    kept = set(score_tables.read(SCORES / f"{name}.csv.gz").genotypes)
    found: dict[str, float] = {}
    for i, value in enumerate(values):
        text = space.format(rank_cnns.genotype(space, columns, i))
        if text in kept:
            found.setdefault(text, float(value))
    return found


def vit(target: str, root: pathlib.Path) -> dict[str, float]:
    """The same of ViT-Bench-101."""
    rows = rank_vits.load_rows("vitbench", root / "tables" / "vitbench101_autoformer.csv", 100, 0)
    values = rank_vits.targets("vitbench", rows)[target]
    space = spaces.get("vitbench_autoformer", num_classes=100)
    texts = [space.format(rank_vits.genotype(row)) for row in rows]
    return dict(zip(texts, values.tolist(), strict=True))


def some(truth: np.ndarray, chosen: np.ndarray | list[int]) -> np.ndarray:
    """The accuracies of the chosen, NaN for the others."""
    accuracies = np.full(len(truth), np.nan)
    accuracies[chosen] = truth[chosen]
    return accuracies


def coverage(scores: np.ndarray, truth: np.ndarray, k: int, draws: int) -> tuple[float, float]:
    """Share of the untrained within their interval, and the median width of these."""
    rng, held, widths = np.random.default_rng(k), [], []
    for _ in range(draws):
        found = calibrate(scores, some(truth, rng.choice(len(truth), k, replace=False)))
        rest = ~found.trained
        held.append(((found.low <= truth) & (truth <= found.high))[rest].mean())
        widths.append(np.median((found.high - found.low)[rest]))
    return float(np.mean(held)), float(np.mean(widths))


def regrets(scores: np.ndarray, truth: np.ndarray, draws: int) -> dict[str, float]:
    """Mean regret of the three ways, by their columns."""
    rng, lost = np.random.default_rng(0), {}
    for _ in range(draws):
        order = rng.permutation(len(truth)).tolist()
        first, rest = order[:FIRST], order[FIRST:]
        orders = {"next": list(first), "by score": first + sorted(rest, key=lambda i: -scores[i])}
        orders["random"] = order
        while len(orders["next"]) < max(REGRET_AT):
            orders["next"].append(calibrate(scores, some(truth, orders["next"])).next)
        for k in REGRET_AT:
            for way, trained in orders.items():
                gap = truth.max() - truth[trained[:k]].max()
                lost.setdefault(f"regret at {k}: {way}", []).append(gap)
    return {name: float(np.mean(values)) for name, values in lost.items()}


def main() -> None:
    """Shows the table and its means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--draws", type=int, default=50)
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.data)
    truths = {(name, name): cnn(name, root) for name in CNNS}
    truths |= {(f"vitbench, {target}", "vitbench"): vit(target, root) for target in VITS}
    covered, lost, wrong = [], [], []
    for (title, file), truth in truths.items():
        kept = score_tables.read(SCORES / f"{file}.csv.gz")
        for proxy in PROXIES:
            scores = kept.values(kept.datasets[0], proxy)
            pairs = [
                (s, truth.get(text, np.nan)) for text, s in zip(kept.genotypes, scores, strict=True)
            ]
            x, y = np.array([pair for pair in pairs if not np.isnan(pair).any()]).T
            y = y * 100 if y.max() <= 1 and y.min() >= 0 else y  # in percent
            about = {"population": title, "proxy": proxy, "networks": len(x), "rho": spearman(x, y)}
            figures = {k: coverage(x, y, k, arguments.draws) for k in COVERAGE_AT}
            shares = {f"covered, k = {k}": share for k, (share, _) in figures.items()}
            widths = {f"width, k = {k}": figures[k][1] for k in (5, 20, 50)}
            spread = {"spread of 80 %": float(np.diff(np.quantile(y, (0.1, 0.9)))[0])}
            covered.append(about | shares | widths | spread)
            lost.append(about | regrets(x, y, arguments.draws))
            reversed_x = np.where(np.isfinite(x), -x, x)  # failures stay the worst
            about |= {"rho": spearman(reversed_x, y)}
            wrong.append(about | regrets(reversed_x, y, arguments.draws))
    for title, rows in (("coverage", covered), ("regret", lost), ("regret, reversed", wrong)):
        names = [name for name, value in rows[0].items() if isinstance(value, float)]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in names}
        blank = {"population": "mean", "proxy": "", "networks": None}
        tables.show(title, [*rows, blank | mean], 2)


if __name__ == "__main__":
    main()
