"""The images of `lswag-train`, and what it chooses for them where the config says `data.fit`."""

import copy

from absl import logging
from ml_collections import ConfigDict

STEPS = 8  # least number of steps of an epoch, where batches may be made smaller for it
WARMUP = 0.1  # largest share of the epochs


def load_pools(config: ConfigDict, seed: int):
    """Pools of training and validation images of a config."""
    from lswag_jax import data as datasets

    data = config.data
    training = open_pool(data, data.split)
    if data.eval_split:
        return training, open_pool(data, data.eval_split)
    return datasets.hold_out(training, data.hold_out, seed)


def open_pool(data: ConfigDict, split: str):
    """The pool of a split of a config's data."""
    from lswag_jax import data as datasets

    folder = data.data_dir or None
    return datasets.open_pool(data.source, split, data.label_key, folder, data.download)


def fitted(config: ConfigDict) -> ConfigDict:
    """A config with the classes and the validation of its images, and a batch that suits them.

    What the config has is the most that is taken: images of a batch, epochs of warm-up. A
    validation split that it names stays, and so does the number of classes unless it is 0.

    Args:
        config: of `lswag-train`.

    Returns:
        A changed copy; what was chosen is logged.
    """
    from lswag_jax.data import folders, sources

    config = copy.deepcopy(config)
    data = config.data
    if not data.eval_split:
        names = sources.split_names(data.source, data.data_dir or None)
        data.eval_split = folders.find_split(folders.VALIDATION, names) or ""
    # Validation images are opened too, so that a mistake in them is told before the training.
    training, _ = load_pools(config, config.train.seed)
    chosen = f"{training.num_classes} classes"
    if "num_classes" in config.space:  # a space of your own may have it in itself
        if config.space.num_classes:
            chosen = f"{config.space.num_classes} classes, as set"
        config.space.num_classes = config.space.num_classes or training.num_classes
    config.train.batch_size = batch_size(
        config.train.batch_size, training.size, config.step.accumulate
    )
    longest = WARMUP * config.train.epochs
    config.optimizer.warmup_epochs = float(min(config.optimizer.warmup_epochs, longest))
    names = ", ".join(map(str, (training.classes or ())[:10]))
    held_out = data.eval_split or f"a random {data.hold_out:.0%} of the training images"
    warmup, epochs = config.optimizer.warmup_epochs, config.train.epochs
    logging.info("chosen for these images (data.fit):")
    logging.info("  %s", chosen + (f" ({names})" if names else ""))
    logging.info("  validation on %s", held_out)
    logging.info(
        "  batches of %d, warm-up %.3g of %d epochs", config.train.batch_size, warmup, epochs
    )
    return config


def batch_size(largest: int, images: int, accumulate: int = 1) -> int:
    """The largest power of two, or `largest`, that leaves an epoch some steps.

    Args:
        largest: that may be taken.
        images: of an epoch.
        accumulate: parts of a batch, which it is a multiple of.

    Returns:
        A multiple of the parts and of this process's devices where the images suffice.

    Example:
        >>> [batch_size(64, images) for images in (10_000, 200, 30, 1)]
        [64, 16, 2, 1]
    """
    import jax

    least = accumulate * jax.local_device_count()
    suits = max(images // STEPS, 1)
    if suits >= largest:
        return largest
    power = 1 << (suits.bit_length() - 1)
    return min(largest, max(power // least * least, least))
