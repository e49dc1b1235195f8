"""Where images come from: the embedded file, `.npz` files, class folders, arrays, TFDS folders.

Every source becomes a `Pool`, which reads its examples one by one.
"""

import os
import pathlib
import re
import zipfile
import zlib
from importlib import resources
from typing import Any

import numpy as np

from lswag_jax.data.decode import decode_image
from lswag_jax.data.pool import Pool, array_pool

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def open_pool(
    source: str | os.PathLike,
    split: str = "train",
    label_key: str = "label",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Pool:
    """Opens a source; arguments and errors are those of `lswag_jax.data.load_batch`.

    >>> pool = open_pool("embedded")
    >>> pool.size, pool.image(0).shape, pool.classes[1]
    (512, (28, 28, 1), 'trouser')
    """
    text = os.fspath(source)
    if text.startswith("sphere:"):
        from lswag_jax.data import sphere

        plane = text.removeprefix("sphere:")
        return sphere.on_sphere(open_pool(plane, split, label_key, data_dir, download))
    if text == "embedded":
        asset = resources.files("lswag_jax") / "assets" / "fashion_mnist_512.npz"
        with asset.open("rb") as file:
            return _open_npz(file, "embedded", "embedded", split, label_key)
    if text.startswith("tfds:"):
        from lswag_jax.data import tfds as tfds_reader

        return tfds_reader.open_split(
            text.removeprefix("tfds:"), split, label_key, data_dir, download
        )
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path, split)
    if path.suffix == ".npz" and path.is_file():
        return _open_npz(path, path.stem, str(path), split, label_key)
    if path.suffix == ".npz" or len(path.parts) > 1:
        raise FileNotFoundError(f"no .npz file and no folder at {path}.")
    raise ValueError(
        f"unknown source {text!r}: give 'embedded', 'tfds:NAME', the path of an .npz file or the "
        "path of a folder of class folders."
    )


def _open_npz(file: Any, name: str, where: str, split: str, label_key: str) -> Pool:
    """Reads one split of an `.npz` file."""
    try:
        archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where} is not an .npz file, or a damaged one.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{where} is not an .npz file but a single array.")
    with archive:
        matches = [re.fullmatch("((.+)_)?images?", key) for key in archive]
        prefixes = {match[2] or "train": match[1] or "" for match in matches if match}
        if not prefixes:
            raise ValueError(f"no key 'image' or 'images' in {where}: it has {sorted(archive)}.")
        if split not in prefixes:
            raise ValueError(f"no split {split!r} in {where}: it has {sorted(prefixes)}.")
        images = _read(archive, f"{prefixes[split]}image", where)
        labels = _read(archive, prefixes[split] + label_key, where)
        classes_key = label_key.removesuffix("s").removesuffix("label") + "classes"
        classes = None
        num_classes = None
        if classes_key in archive:
            classes = [str(name) for name in _read(archive, classes_key, where)]
            num_classes = len(classes)
        elif len(prefixes) > 1:  # A split may lack the last class.
            keys = {prefix + label_key + s for prefix in prefixes.values() for s in ("", "s")}
            arrays = [_read(archive, key, where) for key in keys if key in archive]
            arrays = [array for array in arrays if array.dtype.kind in "iu"]
            num_classes = max((int(array.max(initial=0)) for array in arrays), default=0) + 1
    return array_pool(images, labels, name, f"{where} split {split!r}", num_classes, classes)


def _read(archive: np.lib.npyio.NpzFile, key: str, where: str) -> np.ndarray:
    """Array of `key`, or of its plural."""
    found = next((k for k in (key, f"{key}s") if k in archive), None)
    if found is None:
        raise ValueError(f"no key {key!r} in {where}: it has {sorted(archive)}.")
    try:
        return archive[found]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"cannot read {found!r} of {where}: it is damaged or holds Python objects."
        ) from error


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Sorted subfolders that are not hidden."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _open_folder(folder: pathlib.Path, split: str) -> Pool:
    """Lists the images of one split of a folder of class folders."""
    # A folder that itself holds folders is a split; CIFAR-100 has a class called "train".
    splits = [path.name for path in _folders(folder) if _folders(path)]
    if split not in (splits or ["train"]):
        raise ValueError(f"no split {split!r} in {folder}: it has {splits or ['train']}.")
    root = folder / split if splits else folder
    classes = _folders(root)
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted(name.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    ]
    if not files:
        raise ValueError(f"no images in {root}: it must hold class folders of image files.")

    def image(i: int) -> np.ndarray:
        return decode_image(files[i][0], str(files[i][0]), orient=True)

    return Pool(
        name=folder.name,
        where=f"{folder} split {split!r}",
        size=len(files),
        label=lambda i: files[i][1],
        image=image,
        num_classes=len(classes),
        classes=[path.name for path in classes],
        channels=3,
    )
