"""CIFAR-10 from scratch at its own 32 px, in 8 x 8 patches of 4 px.

    lswag-train --config=configs/train_cifar10.py --config.data.data_dir=/data/tfds \
        --config.genotype=results/search/best.json

Not run here, and no figure of this variant is published; some hours of one accelerator.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config(
        "autoformer_tiny", image_size=32, patch_size=4, channels=3, num_classes=10
    )
    config.data.source = "tfds:cifar10"
    config.train.update({"epochs": 200, "batch_size": 256, "drop_path": 0.1, "workers": 4})
    config.optimizer.update({"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 10.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"crop": "pad", "flip": True, "rand_augment": 2, "erase": 0.25})
    config.augment.update({"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1})
    config.step.ema = 0.999
    return shrink(config) if variant == "runlocal" else config
