"""What `score_model` says of a model beside its scores, a sentence each."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.capture.coverage import Coverage
from lswag_jax.capture.network import layer_name, leaf_name
from lswag_jax.proxies import Proxy

Array = jax.Array


def of_inputs(
    weights: Mapping[str, Any], images: Array, labels: Any, logits: Array, proxies: Sequence[Proxy]
) -> list[str]:
    """A sentence for each thing about the batch and the weights that a user should know."""
    found = []
    for what, arrays in (("images", [images]), ("weights", jax.tree.leaves(weights["params"]))):
        floats = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
        if not all(bool(jnp.isfinite(a).all()) for a in floats):
            found.append(f"some of the {what} are not finite, so no score will be.")
    labels = None if labels is None else np.asarray(labels)
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return found
    if logits.ndim == 2 and 2 * (labels.max() + 1) <= logits.shape[-1]:
        found.append(
            f"the model has {logits.shape[-1]} logits and the labels use the first "
            f"{labels.max() + 1} alone: is its head the right one?"
        )
    if any(p.name == "epe_nas" for p in proxies) and np.bincount(labels).max() < 2:
        found.append("no class has two samples, without which epe_nas has nothing to compare.")
    return found


def of_outputs(coverage: Coverage) -> list[str]:
    """A sentence where a classifier ends with a softmax or a sigmoid."""
    if not coverage.gives_probabilities:
        return []
    return [
        "the model's outputs are probabilities, and the loss takes a softmax of them again: score "
        "the logits, without the softmax or sigmoid at the end."
    ]


def of_patterns(measured: Mapping[str, Any]) -> list[str]:
    """A sentence where every pattern that so few samples can draw was drawn."""
    for name, parts in measured["parts"].items():
        saturation = parts.get("psi_saturation", [0.0])
        per_unit = parts.get("psi_per_unit", [1.0])
        if min(saturation) >= 0.999 and max(per_unit) < 0.999:
            return [f"{name} counts every pattern that the batch allows: take more samples."]
    return []


def of_degenerate(weights: Mapping[str, Any], coverage: Coverage) -> str:
    """A sentence on logits that do not depend on the input, with the last layer of zeros."""
    zeros = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights["params"]):
        if jnp.ndim(leaf) >= 2 and not bool(jnp.any(leaf != 0)):
            name = leaf_name((jax.tree_util.DictKey("params"), *path))
            zeros[layer_name(name)] = name
    order = [name.partition("[")[0] for name, *_ in coverage.layers]
    found = [zeros[name] for name in order if name in zeros]
    if found:
        return f"the logits do not depend on the images, {found[-1]} is all zeros: initialise it."
    return "the logits do not depend on the images."
