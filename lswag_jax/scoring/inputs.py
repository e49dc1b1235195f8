"""Checks of the arrays that a user scores with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lswag_jax.tasks import Task

Array = jax.Array


def check_inputs(
    images: Any,
    labels: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    task: Task | None = None,
    limit: int | None = None,
    gradient_batch: int | None = None,
    integers: bool = False,
) -> tuple[Array, Array]:
    """Images as floats, and labels as the task wants them.

    Args:
        images: [B, H, W, C], floats (narrow ones become float32), or uint8 that are divided by 255.
        labels: [B] integers in [0, num_classes), or what another task takes.
        image_shape: of one image; None takes any.
        task: None leaves the labels unchecked.
        limit: largest batch.
        integers: whether other integers, such as tokens, are taken as they are.
        gradient_batch: must be between 2 and B where given.

    Raises:
        ValueError: one sentence that says what is wrong and what is allowed.
    """
    try:
        images = np.asarray(images) if isinstance(images, list) else images
    except ValueError:
        raise ValueError("images must have one shape, got a list of several.") from None
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise ValueError(f"images must be an array, got {type(images).__name__}.")
    if isinstance(images, Tracer) or isinstance(labels, Tracer):
        raise ValueError(
            "images and labels must be values, not traced by jit or grad: scoring compiles "
            "programs of its own; under jit use lswag_jax.make_scorer."
        )
    if image_shape is not None and tuple(images.shape[1:]) != image_shape:
        axes = (
            "(batch, height, width, channels)" if len(image_shape) == 3 else "(batch, tiles, ...)"
        )
        raise ValueError(
            f"images must have shape [B, {', '.join(map(str, image_shape))}] {axes}, got "
            f"{tuple(images.shape)}."
        )
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    is_tokens = integers and jnp.issubdtype(images.dtype, jnp.integer) and images.dtype != np.uint8
    if not floating and not is_tokens and images.dtype != np.uint8:
        raise ValueError(f"images must be floats or uint8, got {images.dtype}.")
    batch = images.shape[0] if images.shape else 0
    if batch == 0:
        raise ValueError("the batch is empty, it must hold at least one image.")
    if limit is not None and batch > limit:
        raise ValueError(f"a batch may hold up to {limit} images, got {batch}.")
    if task is not None:
        labels = task.check(images, labels)
    if gradient_batch is not None and not 2 <= gradient_batch <= batch:
        raise ValueError(
            f"gradient_batch must be between 2 and the batch of {batch}, got {gradient_batch}."
        )
    images = jnp.asarray(images)
    if is_tokens:
        return images, labels
    if not floating:
        images = images.astype(jnp.float32) / 255
    elif images.dtype.itemsize < 4:  # sums of 1/std and determinants need it
        images = images.astype(jnp.float32)
    return images, labels


def in_one_dtype(images: Array, weights: Any) -> tuple[Array, Any]:
    """Images and a model's weights, numbers as arrays, in the widest of their floats or float32.

    Raises:
        ValueError: complex weights.

    Example:
        >>> images, weights = in_one_dtype(jnp.ones(2), {"kernel": jnp.ones(3, jnp.bfloat16)})
        >>> weights["kernel"].dtype.name
        'float32'
    """

    def is_float(leaf: Any) -> bool:
        return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)

    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        if jnp.issubdtype(getattr(leaf, "dtype", bool), jnp.complexfloating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"weights must be real, got {leaf.dtype} in {name}: store its real and imaginary "
                "parts as two arrays."
            )
    floats = {leaf.dtype for leaf in jax.tree.leaves(weights) if is_float(leaf)}
    floats = [kind for kind in floats if kind.itemsize > 1]  # float8 has no promotion rule
    dtype = jnp.result_type(jnp.float32, images.dtype, *floats)

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, int | float):
            return jnp.asarray(leaf, dtype if isinstance(leaf, float) else None)
        return leaf.astype(dtype) if is_float(leaf) and leaf.dtype != dtype else leaf

    return cast(images), jax.tree.map(cast, weights)
