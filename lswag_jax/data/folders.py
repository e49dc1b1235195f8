"""What a folder of class folders holds: its splits, its classes and their image files.

    root/CLASS/.../IMAGE         or         root/SPLIT/CLASS/.../IMAGE

Hidden files and folders, and what archives of a Mac bring along, hold no images.
"""

import os
import pathlib
import warnings
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from lswag_jax.data.decode import SUFFIXES
from lswag_jax.files import one_line

TRAINING = ("train", "training")
VALIDATION = ("validation", "valid", "val", "dev", "eval")
# Names that folders of splits have, so that images beside their class folders do not confuse.
SPLITS = (*TRAINING, *VALIDATION, "test", "testing")


def find_split(wanted: Iterable[str], names: Collection[str]) -> str | None:
    """The first wanted split that there is, as `names` spell it; capitals do not matter.

    Example:
        >>> find_split(["validation", "val"], ["Train", "Val"])
        'Val'
    """
    spelt = {name.lower(): name for name in names} | {name: name for name in names}
    found = (spelt.get(name) or spelt.get(name.lower()) for name in wanted)
    return next(filter(None, found), None)


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
    name = find_split([split], splits or ["train"])
    if name is None:
        raise ValueError(f"no split {split!r} in {root}: it has {_told(splits, root)}.")
    folder = root / name if splits else root
    found = {path.name: _images(path) for path in _folders(folder)}
    if not any(found.values()):
        raise ValueError(f"no images in {folder}: it must hold class folders of image files.")
    classes = _classes(root, splits, name)
    _check_classes(found, classes, folder, root)
    numbered = enumerate(classes)
    files = [(path, label) for label, name in numbered for path in found.get(name, ())]
    return Listing(files, classes)


def _told(splits: list[str], root: pathlib.Path) -> str:
    """The splits there are, and what to do where they may be classes."""
    if not splits or any(name.lower() in SPLITS for name in splits):
        return str(splits or ["train"])
    return (
        f"{splits}, whose images lie in folders as those of splits do; if they are classes, move "
        f"them into a folder {root / 'train'}"
    )


def _check_classes(
    found: dict[str, list[pathlib.Path]],
    classes: list[str],
    folder: pathlib.Path,
    root: pathlib.Path,
) -> None:
    """Refuses a class that cannot be written and images of none, warns of one without images."""
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError:  # of bytes that are no text, which no file of a model can hold
            raise ValueError(
                f"class {name!a} of {root} is no UTF-8 text: rename its folder."
            ) from None
    for name, paths in found.items():
        if paths and name not in classes:
            raise ValueError(
                f"class {name!r} of {folder} is none of the {len(classes)} classes of the training "
                f"images of {root}, such as {classes[0]!r}."
            )
    if empty := [name for name in classes if found.get(name) == []]:
        warnings.warn(
            f"{one_line(f'the folders {empty} of {folder}')} hold no image that is read, but count "
            f"as classes: images end in one of {', '.join(SUFFIXES)}.",
            stacklevel=6,
        )


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


def path_of(text: str | os.PathLike, what: str) -> pathlib.Path:
    """The path that a user gives; ValueError where it cannot be looked up.

    Example:
        >>> path_of("~nobody.here", "file")
        Traceback (most recent call last):
        ValueError: the file '~nobody.here' cannot be looked up: Could not determine home directory.
    """
    try:
        path = pathlib.Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long, not permitted, ~ of nobody
        why = getattr(error, "strerror", None) or one_line(error).rstrip(".")
        shown = one_line(text, 60)
        raise ValueError(f"the {what} {shown!r} cannot be looked up: {why}.") from error
    return path


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """Sorted image files of a folder and of all folders in it."""
    return sorted(_walk(folder))


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Image files below a folder; linked folders are followed, but not to one above it or twice."""
    seen = {os.path.realpath(path) for path in (folder, *folder.absolute().parents)}
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
