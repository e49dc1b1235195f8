"""L-SWAG and the yardsticks for random networks of NAS-Bench-201, on images of your own.

    python -m lswag_jax.cli.score --config=configs/nasbench201.py --workdir=results/nasbench201 \
        --config.data.source=cifar10.npz

Scores 1,000 genotypes with 64 images each: benchmarks/RESULTS.md has the seconds an architecture
and what the ranking is worth. CIFAR-10, or its other data sets: `configs/nasbench201.py:cifar100`
and `:imagenet16`. `configs/nasbench201.py:runlocal` takes a minute on embedded images.
"""

from lswag_jax.cli.default_config import chosen, default_config, shrink

# Pixels, classes and source of each data set; the first is the default.
DATASETS = {
    "cifar10": (32, 10, "tfds:cifar10"),
    "cifar100": (32, 100, "tfds:cifar100"),
    "imagenet16": (16, 120, "imagenet16-120.npz"),  # which TFDS does not have
}


def get_config(variant=""):
    pixels, classes, source = chosen(variant, DATASETS, "runlocal")
    config = default_config(
        "nasbench201",
        image_size=pixels,
        num_classes=classes,
        width=16,  # channels of the first stage
        cells=5,  # of each stage
    )
    config.data.source = source
    config.score.num = 1000  # random genotypes
    config.search.strategy = "random"
    config.search.num = 1000
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config, image_size=8, width=4, cells=1)
    return config
