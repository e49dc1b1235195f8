"""A pool of labelled images, read one by one."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lswag_jax.files import one_line
from lswag_jax.options import Count, Seed, Share, Size, typed

_MOST_CLASSES: int = Size.__metadata__[0].highest  # type: ignore[attr-defined]


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
        num_broken: images with NaN or Inf, as far as that was looked at.
    """

    name: str
    where: str
    size: int
    label: Callable[[int], Any]
    image: Callable[[int], np.ndarray]
    num_classes: int
    classes: Sequence[str] | None = None
    channels: int | None = None
    num_broken: int = 0


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
    if pool.size < 2:
        raise ValueError(f"{pool.where} has {pool.size} images, too few to hold any out.")
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
    num_classes: Size | None = None,
    classes: Any = None,
) -> Pool:
    """Checks arrays and wraps them as a pool.

    Args:
        images: [N, H, W, C] uint8, uint16, or floating point in [0, 1]; C is 1 or 3.
        labels: [N] integers from 0.
        name: as in `Pool`, like the following.
        where: what messages call the arrays.
        num_classes: number of classes; None: that of `classes`, else the largest label and one.
        classes: names of the classes, or None.

    Returns:
        The pool.

    Raises:
        ValueError: an array has another shape or dtype, or a label is of no class.
    """
    images, labels = _array(images, "images", where), _array(labels, "labels", where)
    check_pixels(images, where, ["N", "H", "W", "C"])
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels of {where} must be {len(images)} integers, "
            f"not {labels.dtype} of shape {labels.shape}."
        )
    classes = _names(classes, num_classes, where)
    if num_classes is None:
        num_classes = len(classes) if classes else num_classes_of(labels, where)
    pool = Pool(
        name, where, len(labels), labels.__getitem__, images.__getitem__, num_classes, classes
    )
    for i in (labels.argmin(), labels.argmax()) if labels.size else ():
        label_of(pool, int(i))
    return pool


def check_pixels(pixels: np.ndarray, where: str, axes: Sequence[str]) -> None:
    """Raises ValueError where an array is none of images: its axes or its dtype are others.

    Args:
        pixels: to check; the range of floating point is not looked at.
        where: what messages call its source.
        axes: names of its axes, the last three H, W and C.
    """
    sides = pixels.shape[-3:]
    if pixels.ndim != len(axes) or sides[-1] not in (1, 3) or 0 in sides:
        raise ValueError(
            f"images of {where} must have shape [{', '.join(axes)}] with H and W above 0 and "
            f"C 1 or 3, not {pixels.shape}."
        )
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind != "f" and (kind, size) not in (("u", 1), ("u", 2)):
        raise ValueError(
            f"pixels of {where} must be uint8, uint16 or floating point, not {pixels.dtype}."
        )


def label_of(pool: Pool, i: int) -> int:
    """Label of example i of a pool; ValueError for one that is not of its classes."""
    label = pool.label(i)
    if np.ndim(label):
        raise ValueError(f"the labels of {pool.where} are boxes, not classes.")
    try:
        label = operator.index(label)
    except TypeError:
        raise ValueError(f"label {label!r} of {pool.where} is no integer.") from None
    if not 0 <= label < pool.num_classes:
        raise ValueError(
            f"label {label} of {pool.where} is outside the {pool.num_classes} classes "
            f"0 to {pool.num_classes - 1}."
        )
    return label


def num_classes_of(labels: np.ndarray, where: str) -> int:
    """The largest of labels [N] and one; ValueError where that is too many classes."""
    largest = int(labels.max(initial=0))
    if largest >= _MOST_CLASSES:
        raise ValueError(f"labels of {where} must be from 0 to {_MOST_CLASSES - 1}, got {largest}.")
    return largest + 1


def _array(value: Any, what: str, where: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):  # such as rows of several lengths
        shown = one_line(repr(value), 80)
        raise ValueError(f"{what} of {where} must be one array, got {shown}.") from None


def _names(classes: Any, num: int | None, where: str) -> list[str] | None:
    """Names of the classes, which must be as many as are given."""
    if classes is None:
        return None
    names = _array(classes, "classes", where)
    if names.ndim != 1 or len(names) != (num or max(1, len(names))):
        shown = one_line(repr(classes), 80)
        count = f"{num} names" if num else "a list of names"
        raise ValueError(f"classes of {where} must be {count}, got {shown}.")
    return [str(name) for name in names]
