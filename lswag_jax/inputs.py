"""Checks of the arrays that a user scores with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def check_inputs(
    images: Any,
    labels: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    limit: int | None = None,
    gradient_batch: int | None = None,
) -> tuple[Array, Array]:
    """Images as floats and labels as int32.

    Args:
        images: [B, H, W, C], floats (narrow ones become float32), or uint8 that are divided by 255.
        labels: [B] integers in [0, num_classes).
        image_shape: (H, W, C) wanted; None takes any with a leading batch axis.
        num_classes: None leaves the range unchecked.
        limit: largest batch.
        gradient_batch: must be between 2 and B where given.

    Raises:
        ValueError: one sentence that says what is wrong and what is allowed.
    """
    images, labels = np.asarray(images) if isinstance(images, list) else images, np.asarray(labels)
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise ValueError(f"images must be an array, got {type(images).__name__}.")
    if image_shape is not None and (len(images.shape) != 4 or images.shape[1:] != image_shape):
        raise ValueError(
            f"images must have shape [B, {', '.join(map(str, image_shape))}] (batch, height, "
            f"width, channels), got {tuple(images.shape)}."
        )
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    if not floating and images.dtype != np.uint8:
        raise ValueError(f"images must be floats or uint8, got {images.dtype}.")
    batch = images.shape[0] if images.shape else 0
    if batch == 0:
        raise ValueError("the batch is empty, it must hold at least one image.")
    if limit is not None and batch > limit:
        raise ValueError(f"a batch may hold up to {limit} images, got {batch}.")
    if labels.shape != (batch,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers of shape ({batch},), one an image, got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        raise ValueError(
            f"labels must be in [0, {num_classes or 'num_classes'}), got values from "
            f"{labels.min()} to {labels.max()}."
        )
    if gradient_batch is not None and not 2 <= gradient_batch <= batch:
        raise ValueError(
            f"gradient_batch must be between 2 and the batch of {batch}, got {gradient_batch}."
        )
    images = jnp.asarray(images)
    if not floating:
        images = images.astype(jnp.float32) / 255
    elif images.dtype.itemsize < 4:  # proxies want float32 at least (METHODS 0.3)
        images = images.astype(jnp.float32)
    return images, jnp.asarray(labels, jnp.int32)
