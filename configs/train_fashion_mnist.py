"""Fashion-MNIST from scratch at 28 px: a small vision transformer, on a CPU.

    lswag-train --config=configs/train_fashion_mnist.py --config.data.data_dir=/data/tfds \
        --workdir=results/train_fashion_mnist

Ten epochs were not run here. With --config.train.epochs=3 it reached a top-1 of 77.1 % on the test
images, in 285 s of CPU time of one core (docs/train.md).

`:quickstart` trains what a search by configs/quickstart.py has found, on embedded images.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "quickstart", "runlocal")
    config = default_train_config(
        "autoformer_tiny", image_size=28, patch_size=4, channels=1, num_classes=10
    )
    config.data.source = "tfds:fashion_mnist"
    config.train.update({"epochs": 10, "batch_size": 128})
    config.optimizer.update({"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_epochs": 1.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"crop": "pad", "flip": True, "smoothing": 0.1})
    if variant == "quickstart":
        config.data.update({"source": "embedded", "eval_split": ""})
        config.train.update({"batch_size": 64, "log_every": 7})
        return config
    config.space.update({"embed_dims": (48, 64, 96), "head_counts": (2, 3, 4), "head_dim": 16})
    config.space.update({"mlp_ratios": (2.0, 3.0, 4.0), "depths": (2, 3, 4)})
    config.genotype = "64/3,3,3/3,3,3"
    return shrink(config) if variant == "runlocal" else config
