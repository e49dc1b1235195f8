"""Tasks: losses against PyTorch's definitions written out, labels, jigsaws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import tasks

IMAGES = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)


def outputs_of(task, rng):
    shape = (*IMAGES.shape[:3], task.outputs) if task.dense else (len(IMAGES), task.outputs)
    return rng.standard_normal(shape)


def inputs_and_labels(task):
    if task.makes_labels:
        return task.from_images(IMAGES, seed=3)
    return IMAGES, tasks.synthetic_targets(task, IMAGES, seed=3)


@pytest.mark.parametrize("name", tasks.names())
def test_labels_fit_the_task(name, rng):
    """Made or synthetic labels pass the check, are seeded, and give a finite loss a sample."""
    task = tasks.get(name)
    images, labels = inputs_and_labels(task)
    np.testing.assert_array_equal(labels, inputs_and_labels(task)[1])
    checked = task.check(images, labels)
    loss = task.loss(jnp.asarray(outputs_of(task, rng)), checked)
    assert loss.shape == (4,)
    assert np.isfinite(loss).all()
    assert (loss > 0).all()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


EXPECTED = {
    "class_scene": lambda y, t: -(t * np.log(softmax(y) + 1e-5)).sum(-1),
    "jigsaw": lambda y, t: -np.log(softmax(y))[np.arange(4), t],
    "room_layout": lambda y, t: ((y - t) ** 2).mean(-1),
    "segmentsemantic": lambda y, t: (
        -np.log(np.take_along_axis(softmax(y), t[..., None], -1)).mean((1, 2, 3))
    ),
    "autoencoder": lambda y, t: np.abs(y - t).mean((1, 2, 3)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_losses(x64, name, rng):
    task = tasks.get(name)
    labels = inputs_and_labels(task)[1]
    y = outputs_of(task, rng)
    found = task.loss(jnp.asarray(y), jnp.asarray(labels))
    np.testing.assert_allclose(found, EXPECTED[name](y, labels), rtol=1e-6)


def test_integer_labels_are_one_hot_probabilities(rng):
    task = tasks.get("class_scene")
    y, labels = jnp.asarray(outputs_of(task, rng)), jnp.array([0, 62, 5, 5])
    rows = jax.nn.one_hot(labels, 63)
    assert task.check(IMAGES, labels).dtype == jnp.int32
    np.testing.assert_allclose(task.loss(y, labels), task.loss(y, task.check(IMAGES, rows)))


def test_jigsaw_orders():
    """Distinct orders, far apart: the published list has the same mean distance, 8.008."""
    orders = tasks.jigsaw_orders(1000, seed=1)
    assert {tuple(sorted(order)) for order in orders.tolist()} == {tuple(range(9))}
    distance = (orders[:, None] != orders).sum(-1)[np.triu_indices(1000, 1)]
    assert distance.min() >= 2
    assert distance.mean() == pytest.approx(8.008, abs=5e-4)
    assert not np.array_equal(orders, tasks.jigsaw_orders(1000, seed=2))


def test_jigsaw_tiles_are_crops_of_their_cells():
    place = np.arange(64 * 64).reshape(1, 64, 64, 1)
    tiles, labels = tasks.jigsaw(np.repeat(place, 5, axis=0), seed=0, num_orders=50)
    assert tiles.shape == (5, 9, 16, 16, 1)
    for tile, label in zip(tiles, labels, strict=True):
        cells = tasks.jigsaw_orders(50, 0)[label]
        for piece, cell in zip(tile[..., 0], cells.tolist(), strict=True):
            row, column = np.divmod(piece, 64)
            top, left = cell // 3 * 21, cell % 3 * 21
            assert top <= row.min() <= row.max() < top + 21
            assert left <= column.min() <= column.max() < left + 21
            assert (np.diff(row, axis=0) == 1).all()
            assert (np.diff(column, axis=1) == 1).all()


def test_autoencoder_of_uint8():
    images, labels = tasks.get("autoencoder").from_images(np.array([[[[0, 255]]]], np.uint8), 0)
    np.testing.assert_array_equal(labels.ravel(), [-1, 1])
    np.testing.assert_array_equal(images, labels)


ROWS = np.full((4, 63), 1 / 63, np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tasks.get("depth"), "unknown task 'depth', known are class_object"),
        (lambda: tasks.Task("mine", 3, "text"), "target of mine must be one of"),
        (
            lambda: tasks.classification(0),
            "num_classes of classification must be an",
        ),
        (lambda: tasks.Task("mine", 3, tiles=4), r"tiles of mine must be one of \(1, 9\), got 4"),
        (lambda: tasks.get("jigsaw").check(IMAGES, [0] * 4), r"takes inputs \[B, 9, h, w, C\]"),
        (lambda: tasks.get("normal").check(IMAGES[0], IMAGES), r"takes inputs \[B, H, W, C\]"),
        (lambda: tasks.get("normal").check(IMAGES, IMAGES[:2]), "must be floats of shape"),
        (lambda: tasks.get("normal").check(IMAGES, np.nan * IMAGES), "must be finite"),
        (lambda: tasks.get("class_scene").check(IMAGES, 2 * ROWS), "that sum to 1"),
        (lambda: tasks.classification(3).check(IMAGES, [0, 1, 2, 3]), r"must be in \[0, 3\)"),
        (lambda: tasks.classification(3).check(IMAGES, [0.5] * 4), "must be integers of shape"),
        (lambda: tasks.classification(3).from_images(IMAGES, 0), "cannot be made from images"),
        (
            lambda: tasks.synthetic_targets(tasks.get("jigsaw"), IMAGES, 0),
            "makes its labels from images",
        ),
        (lambda: tasks.jigsaw(IMAGES[:, :2], 0), "of at least 4x4 pixels"),
        (lambda: tasks.jigsaw_orders(0), "num_orders must be from 1 to 362880, got 0"),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
