"""Random search on NAS-Bench-201 by L-SWAG, on images of your own.

    python -m lswag_jax.cli.score --config=configs/nasbench201.py --workdir=results/nasbench201 \
        --config.data.source=cifar10.npz

Scores 1,000 genotypes with 64 images each: benchmarks/RESULTS.md has the seconds an architecture
and what the ranking is worth. `configs/nasbench201.py:runlocal` takes a minute on embedded images.
"""

from lswag_jax.cli.default_config import default_config, shrink


def get_config(variant=""):
    config = default_config(
        "nasbench201",
        image_size=32,  # pixels; 16 for ImageNet16-120
        num_classes=10,  # 100, 120
        width=16,  # channels of the first stage
        cells=5,  # of each stage
    )
    config.data.source = "tfds:cifar10"
    config.score.num = 1000  # random genotypes
    config.search.strategy = "random"
    config.search.num = 1000
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config, image_size=8, width=4, cells=1)
    return config
