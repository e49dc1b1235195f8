"""Scoring one model of the user's own."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.errors import FlaxError

from lswag_jax import proxies as proxy_registry
from lswag_jax import tasks
from lswag_jax.capture import adapters, models, tape
from lswag_jax.capture.macs import count_macs
from lswag_jax.options import Seed, Several, typed
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.patterns import PATTERN_LIMIT
from lswag_jax.proxies import Proxy
from lswag_jax.scoring.inputs import check_inputs, in_one_dtype
from lswag_jax.scoring.measure import measure
from lswag_jax.scoring.options import BatchNormMode, Precision
from lswag_jax.scoring.population import Proxies
from lswag_jax.scoring.programs import merged
from lswag_jax.scoring.rows import Row, measurements
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.tasks import Task


@typed
def score_model(
    module: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    images: Any,
    labels: Any,
    proxies: Proxies = ("lswag",),
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    task: Task | None = None,
    gradient_batch: Several | None = None,
    batch_norm: BatchNormMode = "frozen",
    loss: tape.Loss | None = None,
    seed: Seed = 0,
    draws: Mapping[str, Any] | None = None,
    precision: Precision = "highest",
) -> ScoreTable:
    """Scores one Flax model of the user's own, Linen or NNX, with the weights it has.

    Args:
        module: a Linen module, or an NNX model (which holds its own weights).
        variables: of the Linen module; None for an NNX model. Floats narrower than float32 become
            float32, and images and weights the wider of their two types; a module's own `dtype`
            stays.
        images: [B, H, W, C] or another shape that the model takes, floats or uint8 (divided by
            255). The model must run on one image too. Where it folds windows or tokens into the
            batch, [B * k, ...], a sample's k rows must lie together, see `tape.record`.
        labels: [B] integers, or what the task or the loss takes; None where no proxy reads them.
        proxies: names or configured proxies.
        args, kwargs: further arguments of the model's call. Arguments called train, training,
            is_training or deterministic are set for evaluation unless given. Arrays with B rows
            are taken to have one a sample; proxies that run the model on other inputs than the
            batch, such as noise, crops or mini-batches with their own statistics, are then not
            applicable.
        task: what the model predicts, see `lswag_jax.tasks`; None for classification.
        gradient_batch: number of first samples that form the gradient batch; None takes all.
        batch_norm: see `adapters.linen_network`.
        loss: per-sample loss of (outputs, labels) in place of the task's; labels are then taken as
            they are.
        seed: of the random tensors that some proxies draw.
        draws: tensors by name in place of drawn ones; names are those in the proxies' docstrings.
        precision: of matrix products.

    Returns:
        A `ScoreTable` with one row.

    Raises:
        ValueError: bad images, labels or proxies; no weight layer or no activation was captured, or
            one without the samples on its leading axis (see `tape.record`).

    Example:
        >>> class MLP(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return nn.Dense(3)(nn.relu(nn.Dense(16)(x.reshape(len(x), -1))))
        >>> images = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype("float32")
        >>> variables = MLP().init(jax.random.key(0), images)
        >>> table = score_model(MLP(), variables, images, np.arange(8) % 3, ("lswag", "params"))
        >>> int(table["params"][0]), table.status[0]
        (323, 'ok')
    """
    resolved = proxy_registry.resolve(proxies)
    images, labels = check_inputs(
        images, labels, limit=PATTERN_LIMIT, gradient_batch=gradient_batch
    )
    sizes = (len(images), gradient_batch or len(images))
    model, weights, params = models.split(module, variables, args, kwargs, batch_norm, sizes)
    images, weights = in_one_dtype(images, weights)
    logits = _logits(model, weights, images)
    loss, labels = _loss_and_labels(logits, images, labels, resolved, task, loss)
    settings = (("gradient_batch", gradient_batch), ("loss", loss))
    given = {name: jnp.asarray(value) for name, value in (draws or {}).items()}
    arguments = (weights, images, jnp.asarray(labels), jax.random.key(seed), given)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    leaves, structure = jax.tree.flatten(shapes)
    start = time.perf_counter()
    cached = _is_hashable(model)
    _kept(_check_samples, cached)(model, tuple(leaves), structure)
    programs = [
        _kept(_compiled, cached)(model, some, settings, tuple(leaves), structure, precision)
        for some in proxy_registry.programs(resolved)
    ]
    compiled = time.perf_counter()
    result = merged([run(*arguments) for run in programs])
    elapsed = time.perf_counter() - compiled
    (measured,) = measurements([jax.tree.map(lambda a: np.asarray(a)[None], result)], resolved, 1)
    row: Row = {
        "id": type(module).__name__,
        "genotype": None,
        "params": sum(int(leaf.size) for leaf in jax.tree.leaves(params)),
        "macs": count_macs(functools.partial(_forward, _of_one(model)), weights, images[:1]),
        "seconds": elapsed,
        **measured,
    }
    return ScoreTable([row], resolved, {"compile": compiled - start, "score": elapsed})


def _logits(model: Any, weights: Any, images: jax.Array) -> Any:
    """Shape of a model's output; ValueError where its weights are of other inputs."""
    try:
        return jax.eval_shape(functools.partial(_forward, model), weights, images)
    except FlaxError as error:
        why = str(error).split(" (http")[0].rstrip(".")
        raise ValueError(
            f"the model cannot be run on images of shape {images.shape}: {why}."
        ) from error


def _forward(model: Any, weights: Any, images: jax.Array) -> jax.Array:
    """Output of a model, without anything recorded."""
    return model.network(weights)(images, adapters.no_hook)


def _loss_and_labels(
    logits: Any, images: jax.Array, labels: Any, proxies: Sequence[Proxy], task: Any, loss: Any
) -> tuple[tape.Loss, Any]:
    """The loss per sample and the labels it takes.

    Args:
        logits: shape of the model's output.
        images: [B, ...].
        labels, task, loss: as they were given to `score_model`.
        proxies: configured proxies.

    Raises:
        ValueError: an output that is not logits [B, C], bad labels, or none where a proxy reads
            them.
    """
    if not hasattr(logits, "ndim") or (task is None and loss is None and logits.ndim != 2):
        shapes = [leaf.shape for leaf in jax.tree.leaves(logits)]
        raise ValueError(f"the model must return logits [B, C] alone, got shapes {shapes}.")
    if labels is None:
        _check_label_free(proxies)
        return loss or tape.cross_entropy, np.zeros(len(images), np.int32)
    if loss is not None:
        return loss, labels
    task = task or tasks.classification(logits.shape[-1])
    return task.loss, task.check(images, labels)


def _check_label_free(proxies: Sequence[Proxy]) -> None:
    """Raise ValueError where a proxy reads labels."""
    readers = [proxy.key for proxy in proxies if proxy.data == "images and labels"]
    if readers:
        raise ValueError(f"labels may be None only where no proxy reads them, got {readers}.")


def _kept(function: Callable, cached: bool) -> Callable:
    """A function that keeps its results, without that where its arguments cannot be hashed."""
    return function if cached else function.__wrapped__


@functools.lru_cache(maxsize=32)
def _check_samples(model, leaves, structure) -> None:
    """Raise ValueError unless a sample's records have the same shape in batches of any size.

    A table of positions [N, ...] or a learned token has no samples on its leading axis, even where
    N is a multiple of the batch.
    """
    weights, images, *_ = jax.tree.unflatten(structure, leaves)

    def recorded(model, weights, images) -> dict[str, list]:
        found = tape.record(model.network(weights), images)
        layers = (*found.layers, *found.norms)
        inputs = {f"the input of layer '{x.name}'": [c.inputs for c in x.calls] for x in layers}
        return inputs | {
            "the output of an activation function": [a.post for a in found.activations]
        }

    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    whole = jax.eval_shape(functools.partial(recorded, model), weights, images)
    single = jax.eval_shape(functools.partial(recorded, _of_one(model)), weights, one)
    for what, arrays in whole.items():
        if [a.shape[1:] for a in arrays] != [a.shape[1:] for a in single.get(what, [])]:
            raise ValueError(
                f"the leading axis of {what} is not that of the samples, each of which must have "
                "the same rows in a batch of any size: use, for example, jnp.broadcast_to."
            )


def _of_one(model: Any) -> Any:
    """The model with the further arguments of the first image alone."""
    return dataclasses.replace(model, further=model.further.of_first(1))


def _is_hashable(model: Any) -> bool:
    try:
        hash(model)
    except TypeError:
        return False
    return True


@functools.lru_cache(maxsize=32)
def _compiled(model, proxies, settings, leaves, structure, precision):
    def run(weights, images, labels, key, given):
        draws = Draws(key, given)
        candidate = Candidate(
            model.network,
            weights,
            model.batch_norm,
            model.has_batch_norm,
            has_rows=bool(model.further.sizes),
        )
        return measure(candidate, images, labels, proxies, draws=draws, **dict(settings))

    with jax.default_matmul_precision(precision):
        return jax.jit(run).lower(*jax.tree.unflatten(structure, leaves)).compile()


def count() -> int:
    """How many compiled programs are kept."""
    return _compiled.cache_info().currsize


def clear() -> None:
    """Drops the compiled programs that are kept for later calls."""
    _compiled.cache_clear()
    _check_samples.cache_clear()
