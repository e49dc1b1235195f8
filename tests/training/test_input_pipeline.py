"""Batches: all examples, in an order of the seed, the same wherever they start."""

import itertools

import numpy as np
import pytest
from PIL import Image

from lswag_jax import data
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.input_pipeline import Pipeline
from tests.helpers.batches import message
from tests.helpers.training import pool

CHANGES = AugmentOptions(crop="pad", flip=True, rand_augment=2)


def numbered(n=20):
    """A pool in which the class is the example."""
    images = np.zeros((n, 8, 8, 1), np.uint8)
    return data.array_pool(images, np.arange(n), "numbers", "numbers")


def pipeline(source=None, augment=CHANGES, batch_size=8, **fields):
    return Pipeline(source or pool(), 8, 1, batch_size, augment, **fields)


@pytest.mark.parametrize("start", [0, 7])
def test_batches_depend_on_seed_and_step_only(start):
    batches = list(itertools.islice(pipeline(seed=3).training(), 12))
    for a, b in zip(batches[start:], pipeline(seed=3).training(start), strict=False):
        for key in ("image", "label"):
            np.testing.assert_array_equal(a[key], b[key])
    other = next(pipeline(seed=4).training())
    assert (other["label"] != batches[0]["label"]).any()
    assert batches[0]["image"].dtype == np.uint8


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
    batches = itertools.islice(pipeline(numbered(), batch_size=5).training(), 8)
    labels = np.concatenate([batch["label"] for batch in batches])
    first, second = labels[:20], labels[20:]
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first != second).any()


def test_examples_change_from_epoch_to_epoch():
    one = numbered(1)
    one = data.array_pool(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1), [0], "one", "one")
    batches = itertools.islice(pipeline(one, AugmentOptions("pad"), 1).training(), 10)
    assert len({batch["image"].tobytes() for batch in batches}) > 3


def test_validation_has_every_example_in_order():
    batches = list(pipeline(numbered()).validation())
    assert [len(batch["label"]) for batch in batches] == [8, 8, 8]
    weight = np.concatenate([batch["weight"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(labels[weight == 1], np.arange(20))
    assert weight.sum() == 20


def test_a_validation_smaller_than_a_batch_is_filled_up():
    (batch,) = pipeline(numbered(), batch_size=32).validation()
    assert batch["image"].shape[0] == 32
    assert batch["weight"].sum() == 20


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "b" / "2.png").write_bytes(b"no image")
    broken = Pipeline(data.open_pool(tmp_path), 8, 3, 2, CHANGES)
    with pytest.raises(ValueError, match=r"cannot read the image .*b/2\.png") as error:
        list(itertools.islice(broken.training(), 4))
    message(error)


def test_bad_sizes():
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 20 images"):
        pipeline(numbered(), batch_size=21).steps_per_epoch  # noqa: B018
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        pipeline(numbered(), batch_size=0)
    with pytest.raises(ValueError, match="workers must be"):
        pipeline(workers=-1)


@pytest.mark.slow
def test_processes_give_what_threads_give():
    for a, b in zip(
        itertools.islice(pipeline(workers=2).training(5), 4), pipeline().training(5), strict=False
    ):
        np.testing.assert_array_equal(a["image"], b["image"])
