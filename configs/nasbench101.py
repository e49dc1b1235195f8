"""L-SWAG and the yardsticks for random networks of NAS-Bench-101.

    python -m lswag_jax.cli.score --config=configs/nasbench101.py --workdir=results/nasbench101 \
        --config.data.source=cifar10.npz

200 genotypes. Not run in full here:
`configs/nasbench101.py:runlocal` takes a few minutes, most of them compiling.
"""

from lswag_jax.cli.default_config import check_variant, default_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_config(
        "nasbench101",
        image_size=32,  # pixels
        num_classes=10,
        width=128,  # channels of the stem
        stacks=3,  # of cells, with half the resolution and twice the channels each
        cells=3,  # of each stack
    )
    config.data.source = "tfds:cifar10"
    config.data.gradient_batch = 16  # of 64 images, those whose gradients are taken
    config.score.num = 200  # random genotypes
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config, image_size=8, width=8, stacks=2, cells=1)
    return config
