"""Oxford-IIIT Pets at 224 px: weights inherited from AutoFormer's super-network, fine-tuned.

    lswag-train --config=configs/train_pets.py --config.data.data_dir=/data/tfds \
        --config.genotype=results/search/best.json --config.train.init=supernet-tiny.safetensors

The classifier of 37 breeds is drawn anew. `init` is the state dict of microsoft/Cream's
super-network (`model` of supernet-tiny.pth, saved once as safetensors), or the folder of one that
was trained here (docs/train.md). Not run here, and no figure of this recipe is published; minutes
of one accelerator.
"""

from lswag_jax.cli.default_config import check_variant
from lswag_jax.cli.default_train_config import default_train_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_train_config("autoformer_tiny", image_size=224, num_classes=37)
    config.data.source = "tfds:oxford_iiit_pet"
    config.train.update({"epochs": 30, "batch_size": 128, "drop_path": 0.1, "workers": 8})
    config.optimizer.update({"learning_rate": 1e-4, "weight_decay": 0.05, "warmup_epochs": 3.0})
    config.optimizer.clip_norm = 1.0
    config.augment.update({"crop": "resized", "min_scale": 0.25, "flip": True, "smoothing": 0.1})
    config.step.bfloat16 = True
    return shrink(config) if variant == "runlocal" else config
