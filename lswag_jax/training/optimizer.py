"""AdamW with warm-up and cosine decay; only kernels are decayed."""

import dataclasses
from typing import Any

import jax
import optax

from lswag_jax.options import Checked, NonNegative, Positive, ShareBelowOne


@dataclasses.dataclass(frozen=True)
class OptimizerOptions(Checked):
    """How weights are updated.

    Attributes:
        learning_rate: at the end of the warm-up.
        final_learning_rate: at the last step.
        warmup_epochs: epochs of linear warm-up, from a thousandth.
        weight_decay: of kernels, times the learning rate a step; biases, norms, tokens and
            position tables are not decayed.
        b1, b2: of Adam's moments.
        clip_norm: largest norm of the whole gradient; 0 for no clipping.
    """

    learning_rate: Positive = 1e-3
    final_learning_rate: NonNegative = 0.0
    warmup_epochs: NonNegative = 0.0
    weight_decay: NonNegative = 0.05
    b1: ShareBelowOne = 0.9
    b2: ShareBelowOne = 0.999
    clip_norm: NonNegative = 0.0


def make_schedule(
    options: OptimizerOptions, total_steps: int, steps_per_epoch: int
) -> optax.Schedule:
    """Learning rate of a step: linear warm-up, then half a cosine.

    Args:
        options: see `OptimizerOptions`.
        total_steps: of the training; steps are numbered from 0.
        steps_per_epoch: in which the warm-up is counted.

    Raises:
        ValueError: the warm-up does not end before the training does.

    Example:
        >>> schedule = make_schedule(OptimizerOptions(0.1, warmup_epochs=1), 100, 10)
        >>> [round(float(schedule(step)), 4) for step in (0, 10, 55, 100)]
        [0.0001, 0.1, 0.05, 0.0]
    """
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if warmup >= total_steps:
        raise ValueError(
            f"a warm-up of {warmup} steps must end before the training of {total_steps} does: "
            f"lower warmup_epochs, {options.warmup_epochs:g}."
        )
    if not warmup:
        final = options.final_learning_rate / options.learning_rate
        return optax.cosine_decay_schedule(options.learning_rate, total_steps, final)
    return optax.warmup_cosine_decay_schedule(
        options.learning_rate / 1000,
        options.learning_rate,
        warmup,
        total_steps,
        options.final_learning_rate,
    )


def make_optimizer(
    options: OptimizerOptions, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW by a schedule, its gradient clipped."""
    adamw = optax.adamw(
        schedule, options.b1, options.b2, weight_decay=options.weight_decay, mask=is_kernel
    )
    if not options.clip_norm:
        return adamw
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), adamw)


def is_kernel(params: Any) -> Any:
    """For each parameter whether it is a kernel.

    Example:
        >>> is_kernel({"head": {"kernel": 1.0, "bias": 1.0}})
        {'head': {'bias': False, 'kernel': True}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
