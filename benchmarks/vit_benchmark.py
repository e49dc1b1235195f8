"""A benchmark of small vision transformers trained here, and what ranks them untrained.

    python benchmarks/vit_benchmark.py --data=../shared/data --workdir=results/vit_benchmark

Genotypes of a reduced AutoFormer space (28 px, 4 x 4 patches) are trained from scratch on a part of
Fashion-MNIST, several at once, then scored by the project's proxies at initialisation. Rows are
appended as they come; a run that is started again goes on.
"""

import argparse
import dataclasses
import json
import pathlib

import numpy as np

from lswag_jax import correlation, data, proxies, scoring, search, sources
from lswag_jax.scores import ScoreTable
from lswag_jax.spaces import AutoFormer
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.benchmark import make_benchmark
from lswag_jax.training.optimizer import OptimizerOptions
from lswag_jax.training.runner import TrainOptions

SPACE = AutoFormer(
    "fashion", (16, 32, 48), (1, 2, 3), (1.0, 2.0, 4.0), (1, 2, 3), head_dim=16,
    image_size=28, patch_size=7, channels=1, num_classes=10,
)  # fmt: skip
PROXIES = "lswag,zico,swap,nwot,synflow,snip,grad_norm,dss,params,macs"


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
    resolved = proxies.resolve(PROXIES.split(","))

    def evaluate(missing):
        return scoring.stream(
            SPACE, missing, batch.images, batch.labels, resolved, seed=arguments.seed,
            gradient_batch=32,
        )  # fmt: skip

    about = {"proxies": PROXIES, "seed": arguments.seed}
    with search.Archive(pathlib.Path(arguments.workdir) / "scores", about) as archive:
        search.extend(archive, 0, SPACE, genotypes, evaluate)
        return ScoreTable(archive, resolved)


def report(rows: list[dict], table: ScoreTable) -> None:
    """Prints accuracies and correlations as Markdown."""
    accuracy = {text: [] for text in table.ids}
    for row in rows:
        accuracy[row["genotype"]].append(float(row["accuracy"][-1]))
    truth = np.array([np.mean(accuracy[text]) for text in table.ids])
    print(f"\n{len(truth)} networks, accuracy {truth.min():.3f} to {truth.max():.3f},")
    seconds = sum(row["seconds"] for row in rows)
    print(f"{seconds:.0f} s of training without compilation")
    per_seed = np.array([accuracy[text] for text in table.ids])
    if per_seed.shape[1] > 1:
        print(f"Spearman of two seeds: {correlation.spearman(*per_seed.T[:2]):.3f}")
    scores = {name: table.values(name) for name in table}
    parts = table.parts["lswag"]
    scores |= {"lambda": parts["lambda"], "psi": parts["psi"]}
    print("\n| proxy | Spearman | 95 % interval | partial Spearman given #params |")
    print("|---|---|---|---|")
    for row in correlation.summary(scores, truth, table.column("params")):
        print(
            f"| {row['proxy']} | {row['rho']:.3f} | [{row['rho_low']:.2f}, {row['rho_high']:.2f}] "
            f"| {row['partial_rho']:.3f} |"
        )


def main() -> None:
    """Trains, scores and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/vit_benchmark")
    parser.add_argument("--num", type=int, default=24, help="genotypes")
    parser.add_argument("--images", type=int, default=6000, help="training images")
    parser.add_argument("--validation", type=int, default=2000, help="validation images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--at_once", type=int, default=8, help="networks trained together")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of genotypes")
    arguments = parser.parse_args()
    print(json.dumps(vars(arguments)))
    rows = train(arguments)
    genotypes = [SPACE.parse(text) for text in dict.fromkeys(row["genotype"] for row in rows)]
    report(rows, score(arguments, genotypes))


if __name__ == "__main__":
    main()
