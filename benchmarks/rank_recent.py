"""Dextr, InTrain, VKDNW and AZ-NAS beside their published figures, on NAS-Bench-201 and -101.

    python benchmarks/run.py rank_recent --data=../shared/data

reports the kept scores of `benchmarks/scores/recent_*`. They are of the networks of the files
without `recent_`, made by

    python benchmarks/run.py rank_recent --data=../shared/data --workdir=results/rank_recent \
        --cases=nb201_cifar10
    python benchmarks/run.py rank_recent --data=../shared/data --workdir=results/rank_recent \
        --cases=nb101 --batch=16
    python benchmarks/run.py save_scores --dataset=cifar10 results/rank_recent/nb101 \
        --output=benchmarks/scores/recent_nb101.csv.gz

which append rows as they come: a run that is started again goes on.
"""

import argparse
import pathlib

import numpy as np
import rank_cnns
import tables

from lswag_jax import proxies, runs, spaces
from lswag_jax.analysis import correlation_parts
from lswag_jax.analysis import report as correlation_report
from lswag_jax.analysis import tables as score_tables
from lswag_jax.scoring import population as scoring

SCORES = pathlib.Path(__file__).resolve().parent / "scores"
DATASET = "cifar10"
TARGETS = {"nb201_cifar10": "cifar10_test200", "nb101": "val_accuracy"}
SINGLE = ("dextr", "intrain", "vkdnw")
AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "az_nas")
# Kendall and Spearman that the papers print, of AZ-NAS on NAS-Bench-101 the LIBRA paper.
PUBLISHED = {
    "nb201_cifar10": {
        "dextr": (None, 0.90),
        "intrain": (0.669, None),
        "vkdnw": (0.618, 0.815),
        "az_nas": (0.712, 0.892),
    },
    "nb101": {"dextr": (None, 0.65), "intrain": (0.56, 0.75), "az_nas": (None, 0.54)},
}


def score(name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Scores the networks of a kept table, keeping every row."""
    case, root = rank_cnns.CASES[name], pathlib.Path(arguments.data)
    known = score_tables.read(SCORES / f"{name}.csv.gz")
    space = spaces.get(**case.space)
    genotypes = [space.parse(text) for text in known.genotypes]
    lacking = [p for p in AZ_NAS if p not in known.metrics(DATASET)]
    chosen = proxies.resolve([_configured(p, arguments.batch) for p in (*SINGLE, *lacking)])
    images, labels = rank_cnns.batch_of(case, space, root, 0)

    def evaluate(missing):
        return scoring.stream(space, missing, images, labels, chosen)

    folder.mkdir(parents=True, exist_ok=True)
    with runs.Archive(folder, {"case": name, "batch": arguments.batch}) as archive:
        runs.extend(archive, 0, space, genotypes, evaluate)


def _configured(name: str, batch: int) -> proxies.Proxy:
    """A proxy with so many noise images, where it takes any."""
    return proxies.get(name) if name == "dextr" else proxies.get(name, batch=batch)


def report(name: str, root: pathlib.Path) -> None:
    """Shows the correlations of the kept scores with the accuracies."""
    case = rank_cnns.CASES[name]
    space, columns = spaces.get(**case.space), rank_cnns.read(case, root)
    truth = {}
    for i, value in enumerate(columns[TARGETS[name]]):
        truth.setdefault(space.format(rank_cnns.genotype(space, columns, i)), value)
    files = [score_tables.read(SCORES / f"{stem}.csv.gz") for stem in (f"recent_{name}", name)]
    texts = files[0].genotypes
    accuracy = np.array([truth[text] for text in texts], float)
    values = {}
    for proxy in (*SINGLE, *AZ_NAS):
        table = next(file for file in files if proxy in file.metrics(DATASET))
        values[proxy] = table.values(DATASET, proxy)[table.align(texts).index]
    params = np.array([space.num_params(space.parse(text)) for text in texts], float)
    values |= {"params": params}
    shown = []
    tenth = -(-len(texts) // 10)
    for row in correlation_report.summary(values, accuracy, params):
        tau, rho = PUBLISHED[name].get(row["proxy"], (None, None))
        best = correlation_parts.ndcg(values[row["proxy"]], accuracy, tenth)
        own = tables.correlations(row) | {"best 10 %": row["top_overlap"], f"nDCG@{tenth}": best}
        shown.append(own | {"published Spearman": rho, "published Kendall": tau})
    tables.show(f"{name}, {TARGETS[name]}", shown, tables.INTERVAL, len(texts))


def main() -> None:
    """Scores what is missing, where a folder is given, or reports what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="", help="scores into this folder; reports if empty")
    parser.add_argument("--cases", default=",".join(TARGETS))
    parser.add_argument("--batch", type=int, default=64, help="noise images of a network")
    arguments = parser.parse_args()
    for name in arguments.cases.split(","):
        if arguments.workdir:
            score(name, pathlib.Path(arguments.workdir) / name, arguments)
        else:
            report(name, pathlib.Path(arguments.data))


if __name__ == "__main__":
    main()
