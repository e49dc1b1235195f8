"""Folders as people have them: splits, classes, subfolders and what is no image."""

import os
import re
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from lswag_jax.cli import default_train_config, own_data
from lswag_jax.data import decode as images
from lswag_jax.data import folders, sources
from tests.helpers.batches import message


@pytest.fixture
def make(tmp_path):
    """Makes image files in a folder."""

    def folder(*files):
        for name in files:
            path = tmp_path / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path)
        return tmp_path

    return folder


def labels(root, split="train"):
    pool = sources.open_pool(root, split)
    return [pool.label(i) for i in range(pool.size)], list(pool.classes)


LAYOUTS = {
    "classes": ("a/1 b/1", "train", [0, 1], "ab"),
    "subfolders of a class": ("a/1 b/1 b/more/2 b/even/more/3", "train", [0, 1, 1, 1], "ab"),
    "only subfolders in one class": ("a/1 b/more/2", "train", [0, 1], "ab"),
    "splits": ("train/a/1 train/b/1 test/b/1", "train", [0, 1], "ab"),
    "a split without a class": ("train/a/1 train/b/1 train/c/1 test/b/1 test/c/1", "test", [1, 2],
                                "abc"),
    "a preview beside the classes": ("train/a/1 train/b/1 train/preview val/b/1", "val", [1], "ab"),
    "a test without labels": ("train/a/1 train/b/1 test/1 test/2", "train", [0, 1], "ab"),
    "training and validation": ("training/a/1 training/b/1 valid/b/1", "valid", [1], "ab"),
    "splits of other names": ("fold1/a/1 fold1/b/1 fold2/b/1 fold2/c/1", "fold2", [1, 2], "abc"),
    "subfolders in splits": ("train/a/x/1 train/b/y/z/1 test/b/x/1", "test", [1], "ab"),
    "splits with capitals": ("Train/a/1 Train/b/1 Val/b/1", "train", [0, 1], "ab"),
    "another split with capitals": ("train/a/1 train/b/1 Val/b/1", "val", [1], "ab"),
    "nested classes in a split": ("train/a/x/1 train/b/x/1", "train", [0, 1], "ab"),
    "a class called train": ("train/1 apple/1", "train", [0, 1], ["apple", "train"]),
    "a class called train with subfolders": ("train/1 train/x/2 apple/1", "train", [0, 1, 1],
                                             ["apple", "train"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, make):
    files, split, expected, classes = LAYOUTS[name]
    assert labels(make(*files.split()), split) == (expected, list(classes))


@pytest.mark.parametrize(("name", "expected"), [("Val", "Val"), ("DEV", "DEV"), ("test", "")])
def test_training_takes_a_validation_split_in_any_capitals(name, expected, make):
    config = default_train_config.default_train_config()
    files = [f"{split}/{cls}/{i}" for split in ("Train", name) for cls in "ab" for i in range(5)]
    config.data.update({"source": str(make(*files)), "eval_split": ""})
    assert own_data.fitted(config).data.eval_split == expected


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", ".cache"])
def test_what_is_hidden_is_no_class_and_no_image(hidden, make):
    root = make("train/a/1", "train/b/1", "test/b/1")
    for place in ("", "train", "train/a", "train/a/deeper"):
        folder = root / place / hidden
        folder.mkdir(parents=True)
        shutil.copy(root / "train/a/1.png", folder / "copy.png")
    shutil.copy(root / "train/a/1.png", root / "train/a/._1.png")
    assert labels(root) == ([0, 1], ["a", "b"])
    assert labels(root / "train") == ([0, 1], ["a", "b"])
    assert folders.splits_of(root) == ["test", "train"]


def test_links(make, monkeypatch):
    """Linked class folders are read; a link to a folder above ends, from wherever it is seen."""
    root = make("data/train/a/1", "data/val/a/2", "elsewhere/1")
    (root / "data/train/b").symlink_to(root / "elsewhere")
    (root / "data/train/a/loop").symlink_to(root / "data/train/a")
    (root / "data/train/a/root").symlink_to(root / "data")
    (root / "elsewhere/root").symlink_to(root / "data")
    assert labels(root / "data") == ([0, 1], ["a", "b"])
    monkeypatch.chdir(root / "data/train")
    assert labels(".") == ([0, 1], ["a", "b"])


REFUSED = {
    "a class that training lacks": ("train/a/1 train/b/1 test/c/1", "test",
                                    "class 'c' of .*test is none of the 2 classes of the training"),
    "no such split": ("train/a/1 test/a/1", "val", r"no split 'val' in .*\['test', 'train'\]"),
    "a test without labels": ("train/a/1 train/b/1 test/1", "test", "no images in .*test: it must"),
    "classes of folders": ("a/x/1 b/x/1", "train", r"it has \['a', 'b'\], whose images lie in "
                           "folders .*; if they are classes, move them into a folder .*/train"),
    "images alone": ("1 2", "train", "no images in .*: it must hold class folders"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, make):
    files, split, expected = REFUSED[name]
    with pytest.raises(ValueError, match=expected) as error:
        sources.open_pool(make(*files.split()), split)
    message(error)


def test_a_class_whose_name_is_no_text(make):
    """Of bytes, as archives of other systems leave: a training could not save its network."""
    root = make("train/a/1")
    folder = os.path.join(os.fsencode(root), b"train", b"b\xff")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system has names of text alone")
    shutil.copy(root / "train/a/1.png", os.path.join(folder, b"1.png"))
    with pytest.raises(ValueError, match=r"class 'b\\udcff' of .* is no UTF-8 text") as error:
        sources.open_pool(root, "train")
    message(error)


@pytest.mark.parametrize(("split", "empty"), [("train", "['c', 'd']"), ("val", "['b']")])
def test_a_class_without_images_is_told_of(split, empty, make):
    root = make("train/a/1", "train/b/1", "val/a/1")
    for folder in ("train/c", "train/d/deeper", "val/b", "val/notes"):
        (root / folder).mkdir(parents=True)
    (root / "train/c/x.avif").write_bytes(b"")
    words = f"the folders {empty} of {root / split} hold no image"
    with pytest.warns(UserWarning, match=re.escape(words)):
        assert labels(root, split)[1] == ["a", "b", "c", "d"]


BROKEN = {
    "signed resolution": (0x11A, 10, 1, struct.pack("<I", 38)),
    "text resolution": (0x11A, 2, 4, b"abc\0"),
    "no tag at all": None,
    "cut short": (0x11A, 5, 1, struct.pack("<I", 9999)),
}


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_decodes_is_turned_whatever_its_exif_says(name, tmp_path):
    tags = [(0x112, 3, 1, struct.pack("<HH", 6, 0))] + [BROKEN[name]] * (BROKEN[name] is not None)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags))
    exif += b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    exif += struct.pack("<I", 0) + struct.pack("<ii", -1, 0)
    Image.new("RGB", (4, 6)).save(tmp_path / "x.jpg", "JPEG", exif=exif)
    assert images.decode_image(tmp_path / "x.jpg", "x", orient=True).shape == (4, 6, 3)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff"], ids=range(4)
)
def test_exif_that_is_nonsense(exif, tmp_path):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (4, 6)).save(path, "JPEG", exif=exif)
    assert images.decode_image(path, "x", orient=True).shape == (6, 4, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(orientation, tmp_path, rng):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
    noise.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = images.decode_image(tmp_path / "x.png", "x", orient=True)
    np.testing.assert_array_equal(found, expected)


INPUTS = {
    "path": lambda path: path,
    "text": str,
    "Pillow": lambda path: Image.open(path),
    "array": lambda path: np.asarray(Image.open(path)),
    "alpha": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "Pillow with alpha": lambda path: Image.open(path).convert("RGBA"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_one_image_whatever_it_comes_as(name, tmp_path, rng):
    noise = rng.integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    found = images.as_pixels(INPUTS[name](tmp_path / "x.png"), "x")
    np.testing.assert_array_equal(found, noise)


WRONG = {
    "None": (None, "got None"),
    "a number": (3, "got 3"),
    "no file": ("no such.png", "cannot read the image no such.png"),
    "a vector": (np.zeros(4), r"got float64 \[4\]"),
    "five channels": (np.zeros((2, 2, 5)), r"got float64 \[2, 2, 5\]"),
    "nothing": ([[]], r"got \[\[\]\]"),
    "rows of several lengths": ([np.zeros((2, 2)), np.zeros((3, 3))], r"got \[array\("),
    "32 bits": (Image.new("I", (2, 2)), "mode 'I' have no range: give 8 or 16 bits each"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image(name):
    value, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as error:
        images.as_pixels(value, "the input")
    assert not message(error).endswith("..")


@pytest.mark.parametrize("most", [1023, 65535])
@pytest.mark.parametrize("orientation", [None, 3])
def test_grey_of_16_bits_that_pillow_reads_as_32(most, orientation, tmp_path, monkeypatch):
    """As every 16-bit PGM, and PNG files before Pillow 10.3; a turned one is still of its file."""
    exif = {} if orientation is None else {0x0112: orientation}
    monkeypatch.setattr(Image.Image, "getexif", lambda _: exif)
    levels = np.array([[0, 1, most // 2, most]], ">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 4 1 %d\n" % most + levels.tobytes())
    found = images.decode_image(tmp_path / "x.pgm", "x", orient=True)
    expected = np.rint(levels * (65535 / most))[..., :: -1 if orientation else 1]
    assert found.dtype == np.uint16
    assert abs(found[..., 0] - expected).max() <= 1
