"""Pasted things: their boxes are those of the pixels that changed."""

import dataclasses
import re

import numpy as np
import pytest

from lswag_jax import data, detection
from lswag_jax.data.detection import arrays, pasted
from tests.helpers.batches import message

ITEMS = data.open_pool("embedded")
GROUND = (20, 40, 60)  # of no grey


def plain(size=64):
    image = np.tile(np.array(GROUND, np.uint8), (size, size, 1))
    return data.array_pool(image[None], np.zeros(1, int), "plain", "plain")


def test_boxes_are_those_of_the_pixels():
    pool, kinds = pasted(ITEMS, plain(), 40, seed=3, overlap=0.0), set()
    for i in range(pool.size):
        image, boxes = pool.image(i), pool.label(i)
        changed = (image != GROUND).any(axis=-1)
        covered = np.zeros_like(changed)
        for kind, *corners in boxes.tolist():
            top, left, bottom, right = np.rint(np.array(corners) * 64).astype(int)
            inside = changed[top:bottom, left:right]
            # Something is seen on each side of the box.
            assert all(side.any() for side in (inside[0], inside[-1], *inside.T[[0, -1]]))
            assert max(inside.shape) <= 32
            covered[top:bottom, left:right] = True
            kinds.add(kind)
        assert not (changed & ~covered).any()
        assert 1 <= len(boxes) <= 3
    assert kinds <= set(range(10))
    assert len(kinds) > 5


def test_overlap_is_bounded():
    pool = pasted(ITEMS, plain(), 40, most=8, sides=(24, 32), overlap=0.2)
    overlaps = []
    for i in range(pool.size):
        boxes = pool.label(i)[:, 1:]
        pairs = detection.intersection_over_union(boxes[:, None], boxes[None])
        overlaps += pairs[np.triu_indices(len(boxes), 1)].tolist()
    assert 0.1 < max(overlaps) <= 0.2 + 1e-6


def test_an_image_depends_on_the_seed_and_its_number():
    pool, more, other = (pasted(ITEMS, plain(), n, seed) for n, seed in ((3, 0), (9, 0), (3, 1)))
    for read in ("image", "label"):
        np.testing.assert_array_equal(getattr(pool, read)(2), getattr(more, read)(2))
    assert not np.array_equal(pool.image(2), other.image(2))
    assert pool.where == "embedded split 'train' pasted on plain, 3 (seed 0)"
    assert (pool.num_classes, pool.classes) == (10, ITEMS.classes)


def test_the_labels_are_the_items():
    """Of one class alone every box has it."""
    boots = dataclasses.replace(ITEMS, label=lambda i: 9)
    assert {*np.concatenate([pasted(boots, plain(), 9).label(i)[:, 0] for i in range(9)])} == {9}


def test_images_are_squeezed_and_boxes_padded():
    wide = np.zeros((20, 40, 1), np.uint8)
    wide[:10, :20] = 255
    labels = [np.array([[1, 0, 0, 0.5, 0.5]]), np.zeros((0, 5))]
    pool = data.Pool("wide", "wide", 2, labels.__getitem__, lambda i: wide, 2)
    images, boxes = arrays(pool, 10)
    assert images.shape == (2, 10, 10, 3)
    np.testing.assert_array_equal(
        images[0, ..., 0] > 127, np.outer(np.arange(10) < 5, np.arange(10) < 5)
    )
    np.testing.assert_array_equal(boxes[0], labels[0].astype(np.float32))
    assert boxes[1, 0, 0] == -1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pasted(ITEMS, plain(), 2, sides=(32, 16)), "at most 64 pixels, got (32, 16)"),
        (lambda: pasted(ITEMS, plain(), 2, sides=(16, 65)), "a range of at most 64 pixels"),
        (lambda: pasted(ITEMS, plain(), 2, overlap=2), "overlap of pasted must be a number"),
        (lambda: arrays(ITEMS, 64), "the labels of embedded split 'train' are classes, not boxes"),
        (
            lambda: data.label_of(pasted(ITEMS, plain(), 2), 0),
            "pasted on plain, 2 (seed 0) are boxes, not classes",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(make, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        make()
    message(error)
