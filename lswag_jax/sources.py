"""Where images come from: the embedded file, `.npz` files, class folders, arrays, TFDS folders.

Every source becomes a `Pool`, which reads its examples one by one.
"""

import dataclasses
import os
import pathlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from lswag_jax import folders
from lswag_jax.images import decode_image

__all__ = ["Pool", "array_pool", "decode_image", "hold_out", "open_pool", "split_names"]


@dataclasses.dataclass(frozen=True)
class Pool:
    """The examples that a batch is drawn from, read one by one.

    Attributes:
        name: name by which the published mean and standard deviation are looked up.
        where: source and split, as messages name them.
        size: number of examples.
        label: label of example i.
        image: pixels of example i: [H, W, C] uint8, uint16, or floating point in [0, 1].
        num_classes: number of classes.
        classes: names of the classes, or None.
        channels: channels to convert to unless the caller chooses; None keeps what is there.
    """

    name: str
    where: str
    size: int
    label: Callable[[int], int]
    image: Callable[[int], np.ndarray]
    num_classes: int
    classes: Sequence[str] | None = None
    channels: int | None = None


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
        from lswag_jax import sphere

        plane = text.removeprefix("sphere:")
        return sphere.on_sphere(open_pool(plane, split, label_key, data_dir, download))
    if text == "embedded":
        asset = resources.files("lswag_jax") / "assets" / "fashion_mnist_512.npz"
        with asset.open("rb") as file:
            return _open_npz(file, "embedded", "embedded", split, label_key)
    if text.startswith("tfds:"):
        from lswag_jax import tfds_reader

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


def split_names(source: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> list[str]:
    """Names of the splits of a source; arguments and errors are those of `open_pool`.

    >>> split_names("embedded")
    ['train']
    """
    text = os.fspath(source).removeprefix("sphere:")
    if text.startswith("tfds:"):
        from lswag_jax import tfds_reader

        return tfds_reader.split_names(text.removeprefix("tfds:"), data_dir)
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        return folders.splits_of(path) or ["train"]
    if path.suffix == ".npz" and path.is_file():
        with _load_npz(path, str(path)) as archive:
            return sorted(_prefixes(archive))
    return ["train"]


def hold_out(pool: Pool, share: float, seed: int) -> tuple[Pool, Pool]:
    """Divides a pool at random.

    Args:
        pool: to divide.
        share: of the examples that are held out, at least one.
        seed: of the draw.

    Returns:
        The pool of the other examples, and that of those held out.

    Raises:
        ValueError: a share that leaves one of them empty.

    >>> rest, held = hold_out(open_pool("embedded"), 0.25, seed=0)
    >>> rest.size, held.size
    (384, 128)
    """
    count = max(1, round(share * pool.size))
    if not 0 < share < 1 or count >= pool.size:
        raise ValueError(
            f"the share held out must be above 0 and leave examples of {pool.where}, got {share}."
        )
    order = np.random.default_rng(seed).permutation(pool.size)

    def part(index: np.ndarray, what: str) -> Pool:
        return dataclasses.replace(
            pool,
            where=f"{pool.where}, {what}",
            size=len(index),
            label=lambda i: pool.label(int(index[i])),
            image=lambda i: pool.image(int(index[i])),
        )

    draw = f"(seed {seed})"
    rest = part(order[count:], f"all but {count} {draw}")
    return rest, part(order[:count], f"{count} held out {draw}")


def array_pool(
    images: np.ndarray,
    labels: np.ndarray,
    name: str,
    where: str,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
) -> Pool:
    """Checks arrays and wraps them as a pool.

    Args:
        images: [N, H, W, C] uint8, uint16, or floating point in [0, 1]; C is 1 or 3.
        labels: [N] integers.
        name: as in `Pool`, like the following.
        where: what messages call the arrays.
        num_classes: number of classes; None: the largest label and one.
        classes: names of the classes, or None.

    Returns:
        The pool.

    Raises:
        ValueError: an array has another shape or dtype.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images of {where} must have shape [N, H, W, C] with C 1 or 3, not {images.shape}."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels of {where} must be {len(images)} integers, "
            f"not {labels.dtype} of shape {labels.shape}."
        )
    if num_classes is None:
        num_classes = int(labels.max(initial=0)) + 1
    return Pool(
        name, where, len(labels), labels.__getitem__, images.__getitem__, num_classes, classes
    )


def _open_npz(file: Any, name: str, where: str, split: str, label_key: str) -> Pool:
    """Reads one split of an `.npz` file."""
    with _load_npz(file, where) as archive:
        prefixes = _prefixes(archive)
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
    _warn_of_nan(images, f"{where} split {split!r}")
    return array_pool(images, labels, name, f"{where} split {split!r}", num_classes, classes)


def _load_npz(file: Any, where: str) -> np.lib.npyio.NpzFile:
    """An opened `.npz` file; ValueError for what is none."""
    try:
        archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where} is not an .npz file, or a damaged one.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{where} is not an .npz file but a single array.")
    return archive


def _prefixes(archive: np.lib.npyio.NpzFile) -> dict[str, str]:
    """What the keys of each split begin with."""
    matches = [re.fullmatch("((.+)_)?images?", key) for key in archive]
    return {match[2] or "train": match[1] or "" for match in matches if match}


def _warn_of_nan(images: np.ndarray, where: str) -> None:
    """Warns of images [N, ...] that are not finite, drawn or not."""
    bad = ~np.isfinite(images) if images.dtype.kind == "f" else np.zeros(1, bool)
    if bad.any():
        count = int(bad.reshape(len(bad), -1).any(axis=1).sum())
        warnings.warn(f"{count} of {len(images)} images of {where} hold NaN or Inf.", stacklevel=5)


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
