"""Files of arrays and folders of class folders as sources of `lswag_jax.data`."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from lswag_jax.data import load_batch, split_names
from tests.helpers.batches import message, pixels, random_images


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


BAD_ARRAYS = {
    "no height": ({"images": np.zeros((8, 0, 10, 3))}, "above 0 and C 1 or 3, not (8, 0, 10, 3)"),
    "no width": ({"images": np.zeros((8, 10, 0, 3))}, "above 0 and C 1 or 3, not (8, 10, 0, 3)"),
    "text as pixels": ({"images": np.full((8, 4, 4, 3), "a")}, "floating point, not <U1"),
    "a label of 64 bits": ({"labels": np.full(8, 2**63, np.uint64)}, f"to 99999, got {2**63}"),
    "more classes than memory": ({"labels": [2**31] * 8}, f"from 0 to 99999, got {2**31}"),
    "such a label of another split": ({"test_images": [], "test_labels": [2**40]}, f"got {2**40}"),
    "a negative label": ({"labels": [0] * 7 + [-1]}, "label -1 of"),
    "no numbers": ({"labels": np.full(8, np.nan)}, "8 integers, not float64"),
    "one class": ({"classes": "cat"}, "must be a list of names, got array('cat'"),
    "a number of classes": ({"classes": 2}, "must be a list of names, got array(2)"),
    "no classes": ({"classes": []}, "must be a list of names, got array([]"),
    "a table of classes": ({"classes": [["a", "b"]]}, "must be a list of names"),
    "fewer classes": ({"classes": ["a"]}, "is outside the 1 classes 0 to 0"),
    "images of a split twice": ({"train_images": 1}, "both 'images' and 'train_images'"),
    "images twice": ({"image": 1}, "both 'image' and 'images', which mean the same"),
    "labels twice": ({"label": 1}, "both 'label' and 'labels', which mean the same"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_npz_of_other_arrays(name, tmp_path):
    wrong, words = BAD_ARRAYS[name]
    path = tmp_path / "set.npz"
    arrays = {"images": np.zeros((8, 4, 4, 3), np.uint8), "labels": np.arange(8) % 2}
    np.savez(path, **(arrays | wrong))
    for source in (path, f"sphere:{path}"):
        with pytest.raises(ValueError) as error:
            load_batch(source, 2, image_size=4)
        assert words in message(error)


def test_splits_of_an_npz_file_in_any_capitals(tmp_path, rng):
    images, labels = random_images(rng)
    path = tmp_path / "set.npz"
    np.savez(path, Train_images=images, Train_labels=labels, Val_images=images, Val_labels=labels)
    assert load_batch(path, 4).num_classes == load_batch(path, 4, split="val").num_classes == 4


@pytest.mark.parametrize("source", ["a" * 5000, "b" * 300 + ".npz", "~nobody.at.all/x"])
@pytest.mark.parametrize(
    "read", [load_batch, split_names, lambda x: load_batch("tfds:x", data_dir=x)]
)
def test_a_path_that_cannot_be_looked_up(read, source):
    with pytest.raises(ValueError, match="cannot be looked up: ") as error:
        read(source)
    message(error)


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


@pytest.mark.parametrize(
    "cut", [lambda _: b"", lambda _: b"text", lambda whole: whole[: len(whole) // 2]],
    ids=["empty", "text", "half"],
)  # fmt: skip
def test_a_damaged_image_of_a_folder_is_named(cut, tmp_path, rng):
    write_folder(tmp_path, rng)
    bad = tmp_path / "cat" / "1.png"
    bad.write_bytes(cut(bad.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"cannot read the image {bad}")) as error:
        load_batch(tmp_path, 6)
    message(error)


def test_folder_errors(tmp_path, rng):
    with pytest.raises(ValueError, match="no images in"):
        load_batch(tmp_path)
    write_folder(tmp_path, rng)
    bad = tmp_path / "cat" / "1.png"
    Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)).save(bad)
    with pytest.raises(ValueError, match=r"differ in shape.* give image_size"):
        load_batch(tmp_path, 6)
    assert load_batch(tmp_path, 6, image_size=8).images.shape == (6, 8, 8, 3)
    (tmp_path / "eel").mkdir()
    with (
        pytest.warns(UserWarning, match="'eel'"),
        pytest.raises(ValueError, match=r"class 2 \('eel'\) of .* has no image "),
    ):
        load_batch(tmp_path, 3)
