"""Evolution on the DARTS space by L-SWAG, with the scoring network of NAS-Bench-301.

    python -m lswag_jax.cli.search --config=configs/darts.py --workdir=results/darts \
        --config.data.source=cifar10.npz

Build the evaluation network of what was found with layers=20, width=36, affine=True. Not run in
full here. `configs/darts.py:runlocal` takes
a few minutes, most of them compiling.
"""

from lswag_jax.cli.default_config import check_variant, default_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_config(
        "darts",
        image_size=32,  # pixels
        num_classes=10,
        layers=8,  # cells
        width=32,  # channels of the first cells
    )
    config.data.source = "tfds:cifar10"
    config.data.gradient_batch = 16  # of 64 images, those whose gradients are taken
    config.search.epochs, config.search.population = 20, 50
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config, image_size=8, width=4, layers=3)
    return config
