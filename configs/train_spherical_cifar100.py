"""Spherical CIFAR-100: images projected onto a randomly turned sphere, 60 x 60 points.

    lswag-train --config=configs/train_spherical_cifar100.py --config.data.data_dir=/data/tfds \
        --config.genotype=results/search/best.json

The projection is `lswag_jax.data.sphere`, the task that of NAS-Bench-360, whose networks differ.
Not run here, and no figure of this variant is published; some hours of one accelerator.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config(
        "autoformer_tiny", image_size=60, patch_size=6, channels=3, num_classes=100
    )
    config.data.source = "sphere:tfds:cifar100"
    config.train.update({"epochs": 200, "batch_size": 256, "drop_path": 0.1, "workers": 8})
    config.optimizer.update({"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 10.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"erase": 0.25, "mixup": 0.8, "smoothing": 0.1})
    config.step.ema = 0.999
    return shrink(config) if variant == "runlocal" else config
