"""ImageNet-1k by AutoFormer's recipe: a genotype of AutoFormer-Tiny, from scratch or inherited.

    lswag-train --config=configs/train_imagenet.py --config.data.data_dir=/data/tfds \
        --config.genotype=results/search/best.json --config.train.workers=32

Published top-1 of the best genotypes with this recipe: Tiny 74.7, Small 81.7, Base 82.4 %
(AutoFormer, ICCV 2021, 500 epochs of its super-network; it also repeats augmentations, which is not
here). Not run here: it wants 8 accelerators for days. From the published super-network, 30 epochs:

    ... --config.train.init=supernet-tiny.safetensors --config.train.epochs=30 \
        --config.optimizer.learning_rate=1e-4 --config.optimizer.warmup_epochs=1
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config("autoformer_tiny", image_size=224, patch_size=16)
    config.data.update({"source": "tfds:imagenet2012", "eval_split": "validation"})
    config.train.update({"epochs": 500, "batch_size": 1024, "drop_path": 0.1, "workers": 16})
    config.optimizer.update({"learning_rate": 1e-3, "final_learning_rate": 1e-5})
    config.optimizer.update({"weight_decay": 0.05, "warmup_epochs": 20.0})
    config.augment.update({"crop": "resized", "flip": True, "rand_augment": 2, "erase": 0.25})
    config.augment.update({"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1})
    config.step.bfloat16 = True
    return shrink(config) if variant == "runlocal" else config
