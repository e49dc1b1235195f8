"""What a folder of class folders holds: its splits, its classes and their image files.

    root/CLASS/.../IMAGE         or         root/SPLIT/CLASS/.../IMAGE

Hidden files and folders, and what archives of a Mac bring along, hold no images.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from lswag_jax.data.decode import SUFFIXES

TRAINING = ("train", "training")
# Names that folders of splits have, so that images beside their class folders do not confuse.
SPLITS = (*TRAINING, "val", "valid", "validation", "dev", "test", "testing", "eval")


class Listing(NamedTuple):
    """Images of a split.

    Attributes:
        files: paths and their classes' numbers, class by class.
        classes: their names; those of the training split, whichever split is listed.
    """

    files: list[tuple[pathlib.Path, int]]
    classes: list[str]


def list_split(root: pathlib.Path, split: str) -> Listing:
    """Lists the images of one split of a folder.

    Args:
        root: of class folders, which are the split "train", or of folders of such.
        split: its name.

    Raises:
        ValueError: no such split, no images, or a class that the training split does not have.
    """
    splits = splits_of(root)
    if split not in (splits or ["train"]):
        raise ValueError(f"no split {split!r} in {root}: it has {splits or ['train']}.")
    folder = root / split if splits else root
    found = {path.name: _images(path) for path in _folders(folder)}
    if not any(found.values()):
        raise ValueError(f"no images in {folder}: it must hold class folders of image files.")
    classes = _classes(root, splits, split)
    for name, paths in found.items():
        if paths and name not in classes:
            raise ValueError(
                f"class {name!r} of {folder} is none of the {len(classes)} classes of the training "
                f"images of {root}, such as {classes[0]!r}."
            )
    numbered = enumerate(classes)
    files = [(path, label) for label, name in numbered for path in found.get(name, ())]
    return Listing(files, classes)


def splits_of(root: pathlib.Path) -> list[str]:
    """Names of the splits of a folder; none where its own folders are classes.

    They are splits where each holds folders of images and no image itself. One whose name is a
    split's may hold images beside its folders, or nothing but images, such as those of a test
    without labels.
    """
    folders = [path for path in _folders(root) if any(_walk(path))]
    known = [path for path in folders if path.name.lower() in SPLITS]
    above = [path for path in folders if any(any(_walk(inner)) for inner in _folders(path))]
    plain = [path for path in above if not any(map(_is_image, _visible(path)))]
    if above and all(path in known or path in plain for path in folders):
        return [path.name for path in folders]
    return []


def _classes(root: pathlib.Path, splits: list[str], split: str) -> list[str]:
    """Sorted names of the classes: of the training split, else of all splits together."""
    training = [name for name in splits if name.lower() in TRAINING]
    if split in training:
        training = [split]
    folders = [root / name for name in training[:1] or splits] or [root]
    return sorted({path.name for folder in folders for path in _folders(folder)})


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Sorted image files of a folder and of all folders in it."""
    return sorted(_walk(folder))


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Image files below a folder, linked folders followed but never in circles."""
    seen = {os.path.realpath(folder)}
    for path, folders, names in os.walk(folder, followlinks=True):
        inner = {name: os.path.realpath(os.path.join(path, name)) for name in folders}
        folders[:] = [n for n, real in inner.items() if _is_visible(n) and real not in seen]
        seen |= {inner[name] for name in folders}
        yield from filter(_is_image, (pathlib.Path(path, name) for name in names))


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Sorted folders in a folder."""
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if _is_visible(path.name))


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _is_image(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and _is_visible(path.name)
