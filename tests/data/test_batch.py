"""Draws, resizing, normalisation and errors of `lswag_jax.data`; embedded and real images."""

import dataclasses
import subprocess
import sys
import types
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from lswag_jax.data import array_pool, label_of, load_batch, make_batch, open_pool
from lswag_jax.data.batch import convert
from tests.helpers.batches import message, pixels, random_images

pytestmark = pytest.mark.filterwarnings("ignore:.* are constant")
ASSETS = resources.files("lswag_jax") / "assets"


def test_import_is_light():
    code = (
        "import sys, lswag_jax.data, lswag_jax.data.tfds;"
        "print([m for m in ('PIL', 'ml_collections', 'tensorflow_datasets', 'matplotlib') "
        "if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


# Embedded images.


def test_embedded_asset():
    path = ASSETS / "fashion_mnist_512.npz"
    assert path.stat().st_size < 600_000
    with np.load(path, allow_pickle=False) as archive:
        images, labels = archive["image"], archive["label"]
        assert archive["classes"].shape == (10,)
    assert images.shape == (512, 28, 28, 1)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert set(np.bincount(labels)) == {51, 52}
    assert len(np.unique(images.reshape(512, -1), axis=0)) == 512
    # The published mean and deviation of the whole data set, to the noise of 512 images.
    assert abs(images.mean() / 255 - 0.2860) < 0.01
    assert abs(images.std() / 255 - 0.3530) < 0.01
    licence = (ASSETS / "LICENSE.fashion_mnist").read_text()
    assert "Zalando SE" in licence
    assert "Permission is hereby granted" in licence


def test_embedded_images_are_those_of_the_data_set(shared_data):
    with np.load(shared_data / "images" / "fashion_mnist_full.npz") as archive:
        known = {
            image.tobytes(): label
            for image, label in zip(archive["image"], archive["label"], strict=True)
        }
    with np.load(ASSETS / "fashion_mnist_512.npz") as archive:
        for image, label in zip(archive["image"], archive["label"], strict=True):
            assert known[image.tobytes()] == label


def test_embedded_batch():
    batch = load_batch()
    assert batch.images.shape == (64, 28, 28, 1)
    assert batch.images.dtype == np.float32
    assert batch.labels.shape == (64,)
    assert batch.labels.dtype == np.int32
    assert batch.num_classes == 10
    assert batch.source == ("embedded split 'train', 64 of 512 images, balanced, seed 0, 28x28x1")


def test_whole_split_in_its_order():
    batch = load_batch(batch_size=None, normalize="unit")
    with np.load(ASSETS / "fashion_mnist_512.npz") as archive:
        np.testing.assert_array_equal(pixels(batch), archive["image"])
        np.testing.assert_array_equal(batch.labels, archive["label"])


# Draw.


def test_same_seed_same_batch():
    first, again, other = (load_batch(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64, 500])
def test_balanced_draw(batch_size):
    batch = load_batch(batch_size=batch_size, seed=1)
    counts = np.bincount(batch.labels, minlength=10)
    assert counts.sum() == batch_size
    assert set(counts) <= {batch_size // 10, -(-batch_size // 10)}
    # Without replacement.
    assert len(np.unique(batch.images.reshape(batch_size, -1), axis=0)) == batch_size


def test_extra_classes_and_order_are_seeded():
    counts = {tuple(np.bincount(load_batch(batch_size=14, seed=s).labels)) for s in range(5)}
    assert len(counts) > 1
    orders = {tuple(load_batch(batch_size=20, seed=s).labels) for s in range(5)}
    assert len(orders) == 5


def test_random_draw(rng):
    images, labels = random_images(rng, n=40)
    batch = make_batch(images, labels, 39, balanced=False, normalize="unit", seed=2)
    drawn = {image.tobytes() for image in pixels(batch)}
    assert len(drawn) == 39
    assert drawn < {image.tobytes() for image in images}
    assert not np.array_equal(pixels(batch), images[:39])


def test_every_example_is_equally_likely(rng):
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    labels = np.array([0] * 4 + [1] * 8)
    counts = np.zeros(12)
    for seed in range(600):
        batch = make_batch(images, labels, 4, seed=seed, normalize="unit")
        counts[pixels(batch).ravel()] += 1
    # Two of the class's 4 or 8 images a draw: 300 and 150 expected, deviations 12 and 11.
    assert np.all(abs(counts[:4] - 300) < 50)
    assert np.all(abs(counts[4:] - 150) < 45)


# Arrays, resizing, channels and normalisation.


def test_labels_follow_their_images(rng):
    images, labels = random_images(rng)
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    batch = make_batch(images, labels, 12, normalize="unit")
    assert [known[image.tobytes()] for image in pixels(batch)] == batch.labels.tolist()


@pytest.mark.parametrize("shape", [(32, 32), (40, 64), (64, 40)])
@pytest.mark.parametrize("size", [16, 48])
def test_resize_is_that_of_pillow(rng, shape, size):
    noise = rng.integers(0, 256, (*shape, 3), np.uint8)
    batch = make_batch(noise[None], [0], image_size=size, normalize="unit")
    scaled = tuple(size * side // min(shape) for side in shape)
    expected = Image.fromarray(noise).resize(scaled[::-1], Image.Resampling.BICUBIC)
    top, left = ((side - size) // 2 for side in scaled)
    expected = np.asarray(expected)[top : top + size, left : left + size]
    assert batch.images.shape == (1, size, size, 3)
    np.testing.assert_array_equal(pixels(batch)[0], expected)
    # Floating point is not rounded and clipped between Pillow's two passes: smooth images agree.
    y, x = np.mgrid[: shape[0], : shape[1]] / 70
    smooth = np.rint(255 * np.stack([x, y, (x + y) / 2], axis=-1)).astype(np.uint8)[None]
    bytewise, floating = (
        make_batch(images, [0], image_size=size, normalize="unit").images
        for images in (smooth, smooth / 255)
    )
    np.testing.assert_allclose(bytewise * 255, floating * 255, atol=1.1)


def test_channels(rng):
    images, labels = random_images(rng)
    grey = make_batch(images, labels, channels=1, normalize="unit").images
    np.testing.assert_allclose(
        grey[..., 0], images @ np.array([0.299, 0.587, 0.114]) / 255, atol=1e-6
    )
    colour = make_batch(images[..., :1], labels, channels=3, normalize="unit").images
    np.testing.assert_array_equal(np.rint(colour * 255), np.repeat(images[..., :1], 3, axis=-1))


@pytest.mark.parametrize(
    "same",
    [lambda x: x.astype(np.uint16) * 257, lambda x: x / 255, lambda x: np.float32(x) / 255],
    ids=["uint16", "float64", "float32"],
)
def test_dtypes_agree(same, rng):
    images, labels = random_images(rng)
    expected = make_batch(images, labels, normalize="unit").images
    found = make_batch(same(images), labels, normalize="unit").images
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_normalizations(rng):
    images, labels = random_images(rng)
    unit = make_batch(images, labels, normalize="unit").images
    np.testing.assert_allclose(unit, images / 255, atol=1e-6)
    symmetric = make_batch(images, labels, normalize="symmetric").images
    np.testing.assert_allclose(symmetric, unit * 2 - 1, atol=1e-6)
    computed = make_batch(images, labels).images
    np.testing.assert_allclose(computed.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(computed.std((0, 1, 2)), 1, atol=1e-5)
    given = make_batch(images, labels, mean=(0.1, 0.2, 0.3), std=0.5).images
    np.testing.assert_allclose(given, (unit - [0.1, 0.2, 0.3]) / 0.5, atol=1e-6)
    constant = make_batch(np.full_like(images, 7), labels).images
    np.testing.assert_allclose(constant, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("cifar10", 0.4914, 0.2470),
        ("cifar100", 0.5071, 0.2673),
        ("imagenet2012", 0.485, 0.229),
        ("svhn_cropped", 0.4377, 0.1980),
    ],
)
def test_published_statistics(rng, name, mean, std):
    images, labels = random_images(rng)
    batch = make_batch(np.zeros_like(images), labels, source=name)
    np.testing.assert_allclose(batch.images[0, 0, 0, 0], -mean / std, rtol=1e-6)


def test_published_statistics_of_grey_serve_colour():
    grey = load_batch(batch_size=8)
    colour = load_batch(batch_size=8, channels=3)
    np.testing.assert_array_equal(colour.images, np.repeat(grey.images, 3, axis=-1))
    unit = load_batch(batch_size=8, normalize="unit").images
    np.testing.assert_allclose(grey.images, (unit - 0.2860) / 0.3530, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"batch_size": 0},
            "got 0",
        ),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": 513}, "batch_size 513 is more than the 512 images"),
        ({"batch_size": 512}, "has 51 images where a balanced batch of 512 needs 52"),
        ({"seed": -1}, "seed"),
        ({"image_size": 0}, "image_size"),
        ({"channels": 2}, "channels of load_batch must be one of (1, 3) or None, got 2"),
        ({"normalize": "imagenet"}, "'dataset', 'unit', 'symmetric'"),
        ({"mean": 0.5}, "both mean and std"),
        ({"mean": np.nan, "std": 1.0}, "must be finite"),
        ({"mean": 0.5, "std": 0.0}, "std must be positive"),
        ({"mean": (0.5, 0.5), "std": 1.0}, "must have one value or 1"),
        ({"split": "test"}, "no split 'test' in embedded: it has ['train']"),
        ({"label_key": "fine"}, "no key 'fine'"),
        ({"source": "embeded"}, "unknown source 'embeded': give 'embedded'"),
    ],
)
def test_option_errors(options, words):
    with pytest.raises(ValueError) as error:
        load_batch(**options)
    assert words in message(error)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros([4, 8, 8], np.uint8), [0] * 4, "[N, H, W, C]"),
        (np.zeros([4, 3, 8, 8], np.uint8), [0] * 4, "C 1 or 3, not (4, 3, 8, 8)"),
        (np.zeros([4, 8, 8, 3], np.int64), [0] * 4, "not int64"),
        (np.full([4, 8, 8, 3], 255.0), [0] * 4, "in [0, 1]"),
        (np.full([4, 8, 8, 3], np.nan), [0] * 4, "an image of arrays holds NaN or Inf"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0] * 3, "must be 4 integers"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0.0] * 4, "not float64"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0, 1, 2, 9], "label 9 of arrays is outside"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0, 1, 2, -1], "label -1 of arrays is outside"),
        (np.zeros([0, 8, 8, 3], np.uint8), np.zeros(0, int), "has no images"),
        (np.zeros([4, 0, 8, 3], np.uint8), [0] * 4, "above 0 and C 1 or 3, not (4, 0, 8, 3)"),
        ([np.zeros([8, 8, 3]), np.zeros([9, 9, 3])], [0, 1], "images of arrays must be one array"),
        (np.zeros([2, 8, 8, 3]), [[0], [0, 1]], "must be one array, got [[0], [0, 1]]"),
    ],
)
def test_array_errors(images, labels, words):
    with pytest.raises(ValueError) as error:
        make_batch(images, labels, num_classes=4)
    assert words in message(error)
    with pytest.raises(ValueError):
        make_batch(images, labels, 4, num_classes=4)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            [0, 0, 1, 1, 2, 2, 2, 3],
            "class 3 of arrays has 1 image where a balanced batch of 8 needs 2",
        ),
        (
            [0, 0, 1, 1, 2, 2, 2, 2],
            "class 3 of arrays has no image where a balanced batch of 8 needs",
        ),
    ],
)
def test_a_class_without_its_share(labels, words):
    with pytest.raises(ValueError, match=words) as error:
        make_batch(np.zeros([8, 8, 8, 3], np.uint8), labels, num_classes=4, batch_size=8)
    helps = "lower batch_size" in message(error)  # not where there is no image at all
    assert helps == (3 in labels)


@pytest.mark.parametrize("label", [1.7, np.float32(1), "cat", None, np.nan])
def test_a_label_that_is_no_integer(label):
    pool = dataclasses.replace(open_pool("embedded"), label=lambda i: label)
    with pytest.raises(ValueError, match="is no integer") as error:
        label_of(pool, 0)
    message(error)


@pytest.mark.parametrize("num", [1, 3])
def test_names_of_other_classes_than_there_are(num):
    with pytest.raises(ValueError, match=f"classes of it must be {num} names") as error:
        array_pool(np.zeros([2, 8, 8, 3]), [0, 0], "it", "it", num, ["cat", "dog"])
    message(error)


# Real images, read in place.


@pytest.mark.parametrize(
    ("name", "split", "num_classes", "shape"),
    [
        ("cifar10", "train", 10, (32, 32, 3)),
        ("cifar10", "test", 10, (32, 32, 3)),
        ("cifar100", "train", 100, (32, 32, 3)),
        ("cifar100", "test", 100, (32, 32, 3)),
        ("oxford_pets", "train", 37, (224, 224, 3)),
    ],
)
def test_shared_images(shared_data, name, split, num_classes, shape):
    path = shared_data / "images" / f"{name}.npz"
    batch = load_batch(path, 2 * num_classes, split=split)
    assert batch.images.shape == (2 * num_classes, *shape)
    assert batch.num_classes == num_classes
    assert np.all(np.bincount(batch.labels) == 2)
    # The published mean and deviation are used, and are about those of the images drawn.
    assert np.all(abs(batch.images.mean((0, 1, 2))) < 0.3)
    assert np.all(abs(batch.images.std((0, 1, 2)) - 1) < 0.25)
    assert abs(batch.images.mean()) > 1e-4
    small = load_batch(path, 8, split=split, image_size=16, channels=1)
    assert small.images.shape == (8, 16, 16, 1)


def test_shared_coarse_labels(shared_data):
    batch = load_batch(shared_data / "images" / "cifar100.npz", 40, label_key="coarse_label")
    assert batch.num_classes == 20
    assert np.all(np.bincount(batch.labels) == 2)


def test_warnings_of_what_scores_can_hardly_tell_anything_of(rng, tmp_path, monkeypatch):
    images, labels = random_images(rng)
    constant = np.concatenate([images[:5], np.full_like(images[:2], 9)])
    with pytest.warns(UserWarning, match="2 of the 7 images drawn from arrays are constant"):
        make_batch(constant, labels[:7])
    with pytest.warns(UserWarning, match="all images drawn from arrays are of one class"):
        make_batch(images[:4], np.ones(4, int))
    broken = (images / 255).astype(np.float32)
    broken[[3, 20], 0, 0, 0] = np.nan
    np.savez(tmp_path / "set.npz", image=broken, label=labels)
    with pytest.warns(UserWarning, match=r"2 of 24 images of .*set.npz split 'train' hold NaN"):
        open_pool(tmp_path / "set.npz")
    np.savez(
        tmp_path / "both.npz", image=images, label=labels, test_images=broken, test_label=labels
    )
    with pytest.warns(UserWarning, match=r"2 of 24 images of .*both.npz split 'test' hold NaN"):
        assert open_pool(tmp_path / "both.npz").num_broken == 0
    np.savez(
        tmp_path / "odd.npz", image=images, label=labels, test_image=np.nan, val_image=np.zeros(0)
    )
    assert open_pool(tmp_path / "odd.npz").size == 24
    np.savez(tmp_path / "none.npz", image=np.zeros((0, 8, 8, 3)), label=labels[:0])
    with pytest.raises(ValueError, match="has no images"):
        load_batch(tmp_path / "none.npz", 4)
    own = types.SimpleNamespace(images=broken, labels=labels)
    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(broken=own))
    with pytest.warns(UserWarning, match="2 of 24 images of mine:broken split 'train' hold NaN"):
        pool = open_pool("mine:broken")
    assert pool.num_broken == 2
    with pytest.raises(ValueError, match=r"an image of .* holds NaN or Inf: leave it out"):
        convert(pool.image(3), pool.where, None, None)
