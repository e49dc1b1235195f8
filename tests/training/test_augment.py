"""Random changes of images: what they leave, what they mix, what they draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.training import augment, rand_augment
from lswag_jax.training.augment import AugmentOptions


def test_padded_crop_is_a_shifted_image(rng):
    image = rng.integers(1, 256, (16, 16, 3), np.uint8)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (16, 16, 3)).reshape(-1, 16, 16, 3)
    seen = set()
    for _ in range(200):
        crop = augment.padded_crop(image, rng)
        seen.add(int(np.flatnonzero((views == crop).all(axis=(1, 2, 3)))[0]))
    assert seen == set(range(25))


def test_resized_crop_shows_a_part_of_the_image(rng):
    """Of an image that is its own coordinates, area and ratio of a crop can be read off."""
    rows, columns = np.meshgrid(np.arange(200), np.arange(160), indexing="ij")
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    areas = []
    for _ in range(100):
        crop = augment.resized_crop(image, 32, 0.25, rng).astype(int)
        height, width = (np.ptp(crop[..., axis]) / 31 * 32 for axis in (0, 1))
        areas.append(height * width / 32_000)
        assert 0.7 < height / width < 1.4
    assert 0.22 < min(areas) < 0.4
    assert max(areas) > 0.7


def test_evaluation_sees_the_centre():
    image = np.zeros((32, 32, 1), np.uint8)
    image[16:] = 255
    options = AugmentOptions(crop="resized")
    seen = augment.evaluation_image(image, "x", 1, 14, options)
    assert seen.shape == (14, 14, 1)  # of 16, an edge of one pixel cut off
    whole = augment.to_bytes(image, "x", 1, 16)
    np.testing.assert_array_equal(seen, whole[1:-1, 1:-1])


@pytest.mark.parametrize("name", rand_augment.OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_of_rand_augment(name, channels, rng):
    """All work on grey and colour; those with a magnitude do nothing, or little, at none."""
    from PIL import Image

    pixels = rng.integers(0, 256, (16, 16, channels), np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    operation = rand_augment.OPERATIONS[name]
    strong = np.asarray(operation(image, 0.9)).reshape(pixels.shape)
    assert strong.dtype == np.uint8
    if name not in ("auto_contrast", "equalize", "invert", "posterize"):
        none = np.asarray(operation(image, 0.0)).reshape(pixels.shape)
        np.testing.assert_array_equal(none, pixels)
        if (name, channels) != ("color", 1):
            assert (strong != pixels).any()
    if name == "invert":
        np.testing.assert_array_equal(strong, 255 - pixels)


def constant_images(batch=8):
    """Image i is all i."""
    return jnp.broadcast_to(jnp.arange(float(batch))[:, None, None, None], (batch, 16, 16, 1))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_pixels_are(kind):
    options = AugmentOptions(**{kind: 1.0})
    mix = jax.jit(lambda key: augment.mix(constant_images(), jnp.arange(8), 8, options, key))
    shares = []
    for seed in range(10):
        images, targets = mix(jax.random.key(seed))
        share = float(targets[0, 0])
        shares.append(share)
        np.testing.assert_allclose(images[0].mean(), 7 * (1 - share), atol=1e-4)
        np.testing.assert_allclose(targets[0, 7], 1 - share, atol=1e-6)
        if kind == "cutmix":
            assert set(np.unique(images[0])) <= {0.0, 7.0}
    assert np.std(shares) > 0.1


def test_smoothing():
    options = AugmentOptions(smoothing=0.1)
    images, targets = augment.mix(
        constant_images(2), jnp.array([0, 3]), 4, options, jax.random.key(0)
    )
    np.testing.assert_allclose(targets, [[0.925, 0.025, 0.025, 0.025], [0.025] * 3 + [0.925]])
    np.testing.assert_array_equal(images, constant_images(2))


def test_erasing():
    images = jnp.full((400, 16, 16, 1), 9.0)
    changed = np.asarray(augment.erase(images, 0.25, jax.random.key(0)) != 9)[..., 0]
    share = changed.mean(axis=(1, 2))
    assert 0.18 < (share > 0).mean() < 0.32  # 0.25 within three standard deviations
    assert share.max() < 0.45
    rows, columns = changed.any(axis=2), changed.any(axis=1)
    rectangles = rows[:, :, None] & columns[:, None, :]
    np.testing.assert_array_equal(changed, rectangles)


@pytest.mark.parametrize(
    ("field", "value"),
    [("crop", "centre"), ("smoothing", 1.5), ("magnitude", 11), ("mixup", -1), ("min_scale", 0)],
)
def test_bad_options(field, value):
    with pytest.raises(ValueError, match=field):
        AugmentOptions(**{field: value})
