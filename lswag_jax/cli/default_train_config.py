"""The keys that the config of `lswag-train` has, with their defaults.

A config file (`configs/train_*.py`) changes some of them; the command line overrides single ones,
as in `--config.train.epochs=5`. Unknown keys are refused, and what a file lacks is as here.
"""

import dataclasses

from ml_collections import ConfigDict

from lswag_jax.cli.default_config import space_config
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import OptimizerOptions
from lswag_jax.training.runner import TrainOptions
from lswag_jax.training.step import StepOptions


def default_train_config(space: str = "autoformer_tiny", **space_arguments) -> ConfigDict:
    """The default config for training a genotype of a search space.

    Args:
        space: name of the space, see `lswag_jax.spaces.get`.
        **space_arguments: arguments of the space, such as `image_size` (pixels) or `num_classes`.
    """
    config = ConfigDict()
    # A genotype's text, or a file with one, such as a search's best.json; or "supernet".
    config.genotype = ""
    config.space = space_config(space, **space_arguments)
    config.data = {
        # embedded, tfds:NAME, an .npz file, a folder, module:NAME of your own, or sphere: and these
        "source": "embedded",
        "split": "train",
        "eval_split": "test",  # empty for a held-out part of the training images
        # Take classes and validation split from the images; shrink batch and warm-up to suit them.
        "fit": False,
        "hold_out": 0.1,  # share of the training images that is held out, where eval_split is empty
        "normalize": "dataset",  # dataset, unit ([0, 1]) or symmetric ([-1, 1])
        "label_key": "label",  # of an .npz file or TFDS data set
        "data_dir": "",  # of TFDS; empty for its default
        "download": False,  # let TFDS prepare the data set (needs the extra [tf])
    }
    nested = {"optimizer", "augment", "step"}
    # What each option does and its unit: the classes' own documentation.
    config.train = {key: v for key, v in _defaults(TrainOptions()).items() if key not in nested}
    config.augment = _defaults(AugmentOptions())
    config.optimizer = _defaults(OptimizerOptions())
    config.step = _defaults(StepOptions())
    config.tensorboard = False  # metrics for TensorBoard, too
    return config


def _defaults(options) -> dict:
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}


def shrink(config: ConfigDict) -> ConfigDict:
    """Makes a recipe take a minute on a laptop: embedded images, 28 px in 4 patches, 2 epochs."""
    config.space.update({"image_size": 28, "channels": 1})
    if not config.data.get("fit"):
        config.space.num_classes = 10
    if "patch_size" in config.space:
        config.space.patch_size = 14
    config.data.update({"source": "embedded", "eval_split": ""})
    config.train.update({"epochs": 2, "batch_size": 32, "log_every": 4, "init": ""})
    config.optimizer.warmup_epochs = 1
    return config
