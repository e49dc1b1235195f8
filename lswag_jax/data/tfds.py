"""Data sets that TensorFlow Datasets (TFDS) prepared on disk, read without TensorFlow.

Both file formats are read at random: array_record by its own library, TFRecord by the offsets of
its records. Images are decoded by Pillow. (`tfds.data_source` reads array_record only, and decodes
the image where just the label is asked for, which takes four times as long.)
"""

import bisect
import functools
import io
import itertools
import os
import pathlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from lswag_jax.data.decode import decode_image
from lswag_jax.data.folders import path_of
from lswag_jax.data.pool import Pool
from lswag_jax.extras import extra

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def open_split(
    name: str,
    split: str,
    label_key: str = "label",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Pool:
    """Opens one split of a prepared data set.

    Args:
        name: "NAME", "NAME/CONFIG", either with ":VERSION"; the newest version by default.
        split: name of a split, or a slice of one such as "train[:10%]".
        label_key: name of the feature that holds the class; or of one with a `bbox` and a `label`
            for each object of an image, such as the "objects" of COCO.
        data_dir: folder of data sets; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
        download: let TFDS download and prepare a missing data set.

    Returns:
        The pool of its examples.

    Raises:
        ValueError: the data set, the split or a feature is missing or of another kind.
        FileNotFoundError: a file of the data set is missing.
        ImportError: `download` is set, and TensorFlow is not installed.
    """
    root = _root(data_dir)
    folder = find_folder(name, root)
    if folder is None:
        if not download:
            raise ValueError(
                f"no prepared TFDS data set {name!r} in {root}: set data_dir to the folder that "
                "holds it, or download (needs the extra [tf]); of a binary --config.data.data_dir "
                "and --config.data.download."
            )
        _prepare(name, root)
        folder = find_folder(name, root)
    with extra("data"):
        import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(folder).info
    try:
        instructions = info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"no split {split!r} in {folder}: it has {sorted(info.splits)}."
        ) from error
    file_format = info.file_format.file_suffix
    if file_format not in _READERS:
        raise ValueError(f"{folder} is in the format {file_format!r}, not one of {list(_READERS)}.")
    for instruction in instructions:
        if not os.path.exists(instruction.filename):
            raise FileNotFoundError(f"the data set {folder} lacks its file {instruction.filename}.")
    size = sum(instruction.take for instruction in instructions)
    where = f"tfds:{name} ({folder}) split {split!r}"
    return _pool(info, label_key, _READERS[file_format](instructions), size, where)


def split_names(name: str, data_dir: str | os.PathLike | None = None) -> list[str]:
    """Names of the splits of a prepared data set; empty for a missing one."""
    with extra("data"):
        import tensorflow_datasets as tfds

    folder = find_folder(name, _root(data_dir))
    return [] if folder is None else sorted(tfds.builder_from_directory(folder).info.splits)


def _root(data_dir: str | os.PathLike | None) -> pathlib.Path:
    """The folder of data sets."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return path_of(root, "folder of data sets")


def find_folder(name: str, root: pathlib.Path) -> pathlib.Path | None:
    """Folder of a prepared data set, `root/NAME[/CONFIG]/VERSION`.

    Args:
        name: "NAME[/CONFIG][:VERSION]".
        root: folder of data sets.

    Returns:
        The folder, that of the newest version if `name` has none; None if there is none.

    Raises:
        ValueError: the name is malformed, or the data set has several configs and `name` none.
    """
    match = re.fullmatch(r"(\w+)(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", name)
    if match is None:
        raise ValueError(f"malformed TFDS name {name!r}: write NAME, NAME/CONFIG or NAME:VERSION.")
    base = root / (match[1] + (match[2] or ""))
    version = match[3][1:] if match[3] else "*"
    folders = _versions(base, version)
    if not folders and not match[2] and base.is_dir():
        configs = {path.name: _versions(path, version) for path in base.iterdir() if path.is_dir()}
        configs = {config: found for config, found in configs.items() if found}
        if len(configs) > 1:
            raise ValueError(f"{name!r} in {root} needs one of the configs {sorted(configs)}.")
        folders = next(iter(configs.values()), [])
    return folders[-1] if folders else None


def _versions(base: pathlib.Path, version: str) -> list[pathlib.Path]:
    """Folders of prepared versions in `base`, oldest first."""
    folders = [path.parent for path in base.glob(f"{version}/features.json")]
    matches = ((path, _VERSION.fullmatch(path.name)) for path in folders)
    found = {path: tuple(map(int, match.groups())) for path, match in matches if match}
    return sorted(found, key=found.__getitem__)


def _prepare(name: str, root: pathlib.Path) -> None:
    """Downloads a data set and prepares it as array_record."""
    if find_spec("tensorflow") is None:
        raise ImportError(
            f"preparing the TFDS data set {name!r} needs TensorFlow: pip install 'lswag_jax[tf]'."
        )
    with extra("data"):
        import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS knows no data set {name!r}.") from error
    builder.download_and_prepare()


def _pool(info: Any, label_key: str, record: Callable, size: int, where: str) -> Pool:
    """Pool of `size` examples, of which `record(i)` gives the serialised one."""
    with extra("data"):
        import tensorflow_datasets as tfds
        from google.protobuf.message import DecodeError

    for key in ("image", label_key):
        if key not in info.features:
            raise ValueError(f"no feature {key!r} in {where}: it has {sorted(info.features)}.")
    label_feature, label_of = info.features[label_key], lambda label: label
    objects: Any = getattr(label_feature, "feature", None)  # of a Sequence
    if isinstance(objects, tfds.features.FeaturesDict) and {"bbox", "label"} <= set(objects):
        label_feature, label_of = label_feature["label"], _boxes
    # Not what only passes on a class's attributes, as a Sequence of classes does.
    if not isinstance(label_feature, tfds.features.ClassLabel):
        raise ValueError(f"feature {label_key!r} of {where} is not a class: {label_feature}.")
    # Other features are not parsed. (tfds.decode.PartialDecoding needs TensorFlow.)
    features = tfds.features.FeaturesDict({k: info.features[k] for k in ("image", label_key)})
    # Encoded images are left to decode_image. Those of float32 have TFDS's own encoding.
    encoded = isinstance(features["image"], tfds.features.Image)
    encoded = encoded and features["image"].np_dtype != np.float32
    decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None

    def example(i: int) -> dict:
        try:
            return features.deserialize_example_np(record(i), decoders=decoders)
        except DecodeError as error:
            raise ValueError(f"cannot decode record {i} of {where}: {error}.") from error

    def image(i: int) -> np.ndarray:
        value = example(i)["image"]
        if encoded:
            return decode_image(io.BytesIO(value), f"{i} of {where}")
        return np.asarray(value)

    return Pool(
        name=info.name,
        where=where,
        size=size,
        label=lambda i: label_of(example(i)[label_key]),
        image=image,
        num_classes=label_feature.num_classes,
        classes=label_feature.names,
        channels={1: 1, 3: 3, 4: 3}.get((features["image"].shape or (0,))[-1] or 0),
    )


def _boxes(objects: Mapping[str, np.ndarray]) -> np.ndarray:
    """Boxes float32 [K, 5] as `Pool.label` has them; not those of crowds, and no empty ones."""
    corners = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
    kept = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    kept &= ~np.asarray(objects.get("is_crowd", np.zeros(len(corners))), bool)
    classes = np.asarray(objects["label"], np.float32).reshape(-1, 1)
    return np.concatenate([classes, np.clip(corners, 0, 1)], axis=1)[kept]


def _array_record_reader(instructions: Sequence) -> Callable[[int], bytes]:
    """Function that reads record i of array_record files."""
    with extra("data"):
        from array_record.python import array_record_data_source

    return array_record_data_source.ArrayRecordDataSource(instructions).__getitem__


def _tfrecord_reader(instructions: Sequence) -> Callable[[int], bytes]:
    """Function that reads record i of TFRecord files; a file is indexed when it is first read."""
    starts = list(itertools.accumulate((part.take for part in instructions), initial=0))
    index = functools.cache(_tfrecord_index)

    def record(i: int) -> bytes:
        number = bisect.bisect_right(starts, i) - 1
        part = instructions[number]
        offsets = index(part.filename)
        if len(offsets) != part.examples_in_shard:
            raise ValueError(
                f"{part.filename} holds {len(offsets)} records, not {part.examples_in_shard}."
            )
        offset, length = offsets[part.skip + i - starts[number]]
        with open(part.filename, "rb") as file:
            file.seek(offset)
            return file.read(length)

    return record


def _tfrecord_index(path: str) -> list[tuple[int, int]]:
    """Offset and length in bytes of every record of a TFRecord file.

    A record is framed by its length (8 bytes, little endian) and the length's checksum (4 bytes)
    before it, and its own checksum (4 bytes) after it. The checksums are not verified.
    """
    index, offset, end = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while offset < end:
            file.seek(offset)
            header = file.read(12)
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else end
            if offset + length + 16 > end:
                raise ValueError(f"{path} is truncated or not a TFRecord file (byte {offset}).")
            index.append((offset + 12, length))
            offset += length + 16
    return index


_READERS = {"array_record": _array_record_reader, "tfrecord": _tfrecord_reader}
