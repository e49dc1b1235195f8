"""SVHN from scratch at its own 32 px; digits are not mirrored.

    lswag-train --config=configs/train_svhn.py --config.data.data_dir=/data/tfds \
        --config.genotype=results/search/best.json

Not run here, and no figure of this variant is published; an hour or two of one accelerator.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config(
        "autoformer_tiny", image_size=32, patch_size=4, channels=3, num_classes=10
    )
    config.data.source = "tfds:svhn_cropped"
    config.train.update({"epochs": 50, "batch_size": 256, "drop_path": 0.1, "workers": 4})
    config.optimizer.update({"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 5.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"crop": "pad", "erase": 0.25, "smoothing": 0.1})
    config.step.ema = 0.999
    return shrink(config) if variant == "runlocal" else config
