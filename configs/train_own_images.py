"""Images of your own: a folder of class folders, or an `.npz` file (docs/data.md).

    lswag-train --config=configs/train_own_images.py --config.data.source=FOLDER \
        --workdir=results/own_images

A small vision transformer of 64 x 64 pixels from scratch, or the genotype of a search in the same
space. Classes and validation are those of the images, a tenth held out where they have no
validation split; the batch and the warm-up are as large as below, or smaller where that suits them.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config(
        "autoformer_tiny", image_size=64, patch_size=8, channels=3, num_classes=0
    )
    config.space.update({"embed_dims": (48, 64, 96), "head_counts": (2, 3, 4), "head_dim": 16})
    config.space.update({"mlp_ratios": (2.0, 3.0, 4.0), "depths": (2, 3, 4, 5, 6)})
    config.genotype = "96/4,4,4,4/4,4,4,4"
    config.data.update({"source": "embedded", "eval_split": "", "fit": True})
    config.train.update({"epochs": 30, "batch_size": 128})
    config.optimizer.update({"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 3.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"crop": "pad", "flip": True, "smoothing": 0.1})
    return shrink(config) if variant == "runlocal" else config
