"""Detection: the loss against its definition written out, boxes there and back, mAP by hand."""

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax import detection, tasks

CLASSES, GRID = 3, (4, 6)
NOTHING = [-1, 0, 0, 0, 0]
BOXES = np.array(
    [
        [[0, 0.1, 0.1, 0.9, 0.5], [2, 0.3, 0.2, 0.6, 0.4]],  # a smaller one inside of a larger one
        [[1, 0.97, 0.97, 1.0, 1.0], NOTHING],  # smaller than a patch
        [NOTHING, NOTHING],
    ]
)


@pytest.fixture
def outputs(rng):
    return rng.normal(scale=2, size=(len(BOXES), *GRID, CLASSES + 4))


def expected_loss(outputs, boxes):
    """The loss of one image, patch by patch."""
    total, positives = 0.0, 0
    for i, j in itertools.product(*map(range, GRID)):
        c, s = np.array([(i + 0.5) / GRID[0], (j + 0.5) / GRID[1]]), 1 / np.array(GRID)
        near = []
        for k, *corners in boxes.tolist():
            m = np.array([corners[0] + corners[2], corners[1] + corners[3]]) / 2
            z = np.array([corners[2] - corners[0], corners[3] - corners[1]])
            if k >= 0 and all(abs(m - c) <= np.maximum(z / 4, s / 2)):
                near.append((z[0] * z[1], int(k), [*(m - c) / s, *np.log(z / s)]))
        own = min(near)[1] if near else -1
        for k in range(CLASSES):
            p = 1 / (1 + 99 * math.exp(-outputs[i, j, k]))
            total -= (1 - p) ** 2 * math.log(p) / 4 if k == own else 0
            total -= 3 * p**2 * math.log(1 - p) / 4 if k != own else 0
        if near:
            positives += 1
            for error in np.abs(outputs[i, j, CLASSES:] - min(near)[2]):
                total += error**2 / 2 if error < 1 else error - 0.5
    return total / max(positives, 1)


def test_loss(x64, outputs):
    found = tasks.detection(CLASSES).loss(jnp.asarray(outputs), jnp.asarray(BOXES))
    expected = [expected_loss(y, boxes) for y, boxes in zip(outputs, BOXES, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradients_are_finite_and_a_samples_own(outputs):
    """Also of images without an object, and of what only fills the array up."""
    outputs, boxes = jnp.asarray(outputs, jnp.float32), jnp.asarray(BOXES, jnp.float32)

    def first(outputs):
        return detection.loss(outputs, boxes)[0]

    gradient = jax.grad(first)(outputs)
    assert np.abs(gradient[0]).min(axis=-1).max() > 0
    np.testing.assert_array_equal(gradient[1:], 0)
    every = jax.grad(lambda outputs: detection.loss(outputs, boxes).sum())(outputs)
    assert np.isfinite(every).all()
    np.testing.assert_array_equal(every[2, ..., CLASSES:], 0)


def test_every_box_has_a_patch(rng):
    low = rng.uniform(0, 0.9, (50, 1, 2))
    boxes = np.concatenate([np.ones((50, 1, 1)), low, rng.uniform(low + 1e-3, 1)], axis=-1)
    classes, _ = detection.assign(jnp.asarray(boxes, jnp.float32), (7, 5))
    assert set(np.unique(classes)) == {-1, 1}
    assert (classes == 1).any(axis=1).all()


def test_offsets_are_the_boxes_again():
    """A network that puts out what it is to put out finds every box, once."""
    classes, offsets = detection.assign(jnp.asarray(BOXES, jnp.float32), GRID)
    logits = 20 * jax.nn.one_hot(classes, CLASSES) - 10
    outputs = jnp.concatenate([logits, offsets], axis=-1).reshape(len(BOXES), *GRID, -1)
    found = detection.detect(outputs)
    for i, boxes in enumerate(BOXES):
        is_sure = found.scores[i] > 0.5
        rows = np.column_stack([found.classes[i], found.boxes[i]])[is_sure]
        expected = boxes[boxes[:, 0] >= 0]
        np.testing.assert_allclose(rows[np.argsort(rows[:, 0])], expected, atol=1e-6)
    average = detection.average_precision(found, BOXES)
    assert average == {"map": pytest.approx(1), "map50": pytest.approx(1)}


def test_suppression_is_greedy():
    """A box covers a worse one of its class only, and not where it is covered itself."""
    steps = [[0, 0, 1, 1], [0, 0, 1, 0.8], [0, 0, 1, 0.45], [0, 0, 1, 1]]
    classes = np.array([[0, 0, 0, 1]])
    kept = detection._not_covered(np.array([steps], float), classes, 0.5)
    np.testing.assert_array_equal(kept, [[True, False, True, True]])


def test_average_precision_by_hand():
    """At .5 to .6 the ranking is right, wrong, right; above only the first is right."""
    truth = np.array([[[0, 0, 0, 0.5, 0.5]], [[0, 0.5, 0.5, 1, 1]]])
    boxes = np.array(
        [
            [[0, 0, 0.5, 0.5], [0, 0, 1, 1]],
            [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 0.81]],  # the second covers .62
        ]
    )
    scores = np.array([[0.9, 0.0], [0.8, 0.7]])  # one is suppressed
    found = detection.Detections(boxes, np.zeros((2, 2), int), scores)
    average = detection.average_precision(found, truth)
    # Interpolated at 101 recalls: 51 at precision 1, then 50 at 2/3 or at none.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert average["map50"] == pytest.approx(low)
    assert average["map"] == pytest.approx((3 * low + 7 * high) / 10)
    nothing = found._replace(scores=np.zeros((2, 2)))
    assert detection.average_precision(nothing, truth) == {"map": 0, "map50": 0}
    assert detection.average_precision(found, np.array([[NOTHING]] * 2))["map"] == -1


def test_without_pycocotools_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    found = detection.detect(np.zeros((1, 1, 1, 5)))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lswag_jax\[detection\]'"):
        detection.average_precision(found, BOXES[:1])


def test_synthetic_boxes_fit_the_task():
    task, images = tasks.detection(CLASSES), np.zeros((5, 8, 8, 3))
    labels = tasks.synthetic_targets(task, images, seed=1)
    assert task.check(images, labels).shape == (5, 3, 5)
    with pytest.raises(ValueError, match="cannot be made from images"):
        task.from_images(images, 0)


def changed(index, value):
    boxes = BOXES.copy()
    boxes[index] = value
    return boxes


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (BOXES[:2], r"must be floats of shape \(3, K, 5\), got float64 of shape \(2, 2, 5\)"),
        (BOXES[:, :0], r"must be floats of shape \(3, K, 5\)"),
        (BOXES.astype(int), r"must be floats of shape \(3, K, 5\), got int64"),
        ([0, 1, 2], r"must be floats of shape \(3, K, 5\), got int64 of shape \(3,\)"),
        (changed((0, 0, 0), 3), r"whole numbers in \[0, 3\), or -1 for no object, got 3.0"),
        (changed((0, 0, 0), 0.5), "got 0.5"),
        (changed((0, 0, 1), np.nan), r"in \[0, 1\], got top, left, bottom and right \[nan,"),
        (changed((0, 0, 4), 1.5), r"top < bottom and left < right in \[0, 1\]"),
        (changed((0, 0, 4), 0.1), r"right \[0.1, 0.1, 0.9, 0.1\]"),
    ],
)
def test_bad_boxes_are_one_sentence(boxes, message):
    with pytest.raises(ValueError, match=message) as error:
        tasks.detection(CLASSES).check(np.zeros((3, 8, 8, 3)), boxes)
    assert "\n" not in str(error.value)
