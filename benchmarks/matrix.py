"""Every proxy on every benchmark: scores what is missing, and ranks what has been scored.

    python benchmarks/run.py matrix --data=../shared/data --cases=nb101,nb301       # scores these
    python benchmarks/run.py matrix --data=../shared/data --cases=nb101 --seed=1    # once more
    python benchmarks/run.py --save matrix --data=../shared/data --report           # tables, figure

A case is a population of `rank_cnns` or `rank_vits`, its networks in their order there; with
`_thin` behind its name, the same architectures as narrow and short networks. The proxies that
`benchmarks/scores/CASE.csv.gz` has not for the first `--num` networks are scored together and
added; an interrupted run resumes from `--workdir`. Another `--seed`, of images, weights and draws,
has a file of its own, and a table says how far seeds agree. NTK, which costs 33 forward and
backward passes where there is BatchNorm, and TE-NAS, which merges it, are left out unless they are
named.
"""

import argparse
import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np
import rank_cnns
import rank_vits
import save_scores
import tables as result_tables

from lswag_jax import data, proxies, runs, spaces
from lswag_jax.analysis import correlation, plots, report, tables
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.scoring import population
from lswag_jax.scoring.table import ScoreTable

SCORES = pathlib.Path(__file__).resolve().parent / "scores"
VIT_PIXELS, VIT_BATCH = 96, (64, 16)
FULL = (*rank_cnns.CASES, *rank_vits.CASES)
SUFFIX = "_thin"
SMALL = {  # of thin networks, by space
    "nasbench201": {"width": 8, "cells": 1},
    "nasbench101": {"width": 16, "cells": 1},
    "darts": {"width": 8, "layers": 5},
    "transnas_micro": {"width": 16, "decoder_width": 64},
    "transnas_macro": {"width": 16, "decoder_width": 64},
}
THIN = tuple(name + SUFFIX for name in rank_cnns.CASES)
THIN_BATCH = (64, 32)
SEEDS = (0, 1, 2)
LEFT_OUT = {"te_nas", "ntk"}
CNN_TARGETS = {
    "nb201_cifar10": "cifar10_test200",
    "nb201_cifar100": "cifar100_test200",
    "nb201_in16": "in16_test200",
}


class Population:
    """Networks of a benchmark in their order, and what they reach."""

    def __init__(self, name: str, root: pathlib.Path) -> None:
        self.name, self._root = name, root
        full = name.removesuffix(SUFFIX)
        self._case = rank_cnns.CASES.get(full)
        if self._case:
            if name != full:
                small = self._case.space | SMALL[self._case.space["name"]]
                self._case = dataclasses.replace(self._case, space=small, batch=THIN_BATCH)
            self.space = spaces.get(**self._case.space)
            columns = rank_cnns.read(self._case, root)
            order = np.random.default_rng(0).permutation(len(next(iter(columns.values()))))
            self.genotypes = [rank_cnns.genotype(self.space, columns, i) for i in order]
            target = CNN_TARGETS.get(full, "val_accuracy")
            self.truths = {name: columns[target][order]}
            self.gradient_batch = self._case.batch[1]
            return
        space, table, self._images = rank_vits.CASES[name]
        classes = 100 if name == "vitbench" else 37
        self.space = spaces.get(space, num_classes=classes, image_size=VIT_PIXELS)
        rows = rank_vits.load_rows(name, root / "tables" / table, 100, 0)
        self.genotypes = list(map(rank_vits.genotype, rows))
        self.truths = {
            f"{name}_{target}".removesuffix("_imagenet_top1_inherited"): values
            for target, values in rank_vits.targets(name, rows).items()
            if not target.endswith("base_acc")  # nothing ranks these, size neither
        }
        self.gradient_batch = VIT_BATCH[1]

    def batch(self, seed: int) -> tuple[Any, Any]:
        """Inputs and labels."""
        if self._case:
            return rank_cnns.batch_of(self._case, self.space, self._root, seed)
        loaded = data.load_batch(
            str(self._root / "images" / self._images), VIT_BATCH[0], seed=seed, channels=3,
            image_size=VIT_PIXELS, balanced=False,
        )  # fmt: skip
        return loaded.images, loaded.labels

    @property
    def texts(self) -> list[str]:
        """Names of the networks."""
        return list(map(self.space.format, self.genotypes))


def score(name: str, arguments: argparse.Namespace) -> None:
    """Adds to a case's table the proxies that it lacks."""
    seed, found = arguments.seed, Population(name, pathlib.Path(arguments.data))
    own_name = of_seed(name, seed)
    path = SCORES / f"{own_name}.csv.gz"
    known = {r.metric: r for r in tables.read(path).records()} if path.is_file() else {}
    # Networks that have scores come first.
    texts = list(dict.fromkeys(text for r in known.values() for text in r.genotypes))
    texts = list(dict.fromkeys([*texts, *found.texts]))[: arguments.num]
    genotypes = list(map(found.space.parse, texts))
    wanted = arguments.proxies.split(",") if arguments.proxies else proxies.names()
    missing = [
        proxy
        for proxy in wanted
        if (arguments.proxies or proxy not in LEFT_OUT)
        and not (proxy in known and set(texts) <= set(known[proxy].genotypes))
    ]
    if not missing:
        return
    resolved = proxies.resolve(dict.fromkeys([*missing, *save_scores.SIZES]))
    images, labels = found.batch(seed)
    options = {"gradient_batch": found.gradient_batch, "seed": seed}

    def evaluate(members):
        return population.stream(found.space, members, images, labels, resolved, **options)

    folder = pathlib.Path(arguments.workdir) / own_name
    about = {"case": own_name, "proxies": missing, "num": len(genotypes)}
    with runs.Archive(folder, about) as archive:
        runs.extend(archive, 0, found.space, genotypes, evaluate)
        table = ScoreTable(archive, resolved)
    for proxy in table:
        values = np.round(table.values(proxy), 12)
        provenance = save_scores.PROVENANCE.replace("seed 0", f"seed {seed}")
        own = Records(own_name, proxy, table.ids, values, provenance)
        known[proxy] = joined(known[proxy], own) if proxy in known else own
    GroundTruth.from_records(known.values()).write(path)
    seconds = np.median(table.column("seconds"))
    print(f"{own_name}: {len(missing)} proxies of {len(genotypes)} networks, {seconds:.1f} s each")


def of_seed(name: str, seed: int) -> str:
    """Name of a case's scores with a seed."""
    return f"{name}_seed{seed}" if seed else name


def joined(old: Records, new: Records) -> Records:
    """What was there, and values of networks that it lacks."""
    values = dict(zip(new.genotypes, new.values, strict=True))
    values |= dict(zip(old.genotypes, old.values, strict=True))
    return old._replace(genotypes=list(values), values=np.array(list(values.values())))


def ranked(name: str, root: pathlib.Path) -> list[dict]:
    """Rank statistics of every proxy with every target of a case."""
    found, kept = Population(name, root), tables.read(SCORES / f"{name}.csv.gz")
    texts, rows = found.texts, []
    for target, truth in found.truths.items():
        accuracy = dict(zip(texts, truth, strict=True))
        accuracies = np.array([accuracy.get(text, np.nan) for text in kept.genotypes])
        params = np.array([found.space.num_params(found.space.parse(t)) for t in kept.genotypes])
        for proxy in kept.metrics(kept.datasets[0]):
            values = kept.values(kept.datasets[0], proxy)
            there = ~np.isnan(values) & np.isfinite(accuracies)
            if there.sum() < 10 or len(set(values[there][np.isfinite(values[there])])) < 2:
                continue  # it does not apply, or says the same of every network
            own = {proxy: values[there]}
            (row,) = report.summary(own, accuracies[there], params[there].astype(float))
            rows.append({"dataset": target} | row)
    return rows


def show(root: pathlib.Path) -> None:
    """Tables and a figure of the full networks and of the thin ones, and both compared."""
    for kind, cases in (("", FULL), (", thin networks", THIN)):
        scored = [name for name in cases if (SCORES / f"{name}.csv.gz").is_file()]
        rows = [row for name in scored for row in ranked(name, root)]
        if rows:
            show_kind(kind, rows)
    beside = [row for name in rank_cnns.CASES for row in thin_beside_full(name, root)]
    if beside:
        result_tables.show("thin beside full", beside, 2)
    over = [row for name in (*FULL, *THIN) for row in over_seeds(name, root)]
    if over:
        result_tables.show("over seeds", over, 2)


def show_kind(kind: str, rows: list[dict]) -> None:
    """The tables of some cases, whose titles end in `kind`."""
    names, targets, rho_KxT = report.grid(rows)
    sizes = {target: max(r["n"] for r in rows if r["dataset"] == target) for target in targets}
    columns = [f"{target.removesuffix(SUFFIX)} ({sizes[target]})" for target in targets]
    given_KxT = report.matrix(rows, "partial_rho", names, targets)
    result_tables.show(f"summary{kind}", summary(names, targets, rho_KxT, given_KxT), 2)
    for title, key in (
        ("Spearman", "rho"), ("Kendall", "tau"), ("nDCG at 10 %", "ndcg"),
        ("Spearman given #params", "partial_rho"),
    ):  # fmt: skip
        values = report.matrix(rows, key, names, targets)
        cells = [[None if np.isnan(value) else value for value in of] for of in values]
        shown = [
            {"proxy": name} | dict(zip(columns, row, strict=True))
            for name, row in zip(names, cells, strict=True)
        ]
        result_tables.show(title + kind, shown, 2)
    low, high = (report.matrix(rows, key, names, targets) for key in ("rho_low", "rho_high"))
    ending = kind.removeprefix(", ").replace(" ", "_")
    picture = result_tables.ROOT / "results" / "benchmarks" / f"matrix_{ending or 'full'}.pdf"
    picture.parent.mkdir(parents=True, exist_ok=True)
    title = f"Spearman with accuracy, at initialisation{kind}"
    plots.heat_map(names, columns, rho_KxT, low_KxD=low, high_KxD=high, title=title).savefig(
        picture
    )


def summary(
    names: list[str], targets: list[str], rho_KxT: np.ndarray, given_KxT: np.ndarray
) -> list[dict]:
    """Over all targets: the mean of the spaces' means, the worst, and what beats #params."""
    spaces_T = np.array([target.partition("_")[0] for target in targets])
    params_T = rho_KxT[names.index("params")]

    def mean(values_T: np.ndarray) -> float | None:
        means = [values_T[spaces_T == space] for space in dict.fromkeys(spaces_T)]
        found = [np.nanmean(of) for of in means if np.isfinite(of).any()]
        return float(np.mean(found)) if found else None

    rows = [
        {
            "proxy": name,
            "targets": int(np.isfinite(rho_T).sum()),
            "mean of spaces": mean(rho_T),
            "lowest": float(np.nanmin(rho_T)),
            "above #params on": int((rho_T > params_T).sum()),
            "mean given #params": mean(given_T),
        }
        for name, rho_T, given_T in zip(names, rho_KxT, given_KxT, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["targets"], -row["mean of spaces"]))


def thin_beside_full(name: str, root: pathlib.Path) -> list[dict]:
    """How scores of thin networks rank beside those of the full ones of the same architectures."""
    paths = [SCORES / f"{case}.csv.gz" for case in (name, name + SUFFIX)]
    if not all(path.is_file() for path in paths):
        return []
    populations = [Population(case, root) for case in (name, name + SUFFIX)]
    # Texts of a space name its width: architectures are told by their place in the population.
    places = [{text: i for i, text in enumerate(found.texts)} for found in populations]
    kept = [tables.read(path) for path in paths]
    (truth,) = populations[0].truths.values()
    rows = []
    for proxy in kept[0].metrics(kept[0].datasets[0]):
        if proxy in ("params", "macs") or proxy not in kept[1].metrics(kept[1].datasets[0]):
            continue
        full, thin = (
            dict(zip(map(at.get, t.genotypes), t.values(t.datasets[0], proxy), strict=True))
            for at, t in zip(places, kept, strict=True)
        )
        both = [i for i in full if np.isfinite([full[i], thin.get(i, np.nan), truth[i]]).all()]
        if len(both) < 10:
            continue
        f, t, y = (np.array([of[i] for i in both]) for of in (full, thin, truth))
        rows.append(
            {
                "case": name,
                "proxy": proxy,
                "networks": len(both),
                "thin with full": correlation.spearman(t, f),
                "full with accuracy": correlation.spearman(f, y),
                "thin with accuracy": correlation.spearman(t, y),
            }
        )
    return rows


def over_seeds(name: str, root: pathlib.Path) -> list[dict]:
    """Spearman with accuracy of each seed, and of the seeds with each other."""
    paths = [SCORES / f"{of_seed(name, seed)}.csv.gz" for seed in SEEDS]
    if not all(path.is_file() for path in paths):
        return []
    found, kept = Population(name, root), [tables.read(path) for path in paths]
    (truth,) = found.truths.values()
    accuracy, rows = dict(zip(found.texts, truth, strict=True)), []
    for proxy in kept[-1].metrics(kept[-1].datasets[0]):
        if proxy in save_scores.SIZES:
            continue
        scores = [dict(zip(t.genotypes, t.values(t.datasets[0], proxy), strict=True)) for t in kept]
        both = [g for g in accuracy if all(np.isfinite(s.get(g, np.nan)) for s in scores)]
        values_SxN = np.array([[s[g] for g in both] for s in scores])
        truth_N = np.array([accuracy[g] for g in both])
        pairs = itertools.combinations(values_SxN, 2)
        rhos = [float(correlation.spearman(values, truth_N)) for values in values_SxN]
        rows.append(
            {"case": name, "proxy": proxy, "networks": len(both)}
            | {f"seed {seed}": rho for seed, rho in zip(SEEDS, rhos, strict=True)}
            | {"seed with seed": float(np.mean([correlation.spearman(a, b) for a, b in pairs]))}
        )
    return rows


def main() -> None:
    """Scores what is asked for, or shows what has been scored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/matrix")
    parser.add_argument("--cases", default=",".join((*FULL, *THIN)))
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--proxies", default="", help="only these, with commas between")
    parser.add_argument("--seed", type=int, default=0, choices=SEEDS)
    parser.add_argument("--report", action="store_true", help="score nothing")
    arguments = parser.parse_args()
    for name in () if arguments.report else arguments.cases.split(","):
        score(name, arguments)
    if arguments.report:
        show(pathlib.Path(arguments.data))


if __name__ == "__main__":
    main()
