"""Our proxies beside other people's values and published accuracies, on NAS-Bench-201.

    python benchmarks/run.py proxy_agreement --data=../shared/data --workdir=results/proxy_agreement

Seeded genotypes on a batch of real CIFAR-10 images. For every proxy its Spearman correlation with
CIFAR-10 test accuracy, and with each published column of the same name: over networks of which
both have a value. Rows are appended as they come; a run that is started again resumes. Data-free
proxies on the whole benchmark:

    python benchmarks/run.py proxy_agreement --proxies=synflow,logsynflow --num=15625 --batch=2 \
        --workdir=results/synflow_agreement
"""

import argparse
import json
import pathlib

import numpy as np
import pyarrow.csv
import tables
from scipy import stats

from lswag_jax import data, proxies, runs, spaces
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring.table import ScoreTable

TRUTH = "cifar10_test200"
# Of ours, the published columns that should rank as it does.
COLUMNS = {
    **{
        name: (f"cifar10_nbsz_{name}",)
        for name in ("epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "plain", "snip")
    },
    "nwot": ("cifar10_nbsz_nwot", "cifar10_freerea_naswot", "cifar10_naswot_mellor"),
    "synflow": ("cifar10_nbsz_synflow", "cifar10_freerea_synflow"),
    "logsynflow": ("cifar10_freerea_logsynflow",),
    "zen": ("cifar10_nbsz_zen", "cifar10_zen"),
    "params": ("cifar10_nbsz_params",),
    "macs": ("cifar10_nbsz_flops",),
}
# `ntk` through the statistics of BatchNorm takes a backward pass for each of the 64 samples.
CHOSEN = [
    proxies.get(name, batch_norm="frozen") if name in ("ntk", "te_nas") else proxies.get(name)
    for name in proxies.names()
    if name not in ("lswag_kernel", "te_nas", "dss", "autoprox_a")
]


def rho(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Spearman where both are finite, and how many those are."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(stats.spearmanr(a[both], b[both]).statistic), int(both.sum())


def report(table: ScoreTable, columns: dict[str, np.ndarray]) -> None:
    """Shows a row of each proxy and published column."""
    rows = []
    for name in table:
        ours = table.values(name)
        with_truth = stats.spearmanr(ours, columns[TRUTH]).statistic
        failed = int(np.isneginf(ours).sum())
        ours_alone = {"proxy": name, "with accuracy": with_truth, "failed": failed}
        nothing = dict.fromkeys(("published", "its own", "agreement", "networks"))
        if name not in COLUMNS:
            rows.append(ours_alone | nothing)
        for column in COLUMNS.get(name, ()):
            theirs = columns[column].astype(float)
            theirs = np.where(theirs <= -1e7, np.nan, theirs)
            agreement, n = rho(np.where(np.isneginf(ours), np.nan, ours), theirs)
            own, _ = rho(theirs, columns[TRUTH])
            theirs_too = {"published": column, "its own": own, "agreement": agreement}
            rows.append(ours_alone | theirs_too | {"networks": n})
    tables.show(f"{len(table)} networks", rows, n=len(table))


def main() -> None:
    """Scores what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/proxy_agreement")
    parser.add_argument("--proxies", default="", help="names; all that are compared if empty")
    parser.add_argument("--num", type=int, default=200, help="networks that NASLib has values of")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.data)
    table = pyarrow.csv.read_csv(root / "tables" / "nasbench201.csv.gz")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    known = np.isfinite(columns["cifar10_nbsz_nwot"].astype(float))
    known = np.flatnonzero(known | (arguments.num > known.sum()))
    rows = np.random.default_rng(arguments.seed).permutation(known)[: arguments.num]
    space = spaces.get("nasbench201")
    genotypes = [space.parse(columns["arch_str"][i]) for i in rows]
    path = str(root / "images" / "cifar10.npz")
    batch = data.load_batch(path, arguments.batch, seed=0, channels=3, balanced=False)
    wanted = arguments.proxies.split(",") if arguments.proxies else [p.key for p in CHOSEN]
    chosen = [p for p in proxies.resolve(CHOSEN) if p.key in wanted]

    def evaluate(missing):
        return scoring.stream(space, missing, batch.images, batch.labels, chosen)

    about = {"seed": arguments.seed, "batch": arguments.batch}
    with runs.Archive(pathlib.Path(arguments.workdir), about) as archive:
        runs.extend(archive, 0, space, genotypes, evaluate)
        scores = ScoreTable(archive, chosen)
    print(json.dumps(vars(arguments)))
    report(scores, {name: column[rows] for name, column in columns.items()})


if __name__ == "__main__":
    main()
