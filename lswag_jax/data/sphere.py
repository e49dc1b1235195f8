"""Images on a sphere, as in Spherical MNIST and NAS-Bench-360's Spherical CIFAR-100.

A unit sphere touches the plane of the image with its south pole. Seen from the north pole, the
point (x, y, z) of the sphere lies over the point

    2 (x, y) / (1 - z)

of the plane, in which the image fills the square [-1.5, 1.5]^2; beyond it the sphere is black. The
sphere is first rotated. Its points are those of Driscoll and Healy's grid of bandwidth b,
theta_j = pi j / 2b and phi_k = pi k / b, so that an image becomes one of 2b x 2b pixels.

Source: jonkhler/s2cnn, examples/mnist/gendata.py (Cohen et al., Spherical CNNs, ICLR 2018). Here
interpolation is plainly bilinear and brightness is kept, where that code stretches each image's.
"""

import dataclasses
import functools

import numpy as np
from scipy.spatial.transform import Rotation

from lswag_jax.data.pool import Pool
from lswag_jax.options import Seed, typed

BANDWIDTH = 30  # of Spherical MNIST and Spherical CIFAR-100: 60 x 60 pixels
HALF_WIDTH = 1.5  # of the image in the plane
_POLE = 1e-9  # nearer than this, the north pole sees infinity


@functools.cache
def grid(bandwidth: int = BANDWIDTH) -> np.ndarray:
    """Unit vectors of Driscoll and Healy's grid, [2b, 2b, 3]: rows are theta, columns phi."""
    theta = np.pi * np.arange(2 * bandwidth) / (2 * bandwidth)
    phi = np.pi * np.arange(2 * bandwidth) / bandwidth
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    return np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
    )


def project(
    image: np.ndarray, rotation: Rotation | None = None, bandwidth: int = BANDWIDTH
) -> np.ndarray:
    """An image on the sphere.

    Args:
        image: [H, W, C], uint8 or any other type; its rows go along x and its columns along y.
        rotation: of the sphere's points; None for none.
        bandwidth: b.

    Returns:
        [2b, 2b, C] of the image's dtype; 0 where the sphere is black.

    Example:
        >>> sphere = project(np.full((32, 32, 3), 200, np.uint8))
        >>> sphere.shape, sphere[0].max(), sphere[-1].min()  # the north and the south pole
        ((60, 60, 3), np.uint8(0), np.uint8(200))
    """
    points = grid(bandwidth)
    if rotation is not None:
        points = rotation.apply(points.reshape(-1, 3)).reshape(points.shape)
    away = 1 - points[..., 2:]
    plane = 2 * points[..., :2] / np.maximum(away, _POLE)
    # Pixel centres are at half-integers of the unit square.
    place = (plane / HALF_WIDTH + 1) / 2 * image.shape[:2] - 0.5
    inside = (np.abs(plane).max(axis=-1, keepdims=True) <= HALF_WIDTH) & (away > _POLE)
    sampled = np.where(inside, _bilinear(image, place), 0)
    return (np.rint(sampled) if image.dtype.kind == "u" else sampled).astype(image.dtype)


def _bilinear(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values [..., C] at places [..., 2] in pixels; the border's beyond the border."""
    last = np.array(image.shape[:2]) - 1
    place = np.clip(place, 0, last)
    low = np.minimum(place.astype(int), np.maximum(last - 1, 0))
    part = place - low
    total = 0.0
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = np.moveaxis(np.minimum(low + corner, last), -1, 0)
        weight = np.where(corner, part, 1 - part).prod(axis=-1, keepdims=True)
        total = total + weight * image[row, column]
    return total


@typed
def on_sphere(pool: Pool, seed: Seed = 0) -> Pool:
    """A pool whose image i lies on the sphere, at a uniform rotation drawn by (seed, i).

    Args:
        pool: of plane images.
        seed: of the rotations.
    """

    def image(i: int) -> np.ndarray:
        rotation = Rotation.random(None, np.random.default_rng((seed, i)))
        return project(pool.image(i), rotation)

    return dataclasses.replace(
        pool, name=f"sphere_{pool.name}", where=f"{pool.where} on the sphere", image=image
    )
