"""Searching NAS-Bench-201 by proxies: benchmark accuracy and rank of what is found, over seeds.

    python benchmarks/cnn_search.py --data=../shared/data --workdir=results/cnn_search

Evolution and random search on CIFAR-100 images at 16 px, looked up in the published accuracies on
ImageNet16-120. Searches of one fitness and seed resume.
"""

import argparse
import pathlib

import numpy as np

from lswag_jax import data, search, spaces
from lswag_jax.search import lookup

STRATEGIES = {
    "random": lambda seed, num: search.RandomOptions(num=num, seed=seed),
    "evolution": lambda seed, num: search.EvolutionOptions(
        epochs=num // 20 - 1, population=20, select=8, crossover=10, mutation=10, seed=seed
    ),
}


def main() -> None:
    """Searches and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/cnn_search")
    parser.add_argument("--num", type=int, default=60, help="networks a search")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fitness", default="lswag,nwot,params")
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.data)
    space = spaces.get("nasbench201", num_classes=120, image_size=16)
    truth = lookup.read(
        str(root / "tables" / "nasbench201.csv.gz"), space, "arch_str", "in16_test200"
    )
    path = str(root / "images" / "cifar100.npz")
    batch = data.load_batch(path, 64, seed=0, channels=3, image_size=16, balanced=False)
    print("| fitness | strategy | accuracy of the best | its rank | mean of the best ten |")
    print("|---|---|---|---|---|")
    for fitness in arguments.fitness.split(","):
        for name, options in STRATEGIES.items():
            found = []
            for seed in range(arguments.seeds):
                result = search.run(
                    space,
                    batch.images,
                    batch.labels,
                    (fitness,),
                    options(seed, arguments.num),
                    pathlib.Path(arguments.workdir) / f"{fitness}_{name}_{seed}",
                    config={"fitness": fitness, "strategy": name, "seed": seed},
                    fitness=(fitness,),
                )
                found.append(lookup.look_up(result.table.rows, result.fitness, truth))
            best, top = (np.array([getattr(f, k) for f in found]) for k in ("accuracy", "top"))
            ranks = sorted(f.rank for f in found)
            print(
                f"| {fitness} | {name} | {best.mean():.2f} +- {best.std():.2f} | "
                f"{', '.join(map(str, ranks))} | {top.mean():.2f} |",
                flush=True,
            )
    values = np.array(list(truth.values()))
    print(f"best {values.max():.2f}, mean {values.mean():.2f} of {len(values)}")


if __name__ == "__main__":
    main()
