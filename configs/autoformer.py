"""Evolution on AutoFormer at 224 px by L-SWAG, on a data set of your own.

    python -m lswag_jax.cli.search --config=configs/autoformer.py:tiny \
        --config.data.source=tfds:imagenet2012 --config.data.data_dir=/data/tfds

`:tiny` (the default), `:small` or `:base`; 1,050 networks with 64 images each. Not run in full
here: benchmarks/RESULTS.md has the seconds per architecture. `configs/autoformer.py:runlocal` takes
a minute or so on embedded images.
"""

from lswag_jax.cli.default_config import chosen, default_config, shrink

# Space and allowed millions of parameters: the budgets of TF-TAS and AZ-NAS for Tiny and Base;
# AutoFormer's published Small has 23.1.
SIZES = {
    "tiny": ("autoformer_tiny", (4.0, 6.2)),
    "small": ("autoformer_small", (18.0, 24.0)),
    "base": ("autoformer_base", (52.0, 56.5)),
}


def get_config(variant=""):
    space, budget = chosen(variant, SIZES, "runlocal")
    config = default_config(
        space,
        image_size=224,  # pixels
        patch_size=16,  # pixels: 14 x 14 patch tokens
        channels=3,
        num_classes=1000,
    )
    config.data.source = "tfds:imagenet2012"
    config.data.batch_size = 64  # images that draw activation patterns
    config.data.gradient_batch = 64  # of these, images whose gradients are taken
    config.data.balanced = False  # 1,000 classes, 64 images
    config.search.params_window = budget
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config)
    return config
