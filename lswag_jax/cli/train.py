"""Trains a genotype, or a super-network, on images; resumable by its working directory.

    python -m lswag_jax.cli.train --config=configs/train_fashion_mnist.py \\
        --config.genotype=results/quickstart/best.json --workdir=results/train

The working directory receives config.json, metrics.jsonl (training and validation, as they come),
checkpoints/ and at the end model/: genotype, weights (safetensors and orbax) and a model card,
which `lswag_jax.load` reads. A killed run that is started again resumes where it stopped.
"""

import logging as python_logging
import os
import pathlib
import sys
from contextlib import contextmanager

from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, own_data, progress
from lswag_jax.cli.own_data import load_pools
from lswag_jax.cli.score import read_genotypes
from lswag_jax.extras import extra


def main(config: ConfigDict, workdir: str) -> None:
    """Trains as `config` says and writes the results to `workdir`."""
    from lswag_jax.training import runner

    _quiet()
    if config.data.fit:
        config = own_data.fitted(config)
    space, options = loading.load_space(config), load_options(config)
    genotype = load_genotype(config, space)
    training, validation = load_pools(config, options.seed)
    if genotype is not None:
        size = space.num_params(genotype) / 1e6, space.macs(genotype) / 1e6
        logging.info("%s: %.4g M parameters, %.4g M MACs", space.format(genotype), *size)
    logging.info("training: %s, %d images", training.where, training.size)
    logging.info("validation: %s, %d images", validation.where, validation.size)
    steps = options.epochs * (training.size // options.batch_size)
    with progress.progress_bar("train", steps) as show, _writer(config, workdir) as writer:
        model = runner.train(
            space,
            genotype,
            training,
            validation,
            options,
            workdir,
            normalize=config.data.normalize,
            writer=writer,
            progress=show,
        )
    logging.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in model.metrics.items()))
    logging.info("results in %s", pathlib.Path(workdir).resolve())


def load_options(config: ConfigDict):
    """The training's options of a config."""
    from lswag_jax.training.augment import AugmentOptions
    from lswag_jax.training.optimizer import OptimizerOptions
    from lswag_jax.training.runner import TrainOptions
    from lswag_jax.training.step import StepOptions

    classes = {"optimizer": OptimizerOptions, "augment": AugmentOptions, "step": StepOptions}
    parts = {key: loading.load_options(cls, config, key) for key, cls in classes.items()}
    with loading.in_section("step", config.step):  # whose parts must divide a batch
        return loading.load_options(TrainOptions, config, "train", **parts)


def load_genotype(config: ConfigDict, space):
    """The genotype of a config, a text or a file; None for the super-network.

    Raises:
        ValueError: none, several, or one of another space.
    """
    text = config.genotype
    if not text:
        raise ValueError(
            "give a genotype, for example --config.genotype=results/quickstart/best.json."
        )
    if text == "supernet":
        return None
    if not pathlib.Path(text).suffix.startswith(".json") and not os.path.isfile(text):
        return space.parse(text)

    def refuse(message: str) -> None:
        raise ValueError(message)

    genotypes = read_genotypes(text, space, refuse)
    if len(genotypes) > 1:
        raise ValueError(f"{text} holds {len(genotypes)} genotypes, a training is of one.")
    return genotypes[0]


@contextmanager
def _writer(config: ConfigDict, workdir: str):
    """TensorBoard's writer where it is wanted, else None."""
    if not config.tensorboard:
        yield None
        return
    with extra("train"):
        from tensorboardX import SummaryWriter
    with SummaryWriter(os.path.join(workdir, "tensorboard")) as writer:
        yield writer


def _quiet() -> None:
    """Leaves orbax and grain their warnings.

    They tell of every file that they touch; and where a disk is full, of each array that could not
    be written, with tracebacks from threads of theirs. What ends a training is said once, by us.
    """
    libraries = ("orbax", "grain", "tensorstore", "asyncio")
    logging.get_absl_handler().addFilter(
        lambda record: (
            record.levelno == python_logging.WARNING
            or not any(name in record.pathname for name in libraries)
        )
    )
    shown = sys.unraisablehook

    def show(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    sys.unraisablehook = show


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "train", "configs/train_fashion_mnist.py")


if __name__ == "__main__":
    run()
