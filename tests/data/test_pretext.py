"""Labels made of the images, and parts of a pool by class."""

import numpy as np
import pytest

from lswag_jax import data, tasks
from lswag_jax.data import pretext
from tests.helpers import training


def test_a_puzzle_is_the_shuffled_tiles():
    """Put back in order, the tiles are crops of their own cells, and labels are drawn evenly."""
    ramp = np.broadcast_to(np.arange(24 * 24).reshape(24, 24, 1), (300, 24, 24, 1)) // 4
    plain = data.array_pool(ramp.astype(np.uint8), np.zeros(300, int), "ramp", "ramp", 1)
    pool = pretext.puzzles(plain, num_orders=5, seed=3)
    labels = [pool.label(i) for i in range(pool.size)]
    assert min(np.bincount(labels, minlength=5)) > 30
    for i in range(5):
        order = tasks.jigsaw_orders(5)[labels[i]]
        picture = pool.image(i)
        for place, cell in enumerate(order):
            row, column = np.divmod(place, 3)
            tile = picture[6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
            row, column = np.divmod(int(cell), 3)
            own = ramp[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            windows = np.lib.stride_tricks.sliding_window_view(own[..., 0], (6, 6))
            assert (windows == tile[..., 0]).all(axis=(2, 3)).any()
    np.testing.assert_array_equal(pool.image(4), pool.image(4))


def test_a_turned_image_has_its_turn_as_label():
    plain = training.pool(n=200)
    pool = pretext.rotated(plain, seed=1)
    labels = [pool.label(i) for i in range(pool.size)]
    assert min(np.bincount(labels, minlength=4)) > 30
    assert labels != [pretext.rotated(plain, seed=2).label(i) for i in range(pool.size)]
    for i in range(8):
        np.testing.assert_array_equal(np.rot90(pool.image(i), -labels[i]), plain.image(i))


def test_as_many_of_each_class():
    pool = training.pool(n=48, num_classes=4)
    part = data.per_class(pool, 5, seed=1)
    assert np.bincount([part.label(i) for i in range(part.size)]).tolist() == [5] * 4
    with pytest.raises(ValueError, match="has 12 examples of one of its classes, fewer than 13"):
        data.per_class(pool, 13)
    assert data.some(pool, 7).size == 7
    assert data.some(pool, 100) is pool


def test_an_oblong_image_is_not_turned():
    """Its shape would tell the label."""
    images = np.zeros((3, 4, 6, 1), np.uint8)
    pool = pretext.rotated(data.array_pool(images, np.zeros(3, int), "mine.npz", "train", 1))
    with pytest.raises(ValueError, match=r"must be square, image 0 of .* has 4 x 6"):
        pool.image(0)
