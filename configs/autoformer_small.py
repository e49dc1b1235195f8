"""Evolution on AutoFormer-Small at 224 px by L-SWAG, on a data set of your own.

    python -m lswag_jax.cli.search --config=configs/autoformer_small.py \
        --config.data.source=tfds:imagenet2012 --config.data.data_dir=/data/tfds

1,050 networks with 64 images each. Not run in full here: benchmarks/RESULTS.md has the seconds an
architecture. `configs/autoformer_small.py:runlocal` takes a minute or so on embedded images.
"""

from lswag_jax.cli.default_config import default_config, shrink


def get_config(variant=""):
    config = default_config(
        "autoformer_small",
        image_size=224,  # pixels
        patch_size=16,  # pixels: 14 x 14 patch tokens
        channels=3,
        num_classes=1000,
    )
    config.data.source = "tfds:imagenet2012"
    config.data.batch_size = 64  # images that draw activation patterns
    config.data.gradient_batch = 64  # of these, images whose gradients are taken
    config.data.balanced = False  # 1,000 classes, 64 images
    config.search.params_window = (
        18.0,
        24.0,
    )  # millions of parameters: S 18-24 (the published result has 23.1)
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config)
    return config
