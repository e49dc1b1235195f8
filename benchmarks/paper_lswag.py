"""What else the paper's L-SWAG on NAS-Bench-201 could be: other statistics, weights and draws.

    python benchmarks/run.py paper_lswag --data=../shared/data --workdir=results/paper_lswag
    python benchmarks/run.py --save paper_lswag --data=../shared/data      # the kept factors

Lambda over samples and over mini-batches, by three modes of BatchNorm and of several initial
weights; Psi of the network's weights and of N(0, 1) as SWAP's code draws them, on images and on
noise. The product of each pair is ranked against validation accuracy on CIFAR-10, where the paper
prints .79. Windows and other ways to count patterns are in `rank_cnns_report`. The networks are the
first of `rank_cnns`. The search-space model of NASLib (branch zerocost, nasbench201/graph.py), on
which the paper builds, is no reading of its own: it has the layers and PyTorch's initialisation
that ours has.
"""

import argparse
import itertools
import pathlib

import numpy as np
import rank_cnns
import save_scores
import tables as result_tables

from lswag_jax import runs, spaces
from lswag_jax.analysis import correlation, tables
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.proxies import LSwag, Swap, resolve
from lswag_jax.scoring import population
from lswag_jax.scoring.table import ScoreTable

KEPT = pathlib.Path(__file__).resolve().parent / "scores" / "paper_lswag.csv.gz"
CASE, TARGET = "nb201_cifar10", "cifar10_nbsz_val"
BATCHES = (4, 16)
MINIBATCH = [
    LSwag(label=f"over {n} mini-batches", var_over="minibatch", n_batches=n) for n in BATCHES
]
DRAWN = [
    Swap(label="N(0, 1) weights", init="normal01"),
    Swap(label="N(0, 1) weights, noise", init="normal01", images="noise"),
]
SAMPLES = LSwag(label="over samples")
SETTINGS = {  # of scoring, and the proxies that are read there
    "": ({}, [SAMPLES, *MINIBATCH, *DRAWN]),
    "BatchNorm per sample": ({"batch_norm": "batch1_train"}, [SAMPLES]),
    "BatchNorm off": ({"batch_norm": "eval"}, [SAMPLES]),
    "mean of 4 draws": ({"repeats": 4}, [SAMPLES]),
}


def score(root: pathlib.Path, folder: pathlib.Path, num: int) -> None:
    """Keeps Lambda and Psi of every setting."""
    case = rank_cnns.CASES[CASE]
    space, columns = spaces.get(**case.space), rank_cnns.read(case, root)
    order = np.random.default_rng(0).permutation(len(columns["arch_str"]))[:num]
    genotypes = [rank_cnns.genotype(space, columns, i) for i in order]
    images, labels = rank_cnns.batch_of(case, space, root, 0)
    found: list[Records] = []
    for setting, (options, proxies) in SETTINGS.items():

        def evaluate(members, proxies=proxies, options=options):
            return population.stream(space, members, images, labels, proxies, **options)

        about = {"setting": setting, "num": num}
        with runs.Archive(folder / (setting or "default").replace(" ", "_"), about) as archive:
            runs.extend(archive, 0, space, genotypes, evaluate)
            table = ScoreTable(archive, resolve(proxies))
        for proxy in table:
            parts = ("lambda", "psi") if "lambda" in table.parts[proxy] else ("score",)
            for part in parts:
                metric = f"{part}: {', '.join(filter(None, (proxy, setting)))}"
                values = np.round(table.parts[proxy][part], 12)
                found.append(Records(CASE, metric, table.ids, values, save_scores.PROVENANCE))
        GroundTruth.from_records(found).write(KEPT)
        print(setting or "default", f"{np.median(table.column('seconds')):.1f} s each", flush=True)


def show(root: pathlib.Path) -> None:
    """The correlation of every product of a Lambda and a Psi."""
    case, kept = rank_cnns.CASES[CASE], tables.read(KEPT)
    space, columns = spaces.get(**case.space), rank_cnns.read(case, root)
    truth = dict(zip(map(space.parse, columns["arch_str"]), columns[TARGET], strict=True))
    accuracy = np.array([truth[space.parse(text)] for text in kept.genotypes], float)
    lambdas: dict[str, np.ndarray | float] = {"none": 1.0}
    psis: dict[str, np.ndarray | float] = {"none": 1.0}
    for metric in kept.metrics(CASE):
        part, _, name = metric.partition(": ")
        to = lambdas if part == "lambda" else psis
        to[name] = kept.values(CASE, metric)
    psis = {name: psis[name] for name in ("none", SAMPLES.label, *(p.label for p in DRAWN))}
    known = np.isfinite(accuracy)
    rows: list[dict] = [{"Lambda": name} for name in lambdas]
    for (row, lam), (psi, count) in itertools.product(
        zip(rows, lambdas.values(), strict=True), psis.items()
    ):
        value = np.broadcast_to(lam * count, accuracy.shape)
        value = np.where(np.isfinite(value), value, -np.inf)  # a failure has the worst rank
        title = {"none": "no Psi", SAMPLES.label: "Psi"}.get(psi, f"Psi: {psi}")
        row[title] = correlation.spearman(value[known], accuracy[known])
    result_tables.show("readings of L-SWAG", rows, 3, int(known.sum()))


def main() -> None:
    """Scores where a folder is given, or shows what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="", help="scores into this folder; reports if empty")
    parser.add_argument("--num", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.workdir:
        score(pathlib.Path(arguments.data), pathlib.Path(arguments.workdir), arguments.num)
    else:
        show(pathlib.Path(arguments.data))


if __name__ == "__main__":
    main()
