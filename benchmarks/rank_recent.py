"""Dextr, InTrain, VKDNW and AZ-NAS beside their published figures, on NAS-Bench-201 and -101.

    python benchmarks/run.py rank_recent --data=../shared/data

reports the kept scores of `benchmarks/scores/recent_*`. They are of the networks of the files
without `recent_`, made by

    python benchmarks/run.py rank_recent --data=../shared/data --workdir=results/rank_recent \
        --cases=nb201_cifar10 --batch=16
    python benchmarks/run.py rank_recent --data=../shared/data --workdir=results/rank_recent \
        --cases=nb101_thin --batch=64
    python benchmarks/run.py save_scores --dataset=cifar10 results/rank_recent/nb101_thin \
        --output=benchmarks/scores/recent_nb101_thin.csv.gz

which append rows as they come: a run that is started again resumes.
"""

import argparse
import dataclasses
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
THIN = "_thin"  # at the end of a case: small networks of the same cells, on small images
SMALL = {"width": 16, "cells": 1, "image_size": 16}
CASES = ("nb201_cifar10_thin",)  # that are kept
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


def case_of(name: str) -> rank_cnns.Case:
    """The case of `rank_cnns`, thin where its name says so."""
    case = rank_cnns.CASES[name.removesuffix(THIN)]
    return dataclasses.replace(case, space=case.space | SMALL) if name.endswith(THIN) else case


def score(name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Scores the networks of a kept table, keeping every row."""
    case, root = case_of(name), pathlib.Path(arguments.data)
    known = score_tables.read(SCORES / f"{name.removesuffix(THIN)}.csv.gz")
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
    case, of = case_of(name), name.removesuffix(THIN)
    space, columns = spaces.get(**rank_cnns.CASES[of].space), rank_cnns.read(case, root)
    truth = {}
    for i, value in enumerate(columns[TARGETS[of]]):
        truth.setdefault(space.format(rank_cnns.genotype(space, columns, i)), value)
    files = [score_tables.read(SCORES / f"{stem}.csv.gz") for stem in (f"recent_{name}", of)]
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
        tau, rho = PUBLISHED[of].get(row["proxy"], (None, None))
        best = correlation_parts.ndcg(values[row["proxy"]], accuracy, tenth)
        own = tables.correlations(row) | {"best 10 %": row["top_overlap"], f"nDCG@{tenth}": best}
        shown.append(own | {"published Spearman": rho, "published Kendall": tau})
    tables.show(f"{name}, {TARGETS[of]}", shown, tables.INTERVAL, len(texts))


def main() -> None:
    """Scores what is missing, where a folder is given, or reports what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="", help="scores into this folder; reports if empty")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--batch", type=int, default=64, help="noise images of a network")
    arguments = parser.parse_args()
    for name in arguments.cases.split(","):
        if arguments.workdir:
            score(name, pathlib.Path(arguments.workdir) / name, arguments)
        else:
            report(name, pathlib.Path(arguments.data))


if __name__ == "__main__":
    main()
