"""The loop of a training: steps, validation, checkpoints, metrics, and where it resumes."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lswag_jax.options import Checked, Count
from lswag_jax.runs import Archive
from lswag_jax.scoring.waiting import said
from lswag_jax.training.checkpoints import Checkpoints
from lswag_jax.training.input_pipeline import Batch
from lswag_jax.training.step import TrainState, summed

Evaluate = Callable[[TrainState], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class LoopOptions(Checked):
    """Length of a training, and how often it logs, validates and saves.

    Attributes:
        total_steps: of the training.
        steps_per_epoch: for the epoch that metrics name.
        log_every, eval_every, checkpoint_every: steps between two; all three also happen after
            the last step.
    """

    total_steps: Count
    steps_per_epoch: Count
    log_every: Count
    eval_every: Count
    checkpoint_every: Count

    def due(self, step: int, every: int) -> bool:
        """Whether a job with a period of `every` steps is due after `step` steps."""
        return step % every == 0 or step == self.total_steps


class Devices:
    """All devices of this process, over which batches are divided.

    Args:
        batch_size: of a batch, or of each part of one that is accumulated.

    Raises:
        ValueError: the devices do not divide it.
    """

    def __init__(self, batch_size: int) -> None:
        devices = jax.local_devices()
        if batch_size % len(devices):
            raise ValueError(
                f"batch_size over accumulate must be a multiple of the {len(devices)} devices, "
                f"got {batch_size}."
            )
        mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        self._each = NamedSharding(mesh, PartitionSpec("data"))
        self._whole = NamedSharding(mesh, PartitionSpec())

    def replicate(self, tree: Any) -> Any:
        """A tree with a copy on every device."""
        return jax.device_put(tree, self._whole)

    def divide(self, batch: Batch) -> dict[str, Any]:
        """A batch, its examples divided; genotypes, the same everywhere, stay on the host."""
        return {
            key: value if key == "encoded" else jax.device_put(value, self._each)
            for key, value in batch.items()
        }


class Metrics:
    """Rows of metrics, each appended once; a resumed training keeps the existing ones.

    Args:
        rows: a list, or the `runs.Archive` of a workdir.
        writer: takes scalars as TensorBoard's `add_scalar(name, value, step)`; None for none.
    """

    def __init__(self, rows: list[Any] | Archive, writer: Any = None) -> None:
        self._rows, self._writer = rows, writer
        self._known = {row["id"] for row in rows}

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Appends the row of a kind ("train", "eval") and step."""
        name = f"{kind} {step}"
        if name in self._known:
            return
        self._known.add(name)
        self._rows.append({"id": name, "step": step, **values})
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(f"{kind}/{key}", value, step)


def fit(
    state: TrainState,
    train_step: Callable,
    batches: Callable[[int], Iterator[Batch]],
    key: jax.Array,
    options: LoopOptions,
    *,
    schedule: Callable[[int], Any],
    evaluate: Evaluate,
    metrics: Metrics,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> tuple[TrainState, dict[str, float]]:
    """Trains from the newest checkpoint, or from `state`, to the last step.

    Args:
        state: before the first step.
        train_step: a jitted `step.make_train_step`, or `supernet_step.train_step`.
        batches: of the number of the first step, see `Pipeline.training`.
        key: of all random numbers on the device.
        options: see `LoopOptions`.
        schedule: learning rate of a step.
        evaluate: metrics of validation of a state.
        metrics: receives rows of kinds "train" and "eval".
        checkpoints: of the run, or None.
        devices: over which to divide; None for this process's default device.
        progress: called with the steps done and what to say beside it.

    Returns:
        The last state, and the metrics of its validation.

    Raises:
        ValueError: the loss or a gradient is not finite, with step, loss and learning rate; or an
            image cannot be read. What was done up to there is in the checkpoint.
    """
    place = devices.replicate if devices else lambda tree: tree
    divide = devices.divide if devices else lambda batch: batch
    state = place(state)
    if checkpoints is not None:
        state = checkpoints.restore(state) or state
    step = int(state.step)
    watch = _Watch(step, options, schedule, metrics, progress)
    found = {}
    stream = batches(step) if step < options.total_steps else iter(())
    while step < options.total_steps:
        try:
            batch = next(stream)
        except (ValueError, OSError):
            watch.flush()
            if checkpoints is not None:
                checkpoints.save(step, state)
            raise
        with said("compiling the training step") if watch.is_new else contextlib.nullcontext():
            state, values = train_step(state, divide(batch), key)
        step += 1
        watch.add(values, len(batch["label"]))
        evals, saves = (
            options.due(step, n) for n in (options.eval_every, options.checkpoint_every)
        )
        if evals or saves or options.due(step, options.log_every):
            watch.flush()
        if saves and checkpoints is not None:
            checkpoints.save(step, state)
        if evals:
            found = dict(evaluate(state))
            metrics.write("eval", step, {"epoch": step / options.steps_per_epoch} | found)
            watch.restart(found)
    return state, found or dict(evaluate(state))


class _Watch:
    """Metrics of the steps since the last row: checked, averaged, written, shown."""

    def __init__(self, step, options, schedule, metrics, progress) -> None:
        self._step, self._options, self._schedule = step, options, schedule
        self._metrics, self._progress = metrics, progress
        self._pending: list[dict] = []
        self._start: float | None = None
        self._images, self._found = 0, {}

    @property
    def is_new(self) -> bool:
        """Whether no step was taken yet."""
        return self._start is None

    def add(self, values: dict, images: int) -> None:
        """Takes the metrics of the next step, which may still be running."""
        self._pending.append(values)
        if self.is_new:  # the first step compiles
            jax.block_until_ready(values)
            self._start = time.perf_counter()
        else:
            self._images += images

    def restart(self, found: Mapping[str, float]) -> None:
        """Continues after a validation, whose time does not count."""
        self._start, self._images, self._found = time.perf_counter(), 0, found

    def flush(self) -> None:
        """Writes the mean over the pending steps; raises ValueError where one is not finite."""
        if not self._pending:
            return
        values = jax.device_get(self._pending)
        self._pending = []
        for row in values:
            self._check(self._step, row)
            self._step += 1
        mean = {key: float(np.mean([row[key] for row in values])) for key in values[0]}
        assert self._start is not None  # `add` came before
        seconds = time.perf_counter() - self._start
        row = {"epoch": self._step / self._options.steps_per_epoch} | mean
        row["learning_rate"] = float(self._schedule(self._step - 1))
        rate = self._images / seconds if self._images else math.nan
        if self._images:
            row["images_per_second"] = rate
        self._metrics.write("train", self._step, row)
        shown = [f"loss {mean['loss']:.4f}"]
        # The first metric alone, so that a line of 80 columns holds the rate too.
        found = [f"{key} {value:.4f}" for key, value in self._found.items() if key != "loss"]
        shown += found[:1]
        if self._images:
            shown.append(f"{rate:.0f} images/s")
        self._progress(self._step, ", ".join(shown))
        self._start, self._images = time.perf_counter(), 0

    def _check(self, step: int, row: Mapping[str, Any]) -> None:
        if not all(math.isfinite(value) for value in row.values()):
            raise ValueError(
                f"training diverged at step {step}: loss {float(row['loss']):.6g}, gradient norm "
                f"{float(row['grad_norm']):.6g}, learning rate {float(self._schedule(step)):.6g}."
            )


def make_evaluate(
    eval_step: Callable, batches: Callable[[], Iterator[Batch]], devices: Devices | None = None
) -> Evaluate:
    """Validation of a state: means over all examples of the sums of `step.make_eval_step`.

    Args:
        eval_step: is jitted here.
        batches: see `Pipeline.validation`.
        devices: over which to divide.
    """
    eval_step = jax.jit(eval_step)
    divide = devices.divide if devices else lambda batch: batch

    def evaluate(state: TrainState) -> dict[str, float]:
        totals = summed(eval_step(state.variables, divide(batch)) for batch in batches())
        count = totals.pop("count")
        return {key: float(value / count) for key, value in totals.items()}

    return evaluate
