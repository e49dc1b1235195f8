"""One step of training and one of validation, as pure functions."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from lswag_jax.options import Checked, Count, ShareBelowOne
from lswag_jax.spaces import modes
from lswag_jax.training.augment import AugmentOptions, erase, mix

Array = jax.Array
Variables = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StepOptions(Checked):
    """How a step computes.

    Attributes:
        accumulate: parts that a batch is cut into, whose gradients are averaged one by one.
        ema: decay of the moving average of the variables, the ones that are validated and saved;
            0 for none. In the first steps t it is at most (1 + t) / (10 + t).
        bfloat16: compute in bfloat16; weights, statistics and the loss stay float32.
    """

    accumulate: Count = 1
    ema: ShareBelowOne = 0.0
    bfloat16: bool = False


@struct.dataclass
class TrainState:
    """Everything that a training resumes from.

    Attributes:
        step: steps done.
        params: weights.
        batch_stats: running statistics of BatchNorm; empty where there is none.
        opt_state: of the optimizer.
        ema: moving average of params and batch_stats; empty without one.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any

    @property
    def variables(self) -> Variables:
        """The variables to validate and to save."""
        return self.ema or {"params": self.params, **_statistics(self.batch_stats)}


def _statistics(batch_stats: Any) -> dict[str, Any]:
    return {"batch_stats": batch_stats} if batch_stats else {}


def init_state(
    variables: Variables, optimizer: optax.GradientTransformation, options: StepOptions
) -> TrainState:
    """The state before the first step."""
    variables = {key: variables[key] for key in ("params", "batch_stats") if variables.get(key)}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.array, variables) if options.ema else {},
    )


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network and what it is trained to do.

    Attributes:
        module: see `apply`.
        num_classes: width of its logits.
        mean, std: a channel, for pixels in [0, 1].
        loss: of each sample [B], of outputs and labels, which mixing and smoothing leave alone;
            None for the cross entropy of classes.
    """

    module: nn.Module
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    loss: Callable[[Array, Array], Array] | None = None

    def apply(
        self, variables: Any, images: Array, encoded: Any, train: bool, **options: Any
    ) -> Any:
        """Calls the module on images, an elastic one on a genotype too, in a mode (`modes`)."""
        module, positional = modes.in_mode(self.module, train), 2 if encoded is None else 3
        arguments = modes.arguments(type(module).__call__, positional, train)
        inputs = (images,) if encoded is None else (images, encoded)
        return module.apply(variables, *inputs, **arguments, **options)

    def normalise(self, images: Array) -> Array:
        """float32 of uint8 images [B, H, W, C]."""
        mean, std = (
            np.reshape(np.asarray(x, np.float32), (1, 1, 1, -1)) for x in (self.mean, self.std)
        )
        return (images.astype(jnp.float32) / 255 - mean) / std


def make_train_step(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    augment: AugmentOptions,
    options: StepOptions,
) -> Callable[[TrainState, Mapping[str, Array], Array], tuple[TrainState, dict[str, Array]]]:
    """A step of training: (state, batch, key) -> (state, metrics), to be jitted.

    The batch holds `image` [B, H, W, C] uint8 and `label` [B, ...], and for an elastic network
    `encoded`, a genotype for each of the `accumulate` parts of the batch, with that leading axis.
    Random numbers depend on the key and the number of the step only. Metrics are `loss` and
    `grad_norm` (before clipping).

    Args:
        problem: the network.
        optimizer: of its weights.
        augment: what is done to a batch; its host part is done already.
        options: see `StepOptions`.
    """
    gradient = jax.value_and_grad(make_loss(problem, options), has_aux=True)

    def step(state, batch, key):
        key_mix, key_erase, key_run = jax.random.split(jax.random.fold_in(key, state.step), 3)
        images = problem.normalise(batch["image"])
        if augment.erase:
            images = erase(images, augment.erase, key_erase)
        targets = batch["label"]
        if problem.loss is None:
            images, targets = mix(images, targets, problem.num_classes, augment, key_mix)
        parts = _parts(images, targets, batch.get("encoded"), key_run, options.accumulate)
        loss, grads, batch_stats = _accumulate(gradient, state, parts, options.accumulate)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = _average(state, {"params": params, **_statistics(batch_stats)}, options.ema)
        new = TrainState(state.step + 1, params, batch_stats, opt_state, ema)
        return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}

    return step


def make_loss(problem: Problem, options: StepOptions) -> Callable:
    """Function of (params, batch_stats, part) to (loss, new batch_stats)."""

    def loss(params, batch_stats, part):
        images, targets, encoded, key = part
        if options.bfloat16:
            params, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, images))
        logits, changed = problem.apply(
            {"params": params, **_statistics(batch_stats)},
            images,
            encoded,
            train=True,
            mutable=["batch_stats"],
            rngs={"drop_path": key, "dropout": key},
        )
        of_samples = problem.loss or optax.softmax_cross_entropy
        losses = of_samples(logits.astype(jnp.float32), targets)
        return losses.mean(), changed.get("batch_stats", {})

    return loss


def _parts(images: Array, targets: Array, encoded: Any, key: Array, num: int) -> tuple:
    """A batch as `num` parts along a new leading axis: images, targets, genotype, key."""
    images, targets = (x.reshape(num, -1, *x.shape[1:]) for x in (images, targets))
    return images, targets, encoded, jax.random.split(key, num)


def _accumulate(gradient: Callable, state: TrainState, parts: tuple, num: int) -> tuple:
    """Mean loss and gradient over the parts, and BatchNorm's statistics after the last one."""

    def one(carry, part):
        loss, grads, batch_stats = carry
        (value, batch_stats), grad = gradient(state.params, batch_stats, part)
        total = jax.tree.map(jnp.add, (loss, grads), (value, grad))
        return (*total, batch_stats), None

    if num == 1:
        part = jax.tree.map(lambda x: x[0], parts)
        (loss, batch_stats), grads = gradient(state.params, state.batch_stats, part)
        return loss, grads, batch_stats
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (jnp.zeros(()), zeros, state.batch_stats)
    (loss, grads, batch_stats), _ = jax.lax.scan(one, start, parts)
    return loss / num, jax.tree.map(lambda x: x / num, grads), batch_stats


def _average(state: TrainState, variables: Variables, decay: float) -> Any:
    """The moving average after a step."""
    if not decay:
        return {}
    warming = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(variables, state.ema, 1 - warming)


def for_each_network(function: Callable) -> Callable:
    """A function of several networks, from one of the trees of a single one.

    They are computed side by side (vmap); on a CPU one after the other, in the same program: the
    activations of one network fit its cache, those of several do not.

    Args:
        function: of trees, to a tree.

    Returns:
        The function of trees with a leading axis of networks, to be jitted.

    Example:
        >>> for_each_network(jnp.dot)(jnp.ones((3, 2)), jnp.ones((3, 2)))
        Array([2., 2., 2.], dtype=float32)
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(function)
    return lambda *trees: jax.lax.map(lambda own: function(*own), trees)


def make_eval_step(problem: Problem) -> Callable[[Variables, Mapping[str, Array]], dict]:
    """A step of validating classes: (variables, batch) -> sums over the batch, to be jitted.

    The batch holds `image`, `label`, and `weight` [B], 0 for what only fills the batch up; for an
    elastic network also `encoded`, one genotype without a leading axis. Sums are `count`, `loss`,
    `top1` and `top5` (where there are more than five classes).
    """

    def step(variables, batch):
        images = problem.normalise(batch["image"])
        logits: Any = problem.apply(variables, images, batch.get("encoded"), train=False)
        logits = logits.astype(jnp.float32)
        labels, weight = batch["label"], batch["weight"]
        label_logit_Bx1 = jnp.take_along_axis(logits, labels[:, None], axis=1)
        # Ties count against the network, and so does NaN.
        rank = logits.shape[1] - 1 - (logits < label_logit_Bx1).sum(axis=1)
        sums = {
            "count": weight,
            "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels) * weight,
            "top1": (rank < 1) * weight,
        }
        if problem.num_classes > 5:
            sums["top5"] = (rank < 5) * weight
        return {key: value.sum() for key, value in sums.items()}

    return step


def summed(batches: Iterable[Mapping[str, Array]]) -> dict[str, np.ndarray]:
    """Totals in float64 of what an evaluation sums over each batch."""
    sums = jax.device_get(list(batches))
    totals = {key: np.sum([s[key] for s in sums], axis=0, dtype=np.float64) for key in sums[0]}
    return {key: np.asarray(total) for key, total in totals.items()}
