"""Where images come from: the embedded file, `.npz` files, class folders, TFDS, a user's arrays.

Every source becomes a `Pool`, which reads its examples one by one.
"""

import contextlib
import dataclasses
import inspect
import os
import pathlib
import re
import warnings
import zipfile
import zlib
from importlib import resources
from typing import Any

import numpy as np

from lswag_jax import own
from lswag_jax.data import folders
from lswag_jax.data.decode import decode_image
from lswag_jax.data.pool import Pool, array_pool, num_classes_of
from lswag_jax.options import typed

_KINDS = (
    "give 'embedded', 'tfds:NAME', the path of an .npz file, the path of a folder of class "
    "folders or module:NAME of your own"
)
# What NumPy and zipfile raise of a file that is damaged, encrypted or of Python objects.
_DAMAGE = (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


@typed
def open_pool(
    source: str | os.PathLike,
    split: str = "train",
    label_key: str = "label",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Pool:
    """Opens a source; arguments and errors are those of `lswag_jax.data.load_batch`.

    Example:
        >>> pool = open_pool("embedded")
        >>> pool.size, pool.image(0).shape, pool.classes[1]
        (512, (28, 28, 1), 'trouser')
    """
    text = os.fspath(source)
    if not text.removeprefix("sphere:").strip():
        raise ValueError(f"the source is empty, {_KINDS}.")
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
    path = folders.path_of(text, "source")
    if path.is_dir():
        return _open_folder(path, split)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _open_npz(path, path.stem, str(path), split, label_key)
    if own.is_named(text):
        return _open_own(text, split)
    if path.suffix.lower() == ".npz" or len(path.parts) > 1:
        raise FileNotFoundError(f"no .npz file and no folder at {path}.")
    raise ValueError(f"unknown source {text!r}: {_KINDS}.")


@typed
def split_names(source: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> list[str]:
    """Names of the splits of a source; arguments and errors are those of `open_pool`.

    Example:
        >>> split_names("embedded")
        ['train']
    """
    text = os.fspath(source).removeprefix("sphere:")
    if text.startswith("tfds:"):
        from lswag_jax.data import tfds as tfds_reader

        return tfds_reader.split_names(text.removeprefix("tfds:"), data_dir)
    path = folders.path_of(text, "source")
    if path.is_dir():
        return folders.splits_of(path) or ["train"]
    if path.suffix.lower() == ".npz" and path.is_file():
        with _load_npz(path, str(path)) as archive:
            return sorted(_prefixes(archive, str(path)))
    return ["train"]


def _open_npz(file: Any, name: str, where: str, split: str, label_key: str) -> Pool:
    """Reads one split of an `.npz` file."""
    with _load_npz(file, where) as archive:
        prefixes = _prefixes(archive, where)
        if not prefixes:
            raise ValueError(f"no key 'image' or 'images' in {where}: it has {sorted(archive)}.")
        found = folders.find_split([split], prefixes)
        if found is None:
            raise ValueError(f"no split {split!r} in {where}: it has {sorted(prefixes)}.")
        images = _read(archive, f"{prefixes[found]}image", where)
        labels = _read(archive, prefixes[found] + label_key, where)
        classes_key = label_key.removesuffix("s").removesuffix("label") + "classes"
        classes = None
        num_classes = None
        if classes_key in archive:
            classes = _read(archive, classes_key, where)
        elif len(prefixes) > 1:  # A split may lack the last class.
            keys = {prefix + label_key + s for prefix in prefixes.values() for s in ("", "s")}
            arrays = [_read(archive, key, where) for key in keys if key in archive]
            arrays = [array for array in arrays if array.dtype.kind in "iu"]
            num_classes = max((num_classes_of(array, where) for array in arrays), default=1)
        for other, prefix in prefixes.items():
            if other != found and _is_float(archive, f"{prefix}image"):
                with contextlib.suppress(ValueError):  # damaged, where nobody asked for it
                    others = _read(archive, f"{prefix}image", where)
                    _warn_of_broken(others, f"{where} split {other!r}")
    where = f"{where} split {split!r}"
    return _array_pool(images, labels, name, where, num_classes, classes)


def _is_float(archive: np.lib.npyio.NpzFile, key: str) -> bool:
    """Whether the array of `key`, or of its plural, has floats, which may be NaN; reads no more."""
    found = next((k for k in (key, f"{key}s") if k in archive), key)
    try:
        with archive.zip.open(f"{found}.npy") as file:  # type: ignore[union-attr]
            major, _ = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if major == 1 else None
            return bool(header and header(file)[2].kind == "f")
    except (KeyError, *_DAMAGE):  # a split that nobody asked for
        return False


def _open_own(name: str, split: str) -> Pool:
    """Takes the images and labels of a user's object, or those that a function gives."""
    found, takes_split = own.find(name), False
    if not hasattr(found, "images") and callable(found):
        takes_split = "split" in inspect.signature(found).parameters
        found = own.call(name, found, {"split": split} if takes_split else {})
    if isinstance(found, Pool):
        return found
    missing = [key for key in ("images", "labels") if not hasattr(found, key)]
    if missing:
        raise ValueError(
            f"{name} must be an object with images and labels, or a function that gives one, but a "
            f"{type(found).__name__} has no {missing[0]}."
        )
    if split != "train" and not takes_split:
        raise ValueError(f"no split {split!r} in {name}, only a function of split has several.")
    classes = getattr(found, "classes", None)
    num_classes = getattr(found, "num_classes", None)
    where = f"{name} split {split!r}"
    return _array_pool(found.images, found.labels, name, where, num_classes, classes)


def _array_pool(images: Any, labels: Any, name: str, where: str, num: Any, classes: Any) -> Pool:
    """`array_pool` of a source's arrays, with a warning of images that are not finite."""
    pool = array_pool(images, labels, name, where, num, classes)
    return dataclasses.replace(pool, num_broken=_warn_of_broken(np.asarray(images), where))


def _warn_of_broken(images: np.ndarray, where: str) -> int:
    """Warns of images [N, ...] that are not finite; returns how many there are."""
    if images.dtype.kind != "f" or images.ndim == 0:
        return 0
    count = int((~np.isfinite(images)).any(axis=tuple(range(1, images.ndim))).sum())
    if count:
        warnings.warn(f"{count} of {len(images)} images of {where} hold NaN or Inf.", stacklevel=6)
    return count


def _load_npz(file: Any, where: str) -> np.lib.npyio.NpzFile:
    """An opened `.npz` file; ValueError for what is none."""
    try:
        archive = np.load(file, allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(f"{where} is not an .npz file, or a damaged one.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{where} is not an .npz file but a single array.")
    return archive


def _prefixes(archive: np.lib.npyio.NpzFile, where: str) -> dict[str, str]:
    """What the keys of each split begin with."""
    found: dict[str, list[str]] = {}
    for key in sorted(archive):
        if match := re.fullmatch("(?:(.+)_)?images?", key):
            found.setdefault(match[1] or "train", []).append(key)
    return {name: re.sub("images?$", "", _only(keys, where)) for name, keys in found.items()}


def _only(keys: list[str], where: str) -> str:
    """The key that a file has, of several spellings."""
    if len(keys) > 1:
        both = f"{keys[0]!r} and {keys[1]!r}"
        raise ValueError(f"{where} has both {both}, which mean the same: keep one of them.")
    return keys[0]


def _read(archive: np.lib.npyio.NpzFile, key: str, where: str) -> np.ndarray:
    """Array of `key`, or of its plural."""
    keys = [k for k in (key, f"{key}s") if k in archive]
    if not keys:
        raise ValueError(f"no key {key!r} in {where}: it has {sorted(archive)}.")
    found = _only(keys, where)
    try:
        return np.asarray(archive[found])
    except _DAMAGE as error:
        raise ValueError(
            f"cannot read {found!r} of {where}: it is damaged or holds Python objects."
        ) from error


def _open_folder(folder: pathlib.Path, split: str) -> Pool:
    """Lists the images of one split of a folder of class folders."""
    files, classes = folders.list_split(folder, split)

    def image(i: int) -> np.ndarray:
        return decode_image(files[i][0], str(files[i][0]), orient=True)

    return Pool(
        name=folder.name,
        where=f"{folder} split {split!r}",
        size=len(files),
        label=lambda i: files[i][1],
        image=image,
        num_classes=len(classes),
        classes=classes,
        channels=3,
    )
