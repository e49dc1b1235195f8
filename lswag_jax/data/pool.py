"""A pool of labelled images, read one by one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lswag_jax.options import Count, Seed, Share, typed


@dataclasses.dataclass(frozen=True)
class Pool:
    """The examples that a batch is drawn from, read one by one.

    Attributes:
        name: name by which the published mean and standard deviation are looked up.
        where: source and split, as messages name them.
        size: number of examples.
        label: class of example i; where objects are to be detected the class, top, left, bottom
            and right of each [K, 5], in shares of the image.
        image: pixels of example i: [H, W, C] uint8, uint16, or floating point in [0, 1].
        num_classes: number of classes.
        classes: names of the classes, or None.
        channels: channels to convert to unless the caller chooses; None keeps the file's.
    """

    name: str
    where: str
    size: int
    label: Callable[[int], Any]
    image: Callable[[int], np.ndarray]
    num_classes: int
    classes: Sequence[str] | None = None
    channels: int | None = None


@typed
def hold_out(pool: Pool, share: Share, seed: Seed) -> tuple[Pool, Pool]:
    """Divides a pool at random.

    Args:
        pool: to divide.
        share: of the examples that are held out, at least one.
        seed: of the draw.

    Returns:
        The pool of the other examples, and that of those held out.

    Raises:
        ValueError: a share that leaves one of them empty.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> rest, held = hold_out(open_pool("embedded"), 0.25, seed=0)
        >>> rest.size, held.size
        (384, 128)
    """
    count = max(1, round(share * pool.size))
    if not 0 < share < 1 or count >= pool.size:
        raise ValueError(
            f"the share held out must be above 0 and leave examples of {pool.where}, got {share}."
        )
    order = np.random.default_rng(seed).permutation(pool.size)
    draw = f"(seed {seed})"
    rest = _part(pool, order[count:], f"all but {count} {draw}")
    return rest, _part(pool, order[:count], f"{count} held out {draw}")


@typed
def per_class(pool: Pool, num: Count, seed: Seed = 0) -> Pool:
    """A pool with as many examples of each class, drawn at random.

    Args:
        pool: to draw from.
        num: examples of a class.
        seed: of the draw.

    Raises:
        ValueError: a class has fewer.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> per_class(open_pool("embedded"), 5).size
        50
    """
    labels = np.array([pool.label(i) for i in range(pool.size)])
    order = np.random.default_rng(seed).permutation(pool.size)
    chosen = [order[labels[order] == c][:num] for c in range(pool.num_classes)]
    fewest = min(map(len, chosen))
    if fewest < num:
        raise ValueError(
            f"{pool.where} has {fewest} examples of one of its classes, fewer than {num}."
        )
    return _part(pool, np.sort(np.concatenate(chosen)), f"{num} a class (seed {seed})")


@typed
def some(pool: Pool, num: Count, seed: Seed = 0) -> Pool:
    """A pool of `num` examples drawn at random; the whole pool if it has no more.

    Args:
        pool: to draw from.
        num: examples.
        seed: of the draw.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> some(open_pool("embedded"), 100).size, some(open_pool("embedded"), 1000).size
        (100, 512)
    """
    if num >= pool.size:
        return pool
    order = np.random.default_rng(seed).permutation(pool.size)[:num]
    return _part(pool, np.sort(order), f"{num} drawn (seed {seed})")


def _part(pool: Pool, index: np.ndarray, what: str) -> Pool:
    """The examples at `index` [N]."""
    return dataclasses.replace(
        pool,
        where=f"{pool.where}, {what}",
        size=len(index),
        label=lambda i: pool.label(int(index[i])),
        image=lambda i: pool.image(int(index[i])),
    )


@typed
def array_pool(
    images: np.ndarray,
    labels: np.ndarray,
    name: str,
    where: str,
    num_classes: Count | None = None,
    classes: Sequence[str] | None = None,
) -> Pool:
    """Checks arrays and wraps them as a pool.

    Args:
        images: [N, H, W, C] uint8, uint16, or floating point in [0, 1]; C is 1 or 3.
        labels: [N] integers.
        name: as in `Pool`, like the following.
        where: what messages call the arrays.
        num_classes: number of classes; None: the largest label and one.
        classes: names of the classes, or None.

    Returns:
        The pool.

    Raises:
        ValueError: an array has another shape or dtype.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images of {where} must have shape [N, H, W, C] with C 1 or 3, not {images.shape}."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels of {where} must be {len(images)} integers, "
            f"not {labels.dtype} of shape {labels.shape}."
        )
    if num_classes is None:
        num_classes = int(labels.max(initial=0)) + 1
    return Pool(
        name, where, len(labels), labels.__getitem__, images.__getitem__, num_classes, classes
    )
