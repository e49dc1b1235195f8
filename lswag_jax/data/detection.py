"""Pools of images with boxes: real things pasted on real images; and what a detector sees of them.

A pasted set is a synthetic composition, no photographs of scenes: items such as Fashion-MNIST's, of
a random size, at random places on backgrounds such as CIFAR-10's images. What is drawn for image i
depends on (seed, i) alone, and its boxes are exact. Photographs with boxes, COCO's among them, are
opened by `data.open_pool("tfds:coco/2017", label_key="objects")`.
"""

import functools
from typing import Annotated

import numpy as np

from lswag_jax.data.batch import label_of, to_bytes
from lswag_jax.data.pool import Pool
from lswag_jax.detection import intersection_over_union
from lswag_jax.extras import extra
from lswag_jax.options import Bound, Count, ImageSize, Seed, Share, typed

_VISIBLE = 1 / 8  # brightness from which an item's pixel hides the background
_TRIES = 20  # places drawn for an item before it is left out


@typed
def pasted(
    items: Pool,
    backgrounds: Pool,
    num: Count,
    seed: Seed = 0,
    *,
    size: ImageSize = 64,
    most: Count = 3,
    sides: tuple[Annotated[int, Bound(2)], Annotated[int, Bound(2)]] = (16, 32),
    overlap: Share = 0.1,
) -> Pool:
    """A pool of backgrounds with 1 to `most` items on each.

    An item's dark pixels are transparent; its box is that of its visible ones. An item for which no
    place is found is left out.

    Args:
        items: of square images, bright things on black, whose classes are those of the boxes.
        backgrounds: of images whose labels do not matter.
        num: images.
        seed: of items, sizes, places and backgrounds.
        size: of an image, in pixels.
        most: items on one.
        sides: smallest and largest side of an item's image, in pixels.
        overlap: bound on the intersection over union of two boxes.

    Returns:
        A pool of uint8 images [size, size, 3], whose labels are boxes float32 [K, 5]: class, top,
        left, bottom, right (`lswag_jax.detection.assign`).

    Raises:
        ValueError: sides that are no range, or larger than the image.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> plain = open_pool("embedded")
        >>> pool = pasted(plain, plain, 100)
        >>> pool.image(0).shape, pool.label(0).shape[1]
        ((64, 64, 3), 5)
    """
    low, high = sides
    if not low <= high <= size:
        raise ValueError(f"sides must be a range of at most {size} pixels, got {sides}.")

    @functools.lru_cache(maxsize=1)
    def compose(i: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((seed, i))
        ground = backgrounds.image(int(rng.integers(backgrounds.size)))
        image, boxes = to_bytes(ground, backgrounds.where, 3, size), np.empty((0, 5))
        for _ in range(rng.integers(1, most, endpoint=True)):
            j = int(rng.integers(items.size))
            item = _visible(
                to_bytes(items.image(j), items.where, 3, int(rng.integers(low, high + 1)))
            )
            for _ in range(_TRIES):
                corner = rng.integers(0, size - np.array(item.shape[:2]), endpoint=True)
                box = np.concatenate([corner, corner + item.shape[:2]]) / size
                if (intersection_over_union(boxes[:, 1:], box[None]) <= overlap).all():
                    boxes = np.vstack([boxes, [label_of(items, j), *box]])
                    place = tuple(map(slice, corner, corner + item.shape[:2]))
                    image[place] = np.where(_is_visible(item), item, image[place])
                    break
        return image, boxes.astype(np.float32)

    return Pool(
        name="pasted",
        where=f"{items.where} pasted on {backgrounds.where}, {num} (seed {seed})",
        size=num,
        label=lambda i: compose(i)[1],
        image=lambda i: compose(i)[0].copy(),
        num_classes=items.num_classes,
        classes=items.classes,
    )


def _is_visible(item: np.ndarray) -> np.ndarray:
    return item.max(axis=-1, keepdims=True) >= 255 * _VISIBLE


def _visible(item: np.ndarray) -> np.ndarray:
    """The part of an item that its visible pixels span; all of one that has none."""
    rows, columns = (np.flatnonzero(_is_visible(item)[..., 0].any(axis)) for axis in (1, 0))
    return item[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else item


@typed
def arrays(pool: Pool, size: ImageSize) -> tuple[np.ndarray, np.ndarray]:
    """Images and boxes of a pool in memory, as a network sees them.

    Images are resized to a square whatever their shape, which leaves boxes in shares as they are.

    Args:
        pool: whose labels are boxes.
        size: of the square, in pixels.

    Returns:
        Images uint8 [N, size, size, 3], and boxes float32 [N, K, 5] with as many rows as any image
        needs; what fills them up has the class -1.

    Raises:
        ValueError: the labels are classes.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> plain = open_pool("embedded")
        >>> images, boxes = arrays(pasted(plain, plain, 8, most=2), 64)
        >>> images.shape, boxes.shape
        ((8, 64, 64, 3), (8, 2, 5))
    """
    images = np.empty((pool.size, size, size, 3), np.uint8)
    labels = []
    for i in range(pool.size):
        images[i] = _squeezed(pool.image(i), pool, size)
        labels.append(np.asarray(pool.label(i), np.float32))
        if labels[-1].ndim != 2:
            raise ValueError(f"the labels of {pool.where} are classes, not boxes.")
    boxes = np.zeros((pool.size, max(1, *map(len, labels)), 5), np.float32)
    boxes[..., 0] = -1
    for row, label in zip(boxes, labels, strict=True):
        row[: len(label)] = label
    return images, boxes


def _squeezed(image: np.ndarray, pool: Pool, size: int) -> np.ndarray:
    """uint8 [size, size, 3], height and width resized each for itself."""
    pixels = to_bytes(image, pool.where, 3, None)
    if pixels.shape[:2] == (size, size):
        return pixels
    with extra("data"):
        from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized)
