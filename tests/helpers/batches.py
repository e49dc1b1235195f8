"""Small batches of images, and what an error says."""

from typing import NamedTuple

import numpy as np
import pytest

from lswag_jax import data


class Batch(NamedTuple):
    """Images and labels, in the order in which functions take them."""

    images: np.ndarray
    labels: np.ndarray


def message(error: pytest.ExceptionInfo) -> str:
    """Text of the error, which must be one sentence on one line."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def pixels(batch: data.Batch) -> np.ndarray:
    """The uint8 images of a batch made with normalize="unit"."""
    return np.rint(batch.images * 255).astype(np.uint8)


def random_images(rng, n=24, size=8, channels=3, num_classes=4):
    images = rng.integers(0, 256, (n, size, size, channels), np.uint8)
    return images, (np.arange(n) % num_classes).astype(np.int32)
