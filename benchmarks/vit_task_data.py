"""The tasks of `vit_tasks`: what each stands for, and its images.

Another is a line of `TASKS` or `OWN_TASKS`.
"""

import dataclasses
import functools
import io
import pathlib
import zlib
from typing import Any

import numpy as np

from lswag_jax import data
from lswag_jax.data import Pool, pretext, sphere
from lswag_jax.data.decode import decode_image
from lswag_jax.training.augment import to_bytes


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a task is made and trained.

    Attributes:
        stands_for: why it is here.
        images: data set, a key of `SOURCES`.
        change: what is done to the pools, a key of `CHANGES`.
        size, patch, channels: of the network's images, in pixels.
        training, validation: images drawn.
        per_class: training images of each class instead; 0 for `training`.
        flip: mirror half of the training images.
    """

    stands_for: str
    images: str
    change: str = ""
    size: int = 32
    patch: int = 8
    channels: int = 3
    training: int = 8000
    validation: int = 3000
    per_class: int = 0
    flip: bool = True


FASHION = {"images": "fashion_mnist", "size": 28, "patch": 7, "channels": 1}
TASKS = {
    "fashion": Recipe("recognition, easy and clean", **FASHION),
    "cifar10": Recipe("recognition of natural images", "cifar10"),
    "cifar10_sphere": Recipe(
        "another geometry: the paper's Spherical-CIFAR-100", "cifar10", "sphere", flip=False
    ),
    "cifar10_few": Recipe("few labels, 250 a class", "cifar10", per_class=250),
    "fashion_jigsaw": Recipe(  # a token a tile
        "TransNAS-Bench-101's jigsaw: parts and their places, no labels", "fashion_mnist", "jigsaw",
        size=21, patch=7, channels=1, training=20000, flip=False,
    ),
    "fashion_rotation": Recipe(
        "self-supervision by which way is up", change="rotation", training=20000,
        flip=False, **FASHION,
    ),
}  # fmt: skip
# Where a user has the images; the figures of the repository have none of these.
OWN_TASKS = {
    "cifar100": Recipe("the paper's CIFAR-100: many classes", "cifar100", training=50000),
    "cifar100_sphere": Recipe("the paper's Spherical-CIFAR-100", "cifar100", "sphere", flip=False),
    "pets": Recipe("the paper's Oxford-IIIT Pets: fine classes, few images", "pets"),
    "svhn": Recipe("the paper's SVHN: digits in the street", "svhn", training=50000, flip=False),
    "imagenet": Recipe("the paper's ImageNet", "imagenet", size=64, training=50000),
}
RECIPES = TASKS | OWN_TASKS

# Source, and names of the training and the validation split.
SOURCES = {
    "fashion_mnist": ("{data}/images/fashion_mnist_full.npz", "train", "test"),
    "cifar10": ("{data}/images/cifar10_jpeg.npz", "train", "test"),
    "cifar100": ("tfds:cifar100", "train", "test"),
    "pets": ("tfds:oxford_iiit_pet", "train", "test"),
    "svhn": ("tfds:svhn_cropped", "train", "test"),
    "imagenet": ("tfds:imagenet2012", "train", "validation"),
}
ORDERS = 30  # of a jigsaw's tiles
CHANGES = {
    "": lambda pool, seed: pool,
    "sphere": sphere.on_sphere,
    "jigsaw": lambda pool, seed: pretext.puzzles(pool, ORDERS, seed),
    "rotation": pretext.rotated,
}


@functools.cache
def _jpeg_arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def jpeg_pool(path: str, split: str) -> Pool:
    """CIFAR-10 as JPEG files in one array: `jpeg`, `offset`, `label`, `is_test`, `classes`."""
    held = _jpeg_arrays(path)
    index = np.flatnonzero(held["is_test"] == (split == "test"))

    def image(i: int) -> np.ndarray:
        first, last = held["offset"][index[i] : index[i] + 2]
        return decode_image(io.BytesIO(held["jpeg"][first:last].tobytes()), f"{path}, {index[i]}")

    classes = held["classes"].tolist()
    return Pool(
        name="cifar10",
        where=f"{path} split {split!r}",
        size=len(index),
        label=lambda i: int(held["label"][index[i]]),
        image=image,
        num_classes=len(classes),
        classes=classes,
    )


def open_split(source: str, split: str) -> Pool:
    """A split of a source."""
    path = pathlib.Path(source)
    is_jpeg = path.name == "cifar10_jpeg.npz" and path.is_file()
    return jpeg_pool(source, split) if is_jpeg else data.open_pool(source, split)


def arrays(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a pool in memory."""
    images = np.stack([pool.image(i) for i in range(pool.size)])
    return images, np.array([data.label_of(pool, i) for i in range(pool.size)], np.int32)


def in_memory(pool: Pool, size: int, channels: int) -> Pool:
    """The pool with its images as bytes of a network's size, made once."""
    shape = (pool.size, size, size, channels)
    images = np.empty(shape, np.uint8)
    for i in range(pool.size):
        images[i] = to_bytes(pool.image(i), pool.where, channels, size)
    labels = np.array([data.label_of(pool, i) for i in range(pool.size)], np.int32)
    return data.array_pool(images, labels, pool.name, pool.where, pool.num_classes, pool.classes)


def pools_of(recipe: Recipe, source: tuple[str, str, str]) -> tuple[Pool, Pool]:
    """Training and validation images of a task."""
    where, *splits = source
    training, validation = (open_split(where, split) for split in splits)
    if recipe.per_class:
        training = data.per_class(training, recipe.per_class)
    else:
        training = data.some(training, recipe.training)
    held = data.some(validation, recipe.validation)
    change, size = CHANGES[recipe.change], (recipe.size, recipe.channels)
    return in_memory(change(training, 0), *size), in_memory(change(held, 1), *size)


def classes(pool: Pool) -> dict[str, Any]:
    """Its size, images a class, largest over smallest class, and a checksum of the labels."""
    labels = np.array([pool.label(i) for i in range(pool.size)], np.int32)
    counts = np.bincount(labels, minlength=pool.num_classes)
    return {
        "size": pool.size,
        "a_class": counts.tolist(),
        "imbalance": round(float(counts.max() / max(counts.min(), 1)), 3),
        "labels_crc32": zlib.crc32(labels.tobytes()),
    }
