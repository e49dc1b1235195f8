"""Makes the toy benchmark in `lswag_jax/assets`: small cells trained on Fashion-MNIST, and scores.

    python scripts/make_toy_benchmark.py --images=../shared/data/images/fashion_mnist.npz

48 random NAS-Bench-201 cells in a network of three cells, 4 channels and 16 px, each trained from
scratch (SGD, cosine) on 2,560 images for 4 epochs and tested on 1,000 others. It is small enough to
be made on a laptop and to come with the package, and no stand-in for a benchmark: a test accuracy
has a standard error of about 1.4 %.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lswag_jax
from lswag_jax import data, spaces
from lswag_jax.analysis import tables

SPACE = spaces.get("nasbench201", image_size=16, channels=1, num_classes=10, width=4, cells=1)
PROXIES = ("lswag", "zico", "swap", "nwot", "snip", "fisher", "grad_norm", "l2_norm", "synflow",
           "jacov", "zen", "params", "macs")  # fmt: skip
DATASET, BATCH, EPOCHS, RATE = "fashion_mnist", 64, 4, 0.1
TARGET = pathlib.Path(lswag_jax.__file__).parent / "assets" / "toy_nasbench201.csv.gz"


def make_trainer(train: data.Batch, test: data.Batch):
    """A jitted function from an encoded genotype and a key to test accuracy in percent.

    BatchNorm normalises by the batch, in the test by that of all test images.
    """
    images, targets = jnp.asarray(train.images), jnp.asarray(train.labels)
    network, steps = SPACE.network(), EPOCHS * (len(train.images) // BATCH)
    optimizer = optax.chain(
        optax.add_decayed_weights(5e-4),
        optax.sgd(optax.cosine_decay_schedule(RATE, steps), momentum=0.9, nesterov=True),
    )

    def logits(params, stats, encoded, images):
        variables = {"params": params, "batch_stats": stats}
        return network.apply(variables, images, encoded, train=True, mutable=["batch_stats"])[0]

    @jax.jit
    def accuracy(encoded, key):
        first, second = jax.random.split(key)
        variables = SPACE.active_variables(SPACE.init(first), encoded)
        stats = variables["batch_stats"]
        keys = jax.random.split(second, EPOCHS)
        order = jax.vmap(lambda k: jax.random.permutation(k, len(train.images)))(keys)
        batches = order[:, : len(train.images) // BATCH * BATCH].reshape(-1, BATCH)

        def step(carry, index):
            params, state = carry

            def loss(params):
                out = logits(params, stats, encoded, images[index])
                labels = targets[index]
                return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = variables["params"]
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        right = logits(params, stats, encoded, test.images).argmax(-1) == test.labels
        return 100 * right.mean()

    return accuracy


def main() -> None:
    """Trains, scores and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="../shared/data/images/fashion_mnist.npz")
    parser.add_argument("--num", type=int, default=48)
    arguments = parser.parse_args()
    options = {"image_size": 16, "channels": 1, "balanced": False}
    train = data.load_batch(arguments.images, None, split="train", **options)
    test = data.load_batch(arguments.images, None, split="test", **options)
    genotypes = list(dict.fromkeys(SPACE.sample(np.random.default_rng(0), arguments.num)))
    texts, trainer = [SPACE.format(g) for g in genotypes], make_trainer(train, test)
    accuracies = []
    for i, text in enumerate(texts):
        encoded = jax.tree.map(lambda a: a[0], SPACE.encode(genotypes[i : i + 1]))
        accuracies.append(float(trainer(encoded, jax.random.key(i))))
        print(f"{accuracies[-1]:.1f} {text}", flush=True)
    table = lswag_jax.score(SPACE, genotypes, train.images[:64], train.labels[:64], PROXIES)
    about = f"scripts/make_toy_benchmark.py, {len(train.images)} training images"
    columns = {"test_accuracy": np.array(accuracies)} | {p: table.values(p) for p in PROXIES}
    records = [tables.Records(DATASET, m, texts, v, about) for m, v in columns.items()]
    tables.GroundTruth.from_records(records).write(TARGET)


if __name__ == "__main__":
    main()
