"""A benchmark of small vision transformers trained here, and what ranks them untrained.

    python benchmarks/run.py train_vits --data=../shared/data --workdir=results/fashion_vits

Genotypes of a reduced AutoFormer space (28 px, 4 x 4 patches) are trained from scratch on a part of
Fashion-MNIST, several at once, then scored by the project's proxies at initialisation. Rows are
appended as they come; a run that is started again resumes. `--save=benchmarks/fashion_vits` writes
the table of trained networks and its recipe, the two files of the repository.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import sys

import jax
import numpy as np
import tables as result_tables

from lswag_jax import data, proxies, runs
from lswag_jax.analysis import correlation, tables
from lswag_jax.analysis import report as correlation_report
from lswag_jax.data import sources
from lswag_jax.files import write_atomically
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces import AutoFormer
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.benchmark import make_benchmark
from lswag_jax.training.optimizer import OptimizerOptions
from lswag_jax.training.runner import TrainOptions

SPACE = AutoFormer(
    "fashion", (16, 32, 48), (1, 2, 3), (1.0, 2.0, 4.0), (1, 2, 3), head_dim=16,
    image_size=28, patch_size=7, channels=1, num_classes=10,
)  # fmt: skip
METRICS = ("accuracy", "accuracy_seed0", "accuracy_seed1", "params", "macs")


def part(pool: sources.Pool, num: int) -> sources.Pool:
    """The first images of a pool, whose order is random."""
    return dataclasses.replace(pool, size=num, where=f"{pool.where}, the first {num}")


def train(arguments) -> list[dict]:
    """Rows of the trained networks."""
    path = str(pathlib.Path(arguments.data) / "images" / "fashion_mnist_full.npz")
    pools = (
        part(sources.open_pool(path, "train"), arguments.images),
        part(sources.open_pool(path, "test"), arguments.validation),
    )
    drawn = SPACE.sample(np.random.default_rng(arguments.seed), 10 * arguments.num)
    genotypes = list(dict.fromkeys(drawn))[: arguments.num]
    options = TrainOptions(
        epochs=arguments.epochs,
        batch_size=64,
        optimizer=OptimizerOptions(2e-3, warmup_epochs=1, clip_norm=1.0),
        augment=AugmentOptions(flip=True),
    )
    return make_benchmark(
        SPACE, genotypes, {"fashion_mnist": pools}, options, arguments.workdir,
        seeds=range(arguments.seeds), at_once=arguments.at_once,
        progress=lambda done, text: print(done, text, flush=True),
    )  # fmt: skip


def score(arguments, genotypes: list) -> ScoreTable:
    """The proxies of the networks at initialisation."""
    path = str(pathlib.Path(arguments.data) / "images" / "fashion_mnist_full.npz")
    batch = data.load_batch(path, 64, seed=arguments.seed)
    resolved = proxies.resolve("all")

    def evaluate(missing):
        return scoring.stream(
            SPACE, missing, batch.images, batch.labels, resolved, seed=arguments.seed,
            gradient_batch=32,
        )  # fmt: skip

    about = {"proxies": "all", "seed": arguments.seed}
    with runs.Archive(pathlib.Path(arguments.workdir) / "scores", about) as archive:
        runs.extend(archive, 0, SPACE, genotypes, evaluate)
        return ScoreTable(archive, resolved)


def accuracies(rows: list[dict], texts: list[str]) -> np.ndarray:
    """Accuracy after the last epoch of genotypes [P] with each seed, [P, S]."""
    found = {text: [] for text in texts}
    for row in rows:
        found[row["genotype"]].append(float(row["accuracy"][-1]))
    return np.array([found[text] for text in texts])


def spread(accuracy_PxS: np.ndarray) -> None:
    """Prints how much genotypes differ, and how much seeds of one genotype."""
    mean = accuracy_PxS.mean(axis=1)
    print(f"\n{len(mean)} networks, accuracy {mean.min():.4f} to {mean.max():.4f}")
    if accuracy_PxS.shape[1] > 1:
        within = np.sqrt(accuracy_PxS.var(axis=1, ddof=1).mean())
        print(
            f"standard deviation of the mean over seeds between genotypes {mean.std(ddof=1):.4f},"
        )
        print(f"of the seeds of one genotype {within:.4f};", end=" ")
        print(f"Spearman of two seeds {correlation.spearman(*accuracy_PxS.T[:2]):.3f}")


def report(rows: list[dict], table: ScoreTable) -> None:
    """Prints accuracies, shows correlations."""
    accuracy_PxS = accuracies(rows, table.ids)
    spread(accuracy_PxS)
    print(f"{sum(row['seconds'] for row in rows):.0f} s of training without compilation")
    useful = [name for name in table if set(table.statuses[name]) != {"not_applicable"}]
    print("not applicable: " + ", ".join(name for name in table if name not in useful))
    scores = {name: table.values(name) for name in useful}
    parts = table.parts["lswag"]
    scores |= {"Lambda": parts["lambda"], "Psi": parts["psi"]}
    rows = correlation_report.summary(scores, accuracy_PxS.mean(axis=1), table.column("params"))
    rows = [result_tables.correlations(row) for row in rows]
    result_tables.show("fashion_mnist", rows, result_tables.INTERVAL, len(accuracy_PxS))


def save(workdir: str, path: str) -> None:
    """Writes the compact table `path`.csv of a benchmark and its recipe `path`.json."""
    folder = pathlib.Path(workdir)
    tables.read(folder / "table.csv", SPACE).only(METRICS).write(f"{path}.csv")
    recipe = json.loads((folder / "config.json").read_text())
    del recipe["genotypes"]
    about = {"command": " ".join(["python", *sys.argv]), "device": str(jax.devices()[0])}
    text = json.dumps(about | {"date": f"{datetime.date.today()}"} | recipe, indent=1)
    write_atomically(f"{path}.json", text + "\n")


def main() -> None:
    """Trains, scores and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/fashion_vits")
    parser.add_argument("--num", type=int, default=24, help="genotypes")
    parser.add_argument("--images", type=int, default=15000, help="training images")
    parser.add_argument("--validation", type=int, default=4000, help="validation images")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--at_once", type=int, default=8, help="networks trained together")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of genotypes")
    parser.add_argument("--save", default="", help="path of the table and recipe, without suffix")
    arguments = parser.parse_args()
    print(json.dumps(vars(arguments)))
    rows = train(arguments)
    if arguments.save:
        save(arguments.workdir, arguments.save)
    genotypes = [SPACE.parse(text) for text in dict.fromkeys(row["genotype"] for row in rows)]
    report(rows, score(arguments, genotypes))


if __name__ == "__main__":
    main()
