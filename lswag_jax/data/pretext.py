"""Pools whose labels are made of the images themselves: which way up, which order of tiles.

Rotation: Gidaris et al., Unsupervised representation learning by predicting image rotations, ICLR
2018. Jigsaw: Noroozi and Favaro, ECCV 2016, as in TransNAS-Bench-101 (`lswag_jax.tasks.jigsaw`),
but the tiles laid out as one picture, for networks that see pictures. What is drawn for image i
depends on (seed, i) alone.
"""

import dataclasses

import numpy as np

from lswag_jax import tasks
from lswag_jax.data.pool import Pool
from lswag_jax.options import Count, Seed, typed

TURNS = ("upright", "a quarter left", "upside down", "a quarter right")


@typed
def rotated(pool: Pool, seed: Seed = 0) -> Pool:
    """A pool of images turned by a number of quarters, which is the label.

    Args:
        pool: of square images.
        seed: of the turns.

    Raises:
        ValueError: when an image is read that is not square, whose shape would tell the label.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> plain = open_pool("embedded")
        >>> pool = rotated(plain)
        >>> bool((np.rot90(plain.image(7), pool.label(7)) == pool.image(7)).all())
        True
    """

    def label(i: int) -> int:
        return int(np.random.default_rng((seed, i)).integers(len(TURNS)))

    def image(i: int) -> np.ndarray:
        upright = pool.image(i)
        height, width = upright.shape[:2]
        if height != width:
            raise ValueError(
                f"images to be rotated must be square, image {i} of {pool.where} has {height} x "
                f"{width} pixels."
            )
        return np.ascontiguousarray(np.rot90(upright, label(i)))

    return dataclasses.replace(
        pool,
        where=f"{pool.where}, rotated (seed {seed})",
        label=label,
        image=image,
        num_classes=len(TURNS),
        classes=TURNS,
    )


@typed
def puzzles(pool: Pool, num_orders: Count = 30, seed: Seed = 0) -> Pool:
    """A pool of images cut into nine tiles that are shuffled; the label is their order.

    An image of S x S pixels becomes one of 3 (S // 4) on a side: tiles are crops from the cells of
    a grid, so that edges do not tell neighbours.

    Args:
        pool: of images of at least 4 x 4 pixels.
        num_orders: classes, the first of `tasks.jigsaw_orders`.
        seed: of orders and crops.

    Example:
        >>> from lswag_jax.data import open_pool
        >>> pool = puzzles(open_pool("embedded"), num_orders=10)
        >>> pool.image(0).shape, pool.num_classes
        ((21, 21, 1), 10)
    """

    def cut(i: int, image: np.ndarray) -> tuple[np.ndarray, int]:
        cut_seed = int(np.random.default_rng((seed, i)).integers(2**31))
        tiles, labels = tasks.jigsaw(image[None], cut_seed, num_orders)
        return tiles[0], int(labels[0])

    def image(i: int) -> np.ndarray:
        tiles, _ = cut(i, pool.image(i))
        _, height, width, channels = tiles.shape
        rows = tiles.reshape(3, 3, height, width, channels).transpose(0, 2, 1, 3, 4)
        return rows.reshape(3 * height, 3 * width, channels)

    blank = np.zeros((4, 4, 1), np.uint8)  # the order does not depend on the pixels
    return dataclasses.replace(
        pool,
        where=f"{pool.where}, puzzles of {num_orders} orders (seed {seed})",
        label=lambda i: cut(i, blank)[1],
        image=image,
        num_classes=num_orders,
        classes=None,
    )
