"""Images on the sphere: where points land, and rotations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lswag_jax import data
from lswag_jax.data import sphere


def test_points_land_where_the_formula_says():
    """The south pole sees the middle; a pixel is seen from the angle of its radius, 2 tan(t/2)."""
    image = np.zeros((31, 31, 1), np.float32)
    image[15, 15] = 1
    on_sphere = sphere.project(image, bandwidth=200)[..., 0]
    theta = np.pi * np.arange(400) / 400
    bright = theta[on_sphere.max(axis=1) > 1e-3]
    radius = 2 * np.tan((np.pi - bright.min()) / 2)
    # Bilinear interpolation reaches one pixel from the centre, on the diagonal sqrt(2) at most.
    assert 3 / 31 * 0.95 < radius < 3 / 31 * np.sqrt(2) * 1.05


def test_constant_image_covers_its_square_only():
    on_sphere = sphere.project(np.full((8, 8, 1), 255, np.uint8))[..., 0]
    points = sphere.grid()
    covered = 2 * np.abs(points[..., :2]).max(axis=-1) <= 1.5 * (1 - points[..., 2])
    covered[0] = False  # the north pole
    np.testing.assert_array_equal(on_sphere == 255, covered)
    assert set(np.unique(on_sphere)) == {0, 255}


def test_rotation_about_the_axis_rolls_the_longitudes(rng):
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    quarter = sphere.project(image, Rotation.from_euler("z", 90, degrees=True))
    difference = quarter.astype(int) - np.roll(sphere.project(image), -15, axis=1)
    assert np.abs(difference).max() <= 1  # rounding


def test_source_on_the_sphere():
    pool = data.open_pool("sphere:embedded")
    np.testing.assert_array_equal(pool.image(3), pool.image(3))
    assert pool.image(3).shape == (60, 60, 1)
    batch = data.load_batch("sphere:embedded", 8)
    assert batch.images.shape == (8, 60, 60, 1)
    assert abs(batch.images.mean()) < 1e-3  # measured, not Fashion-MNIST's own
    with pytest.raises(ValueError, match="unknown source 'cats'"):
        data.load_batch("sphere:cats", 8)
