"""A training from its options to the folder of the trained network."""

import dataclasses
import hashlib
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lswag_jax import data
from lswag_jax.data import Pool
from lswag_jax.data.batch import constants
from lswag_jax.files import dump_row
from lswag_jax.options import Checked, Count, Natural, Seed, ShareBelowOne, typed
from lswag_jax.runs import Archive
from lswag_jax.spaces import Space
from lswag_jax.training import inherit, loop, model_files, supernet, supernet_step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.checkpoints import Checkpoints
from lswag_jax.training.input_pipeline import Pipeline
from lswag_jax.training.optimizer import OptimizerOptions, make_optimizer, make_schedule
from lswag_jax.training.step import (
    Problem,
    StepOptions,
    init_state,
    make_eval_step,
    make_train_step,
)

METRICS = "metrics.jsonl"
LOOKED_AT = 64  # images that a warning of constant ones is made of
# Options that may change when a training resumes, since they do not affect its weights.
FREE = ("workers", "log_every", "eval_every", "checkpoint_every")


@dataclasses.dataclass(frozen=True)
class TrainOptions(Checked):
    """How a network is trained.

    Attributes:
        epochs: passes over the training images; images that do not fill a last batch come in
            another epoch.
        batch_size: images of a step.
        drop_path: probability that a branch of the last block is dropped (AutoFormer's only).
        init: weights to start from, see `inherit.inherited`; "" for fresh ones.
        seed: of weights, order, augmentation.
        workers: processes that read images; 0 for threads.
        log_every, checkpoint_every: steps; 0 for once an epoch.
        eval_every: epochs.
        optimizer, augment, step: see `OptimizerOptions`, `AugmentOptions`, `StepOptions`.
    """

    epochs: Count = 10
    batch_size: Count = 128
    drop_path: ShareBelowOne = 0.0
    init: str = ""
    seed: Seed = 0
    workers: Natural = 0
    log_every: Natural = 50
    checkpoint_every: Natural = 0
    eval_every: Count = 1
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    augment: AugmentOptions = dataclasses.field(default_factory=AugmentOptions)
    step: StepOptions = dataclasses.field(default_factory=StepOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.step.accumulate:
            raise ValueError(
                f"accumulate must divide batch_size {self.batch_size}, got {self.step.accumulate}."
            )


@typed
def train(
    space: Space,
    genotype: Any,
    training: Pool,
    validation: Pool,
    options: TrainOptions,
    workdir: str | os.PathLike,
    *,
    normalize: str = "dataset",
    writer: Any = None,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> model_files.Model:
    """Trains a genotype and saves it; killed and called again it resumes where it stopped.

    On a CPU the weights are then those of an uninterrupted training, bit by bit.

    Args:
        space, genotype: the network; None for the super-network of the space (`supernet`), of which
            each part of a batch trains a genotype of its own.
        training, validation: pools of images (`data.open_pool`, `data.hold_out`).
        options: see `TrainOptions`.
        workdir: folder of the run; receives `config.json`, `metrics.jsonl`, `checkpoints/` and at
            the end `model/`.
        normalize: see `data.load_batch`.
        writer: of TensorBoard, see `loop.Metrics`.
        progress: called with the steps done and what to say beside it.

    Returns:
        The trained network, which `model_files.load(workdir)` gives, too.

    Raises:
        ValueError: bad options, data with other classes, a workdir of another run, a training that
            diverges, an image that cannot be read.
        OSError: the disk is full; what was saved before stays.
    """
    check_data(space, training, validation)
    if genotype is None:
        supernet.check(space)
    folder = pathlib.Path(workdir)
    config = describe(space, genotype, training, validation, options, normalize)
    problem = make_problem(space, genotype, training, options, normalize)
    decided = {key: value for key, value in config.items() if key != "free"}
    run = {"sha256": hashlib.sha256(dump_row(decided).encode()).hexdigest()}
    with Archive(folder, config, exempt=("free",), name=METRICS) as archive:
        metrics = loop.Metrics(archive, writer)
        with Checkpoints(folder / "checkpoints", run) as checkpoints:
            found = _fit(
                space,
                genotype,
                problem,
                training,
                validation,
                options,
                metrics,
                checkpoints,
                progress,
            )
    variables, scores = found
    model = model_files.Model(
        space=space,
        genotype=genotype,
        variables=jax.device_get(variables),
        mean=problem.mean,
        std=problem.std,
        crop=options.augment.crop,
        classes=list(training.classes or range(training.num_classes)),
        metrics=scores,
        provenance=_provenance(training, validation, options),
    )
    model_files.save(folder / "model", model)
    return model


def _fit(
    space, genotype, problem, training, validation, options, metrics, checkpoints, progress
) -> tuple[Any, dict[str, float]]:
    """Variables and validation metrics after the last step."""
    size = {"image_size": space.image_size, "channels": space.channels}
    rest = {"augment": options.augment, "seed": options.seed, "workers": options.workers}
    pipeline = Pipeline(training, batch_size=options.batch_size, **size, **rest)
    epoch = pipeline.steps_per_epoch
    steps = loop.LoopOptions(
        total_steps=options.epochs * epoch,
        steps_per_epoch=epoch,
        log_every=options.log_every or epoch,
        eval_every=options.eval_every * epoch,
        checkpoint_every=options.checkpoint_every or epoch,
    )
    schedule = make_schedule(options.optimizer, steps.total_steps, epoch)
    optimizer = make_optimizer(options.optimizer, schedule)
    devices = loop.Devices(options.batch_size // options.step.accumulate)
    held = Pipeline(validation, batch_size=options.batch_size, **size, **rest)
    init_key, key = jax.random.split(jax.random.key(options.seed))
    variables = inherit.inherited(space, genotype, options.init, init_key)
    batches, eval_step = pipeline.training, make_eval_step(problem)
    how = problem, optimizer, options.augment, options.step
    if genotype is None:
        step = supernet_step.train_step(space, *how, steps.total_steps)
        batches = supernet.with_genotypes(batches, space, options.step.accumulate, options.seed)
        evaluate = supernet.make_evaluate(eval_step, held.validation, space, options.seed, devices)
    else:
        step = jax.jit(make_train_step(*how), donate_argnums=0)
        evaluate = loop.make_evaluate(eval_step, held.validation, devices)
    sizes = {}
    if genotype is not None:
        sizes = {"params": space.num_params(genotype), "macs": space.macs(genotype)}
    metrics.write("start", 0, sizes)  # from here on the folder is this run's
    state, scores = loop.fit(
        init_state(variables, optimizer, options.step),
        step,
        batches,
        key,
        steps,
        schedule=schedule,
        evaluate=evaluate,
        metrics=metrics,
        checkpoints=checkpoints,
        devices=devices,
        progress=progress,
    )
    return state.variables, scores


def check_data(space: Space, *pools: Pool) -> None:
    """Raise ValueError unless the networks of a space can classify the images of pools."""
    if space.task.target not in ("class", "probabilities") or space.task.tiles > 1:
        raise ValueError(f"networks are trained to classify, which {space.task.name} is not.")
    first = pools[0]
    for pool in pools:
        if pool.num_classes > space.num_classes:
            raise ValueError(
                f"{pool.where} has {pool.num_classes} classes, but the networks have "
                f"{space.num_classes}: set space.num_classes to {pool.num_classes}."
            )
        if pool.classes and first.classes and list(pool.classes) != list(first.classes):
            raise ValueError(
                f"{pool.where} has other classes than {first.where}: {_few(pool.classes)}, not "
                f"{_few(first.classes)}."
            )
        if pool.num_broken:
            raise ValueError(
                f"{pool.num_broken} images of {pool.where} hold NaN or Inf: leave them out."
            )
    places = np.linspace(0, first.size - 1, min(first.size, LOOKED_AT)).astype(int).tolist()
    if constant := constants(list(map(first.image, places)), f"looked at of {first.where}"):
        warnings.warn(constant, stacklevel=3)
    if first.num_classes == 1:
        warnings.warn(f"{first.where} has one class only.", stacklevel=3)
    if first.num_classes < space.num_classes:
        warnings.warn(
            f"{first.where} has {first.num_classes} classes, but the networks have "
            f"{space.num_classes}: set space.num_classes to {first.num_classes}.",
            stacklevel=3,
        )


def _few(classes: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(str, classes[:5])) + ", ..." * (len(classes) > 5)


def make_problem(
    space: Space, genotype: Any, training: Pool, options: TrainOptions, normalize: str
) -> Problem:
    """The network of a genotype and the statistics of its images."""
    module = space.network() if genotype is None else space.build(genotype)
    if options.drop_path:
        if not hasattr(module, "drop_path"):
            raise ValueError(
                f"networks of {space.name} have no stochastic depth: set drop_path to 0, not "
                f"{options.drop_path}."
            )
        module = module.clone(drop_path=options.drop_path)
    options_of_data: Any = {"channels": space.channels, "normalize": normalize}
    mean, std = data.statistics(training, **options_of_data, image_size=space.image_size)
    return Problem(module, space.num_classes, tuple(mean.tolist()), tuple(std.tolist()))


def describe(
    space: Space,
    genotype: Any,
    training: Pool,
    validation: Pool,
    options: TrainOptions,
    normalize: str,
) -> dict[str, Any]:
    """Describes the run; entries under "free" may change when it is resumed."""
    values = dataclasses.asdict(options)
    return {
        "space": space.describe(),
        "genotype": "super-network" if genotype is None else space.format(genotype),
        "training": {"where": training.where, "size": training.size},
        "validation": {"where": validation.where, "size": validation.size},
        "normalize": normalize,
        "options": {key: value for key, value in values.items() if key not in FREE},
        "free": {key: values[key] for key in FREE},
    }


def _provenance(training: Pool, validation: Pool, options: TrainOptions) -> dict:
    """What the model card says of the training."""
    import lswag_jax

    return {
        "training images": f"{training.where} ({training.size})",
        "validation images": f"{validation.where} ({validation.size})",
        "options": dataclasses.asdict(options),
        "lswag_jax": lswag_jax.__version__,
    }
