"""Draws, images and errors of `lswag_jax.data`, for every source."""

import doctest
import io
import pathlib
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lswag_jax import data, sources, tfds_reader
from lswag_jax.data import load_batch, make_batch

ASSETS = pathlib.Path(data.__file__).parent / "assets"


def message(error: pytest.ExceptionInfo) -> str:
    """Text of the error, which must be one sentence on one line."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def pixels(batch: data.Batch) -> np.ndarray:
    """The uint8 images of a batch made with normalize="unit"."""
    return np.rint(batch.images * 255).astype(np.uint8)


def random_images(rng, n=24, size=8, channels=3, num_classes=4):
    images = rng.integers(0, 256, (n, size, size, channels), np.uint8)
    return images, (np.arange(n) % num_classes).astype(np.int32)


@pytest.mark.parametrize("module", [data, sources])
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_import_is_light():
    code = (
        "import sys, lswag_jax.data, lswag_jax.tfds_reader;"
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


def test_dtypes_agree(rng):
    images, labels = random_images(rng)
    expected = make_batch(images, labels, normalize="unit").images
    for same in (images.astype(np.uint16) * 257, images / 255, np.float32(images) / 255):
        np.testing.assert_allclose(
            make_batch(same, labels, normalize="unit").images, expected, atol=1e-6
        )


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
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, not 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": 513}, "batch_size 513 is more than the 512 images"),
        ({"batch_size": 512}, "has 51 images where a balanced batch of 512 needs 52"),
        ({"seed": -1}, "seed"),
        ({"image_size": 0}, "image_size"),
        ({"channels": 2}, "channels must be 1, 3 or None, not 2"),
        ({"normalize": "imagenet"}, "'dataset', 'unit', 'symmetric'"),
        ({"mean": 0.5}, "both mean and std"),
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
        (np.full([4, 8, 8, 3], np.nan), [0] * 4, "in [0, 1]"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0] * 3, "must be 4 integers"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0.0] * 4, "not float64"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0, 1, 2, 9], "label 9 of arrays is outside"),
        (np.zeros([4, 8, 8, 3], np.uint8), [0, 1, 2, -1], "label -1 of arrays is outside"),
        (np.zeros([0, 8, 8, 3], np.uint8), np.zeros(0, int), "has no images"),
    ],
)
def test_array_errors(images, labels, words):
    with pytest.raises(ValueError) as error:
        make_batch(images, labels, num_classes=4)
    assert words in message(error)
    with pytest.raises(ValueError):
        make_batch(images, labels, 4, num_classes=4)


# Files of arrays.


@pytest.mark.parametrize("plural", ["", "s"])
def test_npz(tmp_path, rng, plural):
    images, labels = random_images(rng)
    path = tmp_path / "set.npz"
    np.savez(
        path,
        **{f"image{plural}": images, f"label{plural}": labels, "coarse_label": labels // 2},
        **{f"test_image{plural}": images[:5], f"test_label{plural}": labels[:5] // 2},
        coarse_classes=np.array(["a", "b"]),
    )
    batch = load_batch(path, None, normalize="unit")
    np.testing.assert_array_equal(pixels(batch), images)
    np.testing.assert_array_equal(batch.labels, labels)
    assert batch.num_classes == 4
    batch = load_batch(str(path), None, split="test")
    np.testing.assert_array_equal(batch.labels, labels[:5] // 2)
    assert batch.num_classes == 4  # The test split has only labels 0 and 1.
    batch = load_batch(path, 8, label_key="coarse_label")
    assert batch.num_classes == 2
    with pytest.raises(ValueError, match=r"no split 'validation' .*\['test', 'train'\]"):
        load_batch(path, split="validation")


def test_npz_errors(tmp_path, rng):
    images, labels = random_images(rng)
    path = tmp_path / "set.npz"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        load_batch(path)
    with pytest.raises(FileNotFoundError, match=r"no .npz file and no folder"):
        load_batch(tmp_path / "nothing")
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"is not an .npz file") as error:
        load_batch(path)
    message(error)
    np.savez(path, image=images, label=np.array([{}] * 24, object))
    with pytest.raises(ValueError, match="cannot read 'label'") as error:
        load_batch(path)
    message(error)
    np.savez(path, x=images)
    with pytest.raises(ValueError, match=r"no key 'image' or 'images' .*\['x'\]"):
        load_batch(path)
    np.savez(path, image=images, label=labels.astype(str), test_image=images)
    with pytest.raises(ValueError, match="must be 24 integers"):
        load_batch(path)
    np.savez(path, image=images, label=labels, classes=np.array(["a", "b"]))
    with pytest.raises(ValueError, match="outside the 2 classes 0 to 1"):
        load_batch(path, None)


# Folders of class folders.


def write_folder(root: pathlib.Path, rng, num_images: int = 3) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(num_images):
            noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(root / name / f"{i}.png")
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()


def test_folder(tmp_path, rng):
    write_folder(tmp_path, rng)
    batch = load_batch(tmp_path, None, normalize="unit")
    assert batch.num_classes == 2
    assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = [np.asarray(Image.open(path)) for path in sorted(tmp_path.rglob("*.png"))]
    np.testing.assert_array_equal(pixels(batch), expected)
    with pytest.raises(ValueError, match=r"no split 'test' .*\['train'\]"):
        load_batch(tmp_path, split="test")
    with pytest.raises(ValueError, match="batch_size 7 is more than the 6 images") as error:
        load_batch(tmp_path, 7)
    message(error)


def test_folder_with_splits(tmp_path, rng):
    write_folder(tmp_path / "train", rng)
    write_folder(tmp_path / "val", rng, 2)
    assert len(load_batch(tmp_path, None).labels) == 6
    assert len(load_batch(tmp_path, None, split="val").labels) == 4
    with pytest.raises(ValueError, match=r"no split 'test' .*\['train', 'val'\]"):
        load_batch(tmp_path, split="test")


def test_folder_with_a_class_called_train(tmp_path, rng):
    write_folder(tmp_path, rng)
    (tmp_path / "dog").rename(tmp_path / "train")
    assert load_batch(tmp_path, None).labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "PPM"),
        ("RGBA", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("P", "png"),
        ("P", "gif"),
        ("CMYK", "tif"),
        ("CMYK", "jpg"),
        ("I;16", "png"),
    ],
)
def test_image_modes(tmp_path, mode, suffix):
    (tmp_path / "one").mkdir()
    path = tmp_path / "one" / f"x.{suffix}"
    colours = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    image = Image.fromarray(np.kron(colours, np.ones((16, 16, 1), np.uint8)))
    expected = np.asarray(image)
    if mode == "I;16":
        grey = np.asarray(image.convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        expected = grey[..., None]
    elif mode == "P" and suffix == "png":
        image.quantize(4).save(path, transparency=b"\x00\x80")
    else:
        image.convert(mode).save(path, **({"quality": 95} if suffix == "jpg" else {}))
        if mode in ("L", "LA"):
            expected = np.asarray(image.convert("L"))[..., None]
        elif mode == "1":
            expected = np.asarray(image.convert("1").convert("L"))[..., None]
    batch = load_batch(tmp_path, 1, normalize="unit")
    assert batch.images.shape == (1, 32, 32, 3)
    tolerance = 12 if suffix == "jpg" else 0
    difference = pixels(batch)[0].astype(int) - expected
    assert abs(difference).max() <= tolerance


def test_exif_orientation(tmp_path, rng):
    (tmp_path / "one").mkdir()
    noise = rng.integers(0, 256, (8, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    Image.fromarray(noise).save(tmp_path / "one" / "x.png", exif=exif)
    batch = load_batch(tmp_path, 1, normalize="unit")
    np.testing.assert_array_equal(pixels(batch)[0], np.rot90(noise, -1))


def test_folder_errors(tmp_path, rng):
    with pytest.raises(ValueError, match="no images in"):
        load_batch(tmp_path)
    write_folder(tmp_path, rng)
    bad = tmp_path / "cat" / "1.png"
    whole = bad.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"cannot read the image {bad}")) as error:
            load_batch(tmp_path, 6)
        message(error)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(bad)
    with pytest.raises(ValueError, match=r"differ in shape.* give image_size"):
        load_batch(tmp_path, 6)
    assert load_batch(tmp_path, 6, image_size=8).images.shape == (6, 8, 8, 3)
    (tmp_path / "eel").mkdir()
    with pytest.raises(ValueError, match=r"class 2 \('eel'\) of .* has 0 images"):
        load_batch(tmp_path, 3)


# TFDS folders, in both formats.


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """A TFRecord: length, masked checksum of the length, record, masked checksum of the record."""

    def masked(content: bytes) -> bytes:
        crc = crc32c(content)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def test_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # The published check value.


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tfds(folder, file_format, splits, *, name="toy", shape=(8, 8, 3), per_shard=10):
    """Writes a TFDS folder by TFDS's own serialiser, without TensorFlow."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow", "dog"]),
            "boxes": tfds.features.Sequence({"mask": tfds.features.Image(shape=(2, 2, 1))}),
            "score": np.float32,
        }
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(folder.name), data_dir=folder, module_name="toy"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    info.set_file_format(file_format)
    infos = []
    for split, (images, labels) in splits.items():
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name, data_dir=folder, split=split, filetype_suffix=file_format
        )
        records = [
            features.serialize_example(
                {
                    "id": f"{i}",
                    "image": png(image),
                    "label": int(label),
                    "boxes": {"mask": []},
                    "score": 0.5,
                }
            )
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        shards = [records[i : i + per_shard] for i in range(0, len(records), per_shard)]
        for i, shard in enumerate(shards):
            path = str(template.sharded_filepath(shard_index=i, num_shards=len(shards)))
            if file_format == "tfrecord":
                pathlib.Path(path).write_bytes(b"".join(frame(record) for record in shard))
            else:
                writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
                for record in shard:
                    writer.write(record)
                writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(shard) for shard in shards],
                num_bytes=sum(map(len, records)),
                filename_template=template,
            )
        )
    info.set_splits(tfds.core.SplitDict(infos))
    info.write_to_directory(folder)


formats = pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])


@formats
@pytest.mark.parametrize("channels", [1, 3])
def test_tfds(tmp_path, rng, file_format, channels):
    images, labels = random_images(rng, channels=channels)
    write_tfds(
        tmp_path / "toy" / "1.0.0",
        file_format,
        {"train": (images, labels), "test": (images[:4], labels[:4])},
        shape=(None, None, channels),
    )
    batch = load_batch("tfds:toy", None, normalize="unit", data_dir=tmp_path)
    np.testing.assert_array_equal(pixels(batch), images)
    np.testing.assert_array_equal(batch.labels, labels)
    assert batch.num_classes == 4
    options = {"normalize": "unit", "data_dir": tmp_path}
    # The draw is that of the same images in memory.
    batch = load_batch("tfds:toy:1.0.0", 10, seed=5, **options)
    same = make_batch(images, labels, 10, seed=5, normalize="unit")
    np.testing.assert_array_equal(batch.images, same.images)
    np.testing.assert_array_equal(batch.labels, same.labels)
    batch = load_batch("tfds:toy", 4, split="test", **options)
    assert sorted(batch.labels.tolist()) == [0, 1, 2, 3]
    # A slice that begins and ends inside of shards.
    batch = load_batch("tfds:toy", None, split="train[5:22]", **options)
    np.testing.assert_array_equal(pixels(batch), images[5:22])
    np.testing.assert_array_equal(batch.labels, labels[5:22])


@formats
def test_tfds_decodes_only_what_is_drawn(tmp_path, rng, file_format, monkeypatch):
    write_tfds(tmp_path / "toy" / "1.0.0", file_format, {"train": random_images(rng)})
    decoded = []
    decode = sources.decode_image
    monkeypatch.setattr(sources, "decode_image", lambda *a: decoded.append(a) or decode(*a))
    load_batch("tfds:toy", 4, data_dir=tmp_path)
    assert len(decoded) == 4


@pytest.mark.parametrize("encoding", ["grey", "cmyk", "palette"])
def test_tfds_images_unlike_their_feature(tmp_path, encoding, monkeypatch):
    """ImageNet's three-channel feature holds grey and CMYK files."""
    image = Image.new("RGB", (8, 8), (204, 204, 204))
    buffer = io.BytesIO()
    mode, kind = {"grey": ("L", "JPEG"), "cmyk": ("CMYK", "JPEG"), "palette": ("P", "PNG")}[
        encoding
    ]
    image.convert(mode).save(buffer, format=kind)
    monkeypatch.setitem(globals(), "png", lambda _: buffer.getvalue())
    splits = {"train": (np.zeros([1, 8, 8, 3]), [0])}
    write_tfds(tmp_path / "toy" / "1.0.0", "array_record", splits, shape=(None, None, 3))
    batch = load_batch("tfds:toy", None, normalize="unit", data_dir=tmp_path)
    assert batch.images.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(batch.images, 204 / 255, atol=0.01)


def test_tfds_versions_and_configs(tmp_path, rng):
    images, labels = random_images(rng, n=4)
    splits = {"train": (images, labels)}
    for version in ("2.0.0", "10.0.0"):
        write_tfds(tmp_path / "toy" / version, "tfrecord", splits)
    (tmp_path / "toy" / "incomplete.0.1").mkdir()
    assert tfds_reader.find_folder("toy", tmp_path).name == "10.0.0"
    assert tfds_reader.find_folder("toy:2.0.0", tmp_path).name == "2.0.0"
    assert tfds_reader.find_folder("toy:3.0.0", tmp_path) is None
    write_tfds(tmp_path / "with" / "small" / "1.0.0", "tfrecord", splits, name="with")
    assert load_batch("tfds:with", 4, data_dir=tmp_path).num_classes == 4
    write_tfds(tmp_path / "with" / "large" / "1.0.0", "tfrecord", splits, name="with")
    assert load_batch("tfds:with/small:1.0.0", 4, data_dir=tmp_path).num_classes == 4
    with pytest.raises(ValueError, match=r"one of the configs \['large', 'small'\]"):
        load_batch("tfds:with", 4, data_dir=tmp_path)


def test_tfds_data_dir_from_the_environment(tmp_path, rng, monkeypatch):
    write_tfds(tmp_path / "toy" / "1.0.0", "tfrecord", {"train": random_images(rng)})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(load_batch("tfds:toy", 4).labels) == 4


def test_tfds_folder_of_old(tmp_path, rng):
    """Early versions of TFDS did not write down the format."""
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, "tfrecord", {"train": random_images(rng)})
    path = folder / "dataset_info.json"
    text = path.read_text()
    assert '"fileFormat": "tfrecord",' in text
    path.write_text(text.replace('"fileFormat": "tfrecord",', ""))
    assert len(load_batch("tfds:toy", 4, data_dir=tmp_path).labels) == 4
    path.write_text(text.replace('"fileFormat": "tfrecord"', '"fileFormat": "riegeli"'))
    with pytest.raises(ValueError, match="format 'riegeli', not one of") as error:
        load_batch("tfds:toy", 4, data_dir=tmp_path)
    message(error)


def test_tfds_missing(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as error:
        load_batch("tfds:cifar10", data_dir=tmp_path)
    assert "download=True" in message(error)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="malformed TFDS name") as error:
        load_batch("tfds:cifar10/", data_dir=tmp_path)
    message(error)


def test_tfds_download(tmp_path, rng, monkeypatch):
    if tfds_reader.find_spec("tensorflow") is None:
        with pytest.raises(ImportError, match=r"lswag_jax\[tf\]") as error:
            load_batch("tfds:toy", data_dir=tmp_path, download=True)
        message(error)
        monkeypatch.setattr(tfds_reader, "find_spec", lambda name: object())
    import tensorflow_datasets as tfds

    with pytest.raises(ValueError, match="knows no data set") as error:
        load_batch("tfds:no_such_set", data_dir=tmp_path, download=True)
    message(error)
    images, labels = random_images(rng)

    class PreparedHere(tfds.core.GeneratorBasedBuilder):
        """Writes encoded images, which needs no TensorFlow."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(num_classes=4),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": png(image), "label": label}

    batch = load_batch(
        "tfds:prepared_here", None, data_dir=tmp_path, download=True, normalize="unit"
    )
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert [known[image.tobytes()] for image in pixels(batch)] == batch.labels.tolist()


@formats
def test_tfds_errors(tmp_path, rng, file_format):
    images, labels = random_images(rng)
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, file_format, {"train": (images, labels), "test": (images, labels)})
    for split in ("validation", "validation[:3]", "train[", ""):
        with pytest.raises(ValueError, match=r"\['test', 'train'\]") as error:
            load_batch("tfds:toy", split=split, data_dir=tmp_path)
        message(error)
    with pytest.raises(ValueError, match=r"no feature 'fine' .*'label'") as error:
        load_batch("tfds:toy", label_key="fine", data_dir=tmp_path)
    message(error)
    with pytest.raises(ValueError, match=r"'score' .* is not a class") as error:
        load_batch("tfds:toy", label_key="score", data_dir=tmp_path)
    message(error)
    split = "+".join(f"train[{i}:{i + 1}]" for i in (0, 4, 8, 12, 16, 1, 2, 3))
    with pytest.raises(ValueError, match=r"class 1 \('bee'\) .* 1 images") as error:
        load_batch("tfds:toy", 8, split=split, data_dir=tmp_path)
    message(error)
    next(folder.glob("toy-train*")).unlink()
    with pytest.raises(FileNotFoundError, match="lacks its file") as error:
        load_batch("tfds:toy", data_dir=tmp_path)
    message(error)


def test_damaged_tfrecord(tmp_path, rng):
    folder = tmp_path / "toy" / "1.0.0"
    write_tfds(folder, "tfrecord", {"train": random_images(rng)}, per_shard=100)
    path = next(folder.glob("toy-train*"))
    whole = path.read_bytes()
    record = struct.unpack("<Q", whole[:8])[0] + 16
    for content, words in (
        (whole[:-7], "is truncated or not a TFRecord"),
        (b"text", "is truncated or not a TFRecord"),
        (whole[record:], "holds 23 records, not 24"),
        (whole[:12] + b"\xff" * (record - 16) + whole[record - 4 :], "cannot decode record 0"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words) as error:
            load_batch("tfds:toy", None, data_dir=tmp_path)
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
