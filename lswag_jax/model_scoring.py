"""Scoring one model of the user's own."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from lswag_jax import adapters, tape, tasks
from lswag_jax import proxies as proxy_registry
from lswag_jax.candidate import Candidate, Draws
from lswag_jax.inputs import check_inputs
from lswag_jax.macs import count_macs
from lswag_jax.measuring import measure
from lswag_jax.patterns import PATTERN_LIMIT
from lswag_jax.proxies import Proxy, finish
from lswag_jax.scores import ScoreTable
from lswag_jax.scoring import Proxies, merged
from lswag_jax.tasks import Task


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
    gradient_batch: int | None = None,
    batch_norm: str = "frozen",
    loss: tape.Loss | None = None,
    seed: int = 0,
    draws: Mapping[str, Any] | None = None,
    precision: str = "highest",
) -> ScoreTable:
    """Scores one Flax model of the user's own, Linen or NNX, with the weights it has.

    Args:
        module: a Linen module, or an NNX model (which holds its own weights).
        variables: of the Linen module; None for an NNX model.
        images: [B, H, W, C] or whatever the model takes, floats or uint8 (divided by 255).
        labels: [B] integers, or what the task or the loss takes.
        proxies: names or configured proxies.
        args, kwargs: further arguments of the model's call. Arguments called train, training,
            is_training or deterministic are set for evaluation unless given.
        task: what the model predicts, see `lswag_jax.tasks`; None for classification.
        gradient_batch: the first so many samples are the gradient batch; None takes all.
        batch_norm: see `adapters.linen_network`.
        loss: per-sample loss of (outputs, labels) in place of the task's; labels are then taken as
            they are.
        seed: of the random tensors that some proxies draw.
        draws: tensors by name in place of drawn ones; names are those in the proxies' docstrings.
        precision: of matrix products.

    Returns:
        A `ScoreTable` with one row.

    Raises:
        ValueError: bad images, labels or proxies; no weight layer or no activation was captured.

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
    model, weights, params = adapters.split(module, variables, args, kwargs, batch_norm)

    def forward(weights, images):
        return model.network(weights)(images, lambda *call: call[-1])

    logits = jax.eval_shape(forward, weights, images)
    if not hasattr(logits, "ndim") or (task is None and loss is None and logits.ndim != 2):
        shapes = [leaf.shape for leaf in jax.tree.leaves(logits)]
        raise ValueError(f"the model must return logits [B, C] alone, got shapes {shapes}.")
    if loss is None:
        task = task or tasks.classification(logits.shape[-1])
        loss, labels = task.loss, task.check(images, labels)
    settings = (("gradient_batch", gradient_batch), ("loss", loss))
    given = {name: jnp.asarray(value) for name, value in (draws or {}).items()}
    arguments = (weights, images, jnp.asarray(labels), jax.random.key(seed), given)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    leaves, structure = jax.tree.flatten(shapes)
    start = time.perf_counter()
    compiler = _compiled if _is_hashable(model) else _compiled.__wrapped__
    programs = [
        compiler(model, some, settings, tuple(leaves), structure, precision)
        for some in proxy_registry.programs(resolved)
    ]
    compiled = time.perf_counter()
    result = merged([run(*arguments) for run in programs])
    elapsed = time.perf_counter() - compiled
    row = {
        "id": type(module).__name__,
        "genotype": None,
        "params": sum(int(leaf.size) for leaf in jax.tree.leaves(params)),
        "macs": count_macs(forward, weights, images[:1]),
        "seconds": elapsed,
        "degenerate": [bool(result["degenerate"])],
        "parts": {proxy.key: _parts(proxy, result) for proxy in resolved},
    }
    return ScoreTable([row], resolved, {"compile": compiled - start, "score": elapsed})


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
        candidate = Candidate(model.network, weights, model.batch_norm, model.has_batch_norm)
        return measure(candidate, images, labels, proxies, draws=draws, **dict(settings))

    with jax.default_matmul_precision(precision):
        return jax.jit(run).lower(*jax.tree.unflatten(structure, leaves)).compile()


def _parts(proxy: Proxy, result: Mapping[str, Any]) -> dict[str, list]:
    """Finished parts with the leading axis of repeats, here one."""
    if not proxy.passes:
        return {}
    parts = {key: np.asarray(value)[None] for key, value in result[proxy.key].items()}
    return {key: value.tolist() for key, value in finish(proxy, parts).items()}
