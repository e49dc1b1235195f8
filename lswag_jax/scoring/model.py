"""Scoring one model of the user's own."""

import contextlib
import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax import proxies as proxy_registry
from lswag_jax import tasks
from lswag_jax.capture import models, tape
from lswag_jax.capture.coverage import Coverage, batch_statistics
from lswag_jax.capture.record import Program
from lswag_jax.options import Seed, Several, typed
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.patterns import PATTERN_LIMIT
from lswag_jax.proxies import Cost, Proxy
from lswag_jax.scoring import devices, notes
from lswag_jax.scoring.faults import FAULTS, why
from lswag_jax.scoring.inputs import check_inputs, in_one_dtype
from lswag_jax.scoring.measure import measure
from lswag_jax.scoring.options import BatchNormMode, Precision
from lswag_jax.scoring.population import Proxies
from lswag_jax.scoring.programs import merged
from lswag_jax.scoring.progress import Progress, Watch, watched
from lswag_jax.scoring.rows import Row, measurements
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.scoring.waiting import said
from lswag_jax.spaces.macs import count_macs
from lswag_jax.tasks import Task


@typed
def score_model(
    module: Any,
    variables: Any,
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
    method: Any = None,
    rngs: Mapping[str, Any] | None = None,
    output: Any = None,
    progress: Watch = False,
) -> ScoreTable:
    """Scores one model of the user's own with the weights it has; see docs/your_model.md.

    Args:
        module: a function `apply(params, images)`, a Linen module, an NNX model, a Flax
            TrainState, a Haiku transform, or an Equinox or Keras model.
        variables: parameters of the function or the Haiku transform (with its state as a pair), or
            variables of the Linen module; None where the model holds its own. Floats narrower than
            float32 become float32, and images and weights the wider of their two types.
        images: [B, H, W, C] or whatever the model takes: floats, uint8 (divided by 255), other
            integers such as tokens, or a dictionary of arrays with B rows, of which the largest
            stands for the images.
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
        method: of the Linen or NNX model, in place of its call.
        rngs: keys of a Linen module's random streams.
        output: what picks the logits out of a tuple, a dict or a dataclass: an index, a key, a
            field, or a function.
        progress: True shows a bar of the programs compiled and then run, see `score`; a function is
            called with a `scoring.Progress` for each.

    Returns:
        A `ScoreTable` with one row, which holds what `explain_model` says as `coverage`, and why a
        model is degenerate as `reason`.

    Raises:
        ValueError: bad images, labels or proxies; no weight layer or no activation was captured, or
            one without the samples on its leading axis (see `tape.record`).

    Example:
        >>> import flax.linen as nn
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
    _refuse_costs(resolved)
    options = {"method": method, "rngs": rngs, "output": output}
    model, weights, images, labels = _prepared(
        module, variables, images, labels, args, kwargs, batch_norm, gradient_batch, options
    )
    logits = _logits(model, weights, images)
    given_labels = labels
    is_classifier = task is None and loss is None
    loss, labels = _loss_and_labels(logits, images, labels, resolved, task, loss)
    settings = (("gradient_batch", gradient_batch), ("loss", loss))
    given = {name: jnp.asarray(value) for name, value in (draws or {}).items()}
    arguments = (weights, images, jnp.asarray(labels), jax.random.key(seed), given)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    leaves, structure = jax.tree.flatten(shapes)
    start = time.perf_counter()
    cached = _is_hashable(model)
    coverage = _kept(_coverage, cached)(model, tuple(leaves), structure)
    sentences = coverage.warnings()
    sentences += notes.of_inputs(weights, images, given_labels, logits, resolved)
    sentences += notes.of_outputs(coverage) if is_classifier else []
    programs = [
        functools.partial(
            _kept(_compiled, cached), model, some, settings, tuple(leaves), structure, precision
        )
        for some in proxy_registry.programs(resolved)
    ]
    with _of_any_batch(model, weights, images):
        result, compiled, elapsed = _run(programs, arguments, progress)
    (measured,) = measurements([jax.tree.map(lambda a: np.asarray(a)[None], result)], resolved, 1)
    fields = {
        "id": type(module).__name__,
        "genotype": None,
        "params": sum(int(leaf.size) for leaf in jax.tree.leaves(weights["params"])),
        "macs": _macs(model, weights, images, getattr(module, "counts_dead_code", False)),
        "seconds": elapsed,
        **measured,
        "coverage": coverage.to_json(),
    }
    if any(measured["degenerate"]):
        fields["reason"] = notes.of_degenerate(weights, coverage)
        sentences.append(fields["reason"])
    for note in [*sentences, *notes.of_patterns(measured)]:
        warnings.warn(note, stacklevel=3)  # the line that calls, behind `typed`
    return ScoreTable(
        [cast(Row, fields)], resolved, {"compile": compiled - start, "score": elapsed}
    )


def _refuse_costs(proxies: Sequence[Proxy]) -> None:
    """Raises ValueError where a proxy is a measured cost."""
    for proxy in proxies:
        if isinstance(proxy, Cost):
            raise ValueError(
                f"{proxy.key} is measured of a space's networks alone, by score and search."
            )


def _macs(model: models.Model, weights: Any, images: jax.Array, dead: bool) -> int:
    """Multiply-accumulates of one image; `dead` also counts what does not reach the logits."""
    try:
        return count_macs(
            functools.partial(_forward, _of_one(model)), weights, images[:1], dead=dead
        )
    except FAULTS:  # a model that is written for this batch: its share of one image
        macs = count_macs(functools.partial(_forward, model), weights, images, dead=dead)
        return macs // len(images)


@contextlib.contextmanager
def _of_any_batch(model: models.Model, weights: Any, images: jax.Array) -> Iterator[None]:
    """Says of a model that fails inside and does not run on one image that this may be why."""
    try:
        yield
    except FAULTS as error:
        try:
            jax.eval_shape(functools.partial(_forward, _of_one(model)), weights, images[:1])
        except FAULTS:
            raise ValueError(
                f"the model runs on {len(images)} inputs at once and not on one; some of these "
                "proxies (synflow and zen among them), or gradient_batch, need another number: "
                f"write it for any, or score by fewer proxies, as lswag and zico ({why(error)})."
            ) from error
        raise


def _run(compilers: Sequence[Callable], arguments: tuple, progress: Watch) -> tuple:
    """Compiles programs and runs each.

    Returns:
        Their merged results, the time when all were compiled, and the seconds of the runs.
    """
    total, programs, results = 2 * len(compilers), [], []
    with watched(progress, "score_model", total) as tell:
        for compile_ in compilers:
            programs.append(compile_())
            tell(Progress(len(programs), total))
        compiled = time.perf_counter()
        for run in programs:
            results.append(jax.block_until_ready(run(*arguments)))
            tell(Progress(len(programs) + len(results), total))
        result = merged(results)
        return result, compiled, time.perf_counter() - compiled


@typed
def explain_model(
    module: Any,
    variables: Any,
    images: Any,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    batch_norm: str = "frozen",
    method: Any = None,
    rngs: Mapping[str, Any] | None = None,
    output: Any = None,
) -> Coverage:
    """What proxies see of a model: layers, share of the weights, activations, normalisations.

    Args:
        module, variables, images, args, kwargs, batch_norm, method, rngs, output: as in
            `score_model`.

    Returns:
        A `Coverage`; print it.

    Raises:
        ValueError: bad images, or a model that cannot be run.

    Example:
        >>> apply = lambda params, x: jnp.maximum(x @ params["a"], 0) @ params["b"]
        >>> params = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 3))}
        >>> print(explain_model(apply, params, np.ones((2, 4), "float32")))
        100.0% of the weights are in 2 layers
          a: 4 x 8
          b: 8 x 3
        activations, units a sample: 8
    """
    options = {"method": method, "rngs": rngs, "output": output}
    model, weights, images, _ = _prepared(
        module, variables, images, None, args, kwargs, batch_norm, None, options
    )
    _logits(model, weights, images)
    return _traced(model, weights, images)


def _prepared(
    module, variables, images, labels, args, kwargs, batch_norm, gradient_batch, options
) -> tuple[models.Model, Any, jax.Array, Any]:
    """A model, its weights and the arrays of the batch, checked."""
    key, others = None, {}
    if isinstance(images, Mapping):
        if not images:
            raise ValueError("images must hold at least one array, got {}.")
        others = {name: np.asarray(value) for name, value in images.items()}
        key = max(others, key=lambda name: others[name].size)
        images = others.pop(key)
    images, labels = check_inputs(
        images, labels, limit=PATTERN_LIMIT, gradient_batch=gradient_batch, integers=True
    )
    integers = bool(jnp.issubdtype(images.dtype, jnp.integer))
    sizes = (len(images), gradient_batch or len(images))
    options = options | {"integers": integers, "others": others, "key": key}
    model, weights = models.split(module, variables, args, kwargs, batch_norm, sizes, **options)
    images, weights = in_one_dtype(images, weights)
    return model, weights, images, labels


def _logits(model: Any, weights: Any, images: jax.Array) -> Any:
    """Shape of a model's output; ValueError where it cannot be run."""
    try:
        return jax.eval_shape(functools.partial(_forward, model), weights, images)
    except FAULTS as error:
        raise ValueError(
            f"the model cannot be run on inputs of shape {images.shape} and type "
            f"{images.dtype.name}: {why(error)}."
        ) from error


def _traced(model: models.Model, weights: Any, images: Any) -> Coverage:
    program = Program.trace(model.network(weights), images)
    return Coverage.of(program, model.batch_norm, batch_statistics(weights))


@functools.lru_cache(maxsize=32)
def _coverage(model, leaves, structure) -> Coverage:
    """What the tape has of a model on arrays of these shapes."""
    weights, images, *_ = jax.tree.unflatten(structure, leaves)
    return _traced(model, weights, images)


def _forward(model: Any, weights: Any, images: jax.Array) -> jax.Array:
    """Output of a model, without anything recorded."""
    return model.network(weights)(images)


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
        raise ValueError(f"the model must return logits [B, C], got {models.described(logits)}.")
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


def _kept(function: Any, cached: bool) -> Callable:
    """A function that keeps its results, without that where its arguments cannot be hashed."""
    return function if cached else function.__wrapped__


def _of_one(model: models.Model) -> models.Model:
    """The model with the further arguments of the first image alone."""
    return dataclasses.replace(model, extra=model.extra.of_first(1))


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
            has_per_sample_arguments=bool(model.extra.sizes),
        )
        return measure(candidate, images, labels, proxies, draws=draws, **dict(settings))

    names = ", ".join(proxy.key for proxy in proxies)
    with said(f"compiling {names} for the model"), jax.default_matmul_precision(precision):
        program = jax.jit(run, compiler_options=devices.compiler_options())
        return program.lower(*jax.tree.unflatten(structure, leaves)).compile()


def count() -> int:
    """How many compiled programs are kept."""
    return _compiled.cache_info().currsize


def clear() -> None:
    """Drops the compiled programs that are kept for later calls."""
    _compiled.cache_clear()
    _coverage.cache_clear()
