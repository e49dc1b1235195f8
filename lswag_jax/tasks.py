"""Tasks: what a network's head puts out, the labels it is compared with, the per-sample loss.

`classification(n)` is the task of most search spaces; `detection(n)` is that of a grid of patches
(`lswag_jax.detection`); `get(name)` has the seven tasks of TransNAS-Bench-101 (Duan et al., CVPR
2021) with the losses that NASLib's proxies use for them.
"""

import dataclasses
import functools
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.detection import check as check_boxes
from lswag_jax.detection import loss as detection_loss
from lswag_jax.options import Checked, Count, Numbers, Seed, Size, typed, typed_methods

Array = jax.Array
Target = Literal["class", "probabilities", "values", "class_map", "image", "boxes"]
TILES = 9  # of a jigsaw, in a 3x3 grid
_SOFTMAX_EPS = 1e-5
_GRID = 8  # synthetic dense targets are constant on squares, 8 of them on a side


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Per-sample cross entropy [B] of logits [B, C] and integer labels [B], no smoothing."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


@typed_methods
@dataclasses.dataclass(frozen=True)
class Task(Checked):
    """Describes what a network predicts.

    Args:
        name: what reports call it.
        outputs: classes, values or channels that the head puts out.
        target: kind of label. "class": integers [B]; "probabilities": of each class [B, outputs],
            or integers [B] in place of one-hot rows; "values": floats [B, outputs]; "class_map":
            integers [B, H, W]; "image": floats [B, H, W, outputs]; "boxes": of K objects [B, K, 5],
            class, top, left, bottom, right (`lswag_jax.detection.assign`).
        tiles: 9 for a network that sees an image as shuffled tiles [B, 9, h, w, C], else 1.

    Example:
        >>> task = classification(3)
        >>> [round(float(x), 3) for x in task.loss(jnp.zeros((2, 3)), jnp.array([0, 2]))]
        [1.099, 1.099]
    """

    name: str
    outputs: Size
    target: Target = "class"
    tiles: Literal[1, 9] = 1

    @property
    def dense(self) -> bool:
        """Whether there is an output for each pixel, so that the head is a decoder."""
        return self.target in ("class_map", "image")

    @property
    def makes_labels(self) -> bool:
        """Whether labels come from the images themselves (`from_images`)."""
        return self.tiles > 1 or self.name == "autoencoder"

    def loss(self, outputs: Array, labels: Array) -> Array:
        """Loss of each sample [B], as NASLib's proxies take it; a mean over values or pixels.

        Args:
            outputs: [B, outputs], or [B, H, W, outputs] where the task is dense or the label boxes.
            labels: see `target`.
        """
        if self.target == "class":
            return cross_entropy(outputs, labels)
        if self.target == "boxes":
            return detection_loss(outputs, labels)
        if self.target == "class_map":
            flat = outputs.reshape(-1, outputs.shape[-1])
            return cross_entropy(flat, labels.reshape(-1)).reshape(len(labels), -1).mean(axis=1)
        if self.target == "probabilities":
            if labels.ndim == 1:
                labels = jax.nn.one_hot(labels, self.outputs, dtype=outputs.dtype)
            return -(labels * jnp.log(jax.nn.softmax(outputs) + _SOFTMAX_EPS)).sum(axis=-1)
        error = outputs - labels
        error = jnp.square(error) if self.target == "values" else jnp.abs(error)
        return error.reshape(len(error), -1).mean(axis=1)

    def check(self, images: Array, labels: Any) -> Array:
        """Labels as int32 or floats, checked against the batch they belong to.

        Args:
            images: [B, H, W, C], or [B, 9, h, w, C] for a jigsaw (`from_images`).
            labels: see `target`.

        Raises:
            ValueError: one sentence that says what is wrong and what is allowed.
        """
        if not hasattr(images, "ndim"):
            raise ValueError(f"images must be an array, got {type(images).__name__}.")
        is_tiled = images.ndim == 5 and images.shape[1] == self.tiles
        if (self.tiles > 1 and not is_tiled) or (self.dense and images.ndim != 4):
            shape = "[B, H, W, C]" if self.dense else "[B, 9, h, w, C] (make them by from_images)"
            raise ValueError(f"{self.name} takes inputs {shape}, got shape {images.shape}.")
        if self.target == "boxes":
            return check_boxes(labels, len(images), self.outputs - 4)
        labels = np.asarray(labels)
        whole = self.target in ("class", "class_map")
        whole |= self.target == "probabilities" and labels.ndim == 1
        shape = images.shape[:1] + (images.shape[-3:-1] if self.dense else ())
        shape += () if whole else (self.outputs,)
        kind = np.integer if whole else np.floating
        if labels.shape != shape or not np.issubdtype(labels.dtype, kind):
            raise ValueError(
                f"labels of {self.name} must be {'integers' if whole else 'floats'} of shape "
                f"{shape}, got {labels.dtype} of shape {labels.shape}."
            )
        self._check_range(labels, whole)
        return jnp.asarray(labels, jnp.int32 if whole else None)

    def _check_range(self, labels: np.ndarray, whole: bool) -> None:
        if whole and labels.size and not 0 <= labels.min() <= labels.max() < self.outputs:
            raise ValueError(
                f"labels of {self.name} must be in [0, {self.outputs}), got values from "
                f"{labels.min()} to {labels.max()}."
            )
        if not np.isfinite(labels).all():
            raise ValueError(f"labels of {self.name} must be finite, got nan or infinity.")
        if self.target == "probabilities" and not whole:
            sums = labels.sum(axis=-1)
            if labels.min() < 0 or np.abs(sums - 1).max() > 1e-3:
                raise ValueError(
                    f"labels of {self.name} must be probabilities that sum to 1, got values from "
                    f"{labels.min()} and sums from {sums.min()} to {sums.max()}."
                )

    def from_images(self, images: Numbers, seed: Seed) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of a task that makes its labels from the images.

        jigsaw: shuffled tiles and the number of their order (`jigsaw`). autoencoder: the images
        twice; its head ends with tanh, so images should be in [-1, 1], to which uint8 is scaled.

        Raises:
            ValueError: the task's labels are not in the images.
        """
        if not self.makes_labels:
            raise ValueError(
                f"labels of {self.name} cannot be made from images: give them, or make "
                "synthetic_targets."
            )
        if self.tiles > 1:
            return jigsaw(images, seed, self.outputs)
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / 127.5 - 1
        return images, images


@typed
@functools.cache
def classification(num_classes: Size) -> Task:
    """Plain classification: integer labels [B], cross entropy."""
    return Task("classification", num_classes)


@typed
@functools.cache
def detection(num_classes: Size) -> Task:
    """Detection on a grid of patches: for each the logits of the classes and a box.

    Example:
        >>> task, boxes = detection(10), jnp.array([[[3, 0.1, 0.2, 0.5, 0.9]]])  # one of class 3
        >>> task.outputs, task.loss(jnp.zeros((1, 8, 8, task.outputs)), boxes).shape
        (14, (1,))
    """
    return Task("detection", num_classes + 4, "boxes")


_TASKS = {
    task.name: task
    for task in (
        Task("class_object", 100, "probabilities"),
        Task("class_scene", 63, "probabilities"),
        Task("jigsaw", 1000, tiles=TILES),
        Task("room_layout", 9, "values"),
        Task("segmentsemantic", 17, "class_map"),
        Task("autoencoder", 3, "image"),
        Task("normal", 3, "image"),
    )
}


def names() -> tuple[str, ...]:
    """The seven tasks of TransNAS-Bench-101."""
    return tuple(_TASKS)


@typed
def get(name: str) -> Task:
    """The TransNAS-Bench-101 task called `name`; ValueError for an unknown one.

    Example:
        >>> get("segmentsemantic").outputs
        17
    """
    if name not in _TASKS:
        raise ValueError(f"unknown task {name!r}, known are {', '.join(_TASKS)}.")
    return _TASKS[name]


@typed
def synthetic_targets(task: Task, images: Numbers, seed: Seed) -> np.ndarray:
    """Random labels of the right form for images that have none of this task.

    They say nothing about the images: a score with them is one of the network's gradients under a
    plausible loss, not of the task. "class": uniform. "probabilities": Dirichlet(0.1), a few likely
    classes. "values": standard normal, as the benchmark's normalised room layouts. "class_map" and
    "image": constant on an 8x8 grid, uniform classes or random unit vectors (surface normals).
    "boxes": three, a quarter to a half of the image on a side.

    Args:
        task: what to make labels for.
        images: [B, H, W, C].
        seed: of the generator.

    Raises:
        ValueError: the task makes its labels from the images.

    Example:
        >>> synthetic_targets(get("room_layout"), np.zeros((4, 32, 32, 3)), seed=0).shape
        (4, 9)
    """
    if task.makes_labels:
        raise ValueError(f"{task.name} makes its labels from images: use from_images.")
    if np.ndim(images) != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {np.shape(images)}.")
    rng = np.random.default_rng(seed)
    batch, height, width = np.shape(images)[:3]
    if task.target == "class":
        return rng.integers(task.outputs, size=batch).astype(np.int32)
    if task.target == "probabilities":
        return rng.dirichlet(np.full(task.outputs, 0.1), size=batch).astype(np.float32)
    if task.target == "values":
        return rng.standard_normal((batch, task.outputs)).astype(np.float32)
    if task.target == "boxes":
        classes = rng.integers(task.outputs - 4, size=(batch, 3, 1))
        size = rng.uniform(0.25, 0.5, (batch, 3, 2))
        corner = rng.uniform(0, 1 - size)
        return np.concatenate([classes, corner, corner + size], axis=-1).astype(np.float32)
    rows, columns = (np.arange(n) * _GRID // n for n in (height, width))
    if task.target == "class_map":
        cells = rng.integers(task.outputs, size=(batch, _GRID, _GRID)).astype(np.int32)
    else:
        cells = rng.standard_normal((batch, _GRID, _GRID, task.outputs)).astype(np.float32)
        cells /= np.linalg.norm(cells, axis=-1, keepdims=True)
    return cells[:, rows[:, None], columns]


@typed
def jigsaw(images: Numbers, seed: Seed, num_orders: Count = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Images as nine shuffled tiles and the number of their order (Noroozi and Favaro, 2016).

    A tile is a random crop, a quarter of the image on a side, from its cell of the 3x3 grid: 64 of
    85 pixels at 256, as in TransNAS-Bench-101.

    Args:
        images: [B, H, W, C].
        seed: of the labels and of the crops; the orders are always the same (`jigsaw_orders`).
        num_orders: classes.

    Returns:
        Tiles [B, 9, H // 4, W // 4, C] and labels [B], int32.

    Example:
        >>> tiles, labels = jigsaw(np.zeros((2, 32, 32, 3)), seed=0, num_orders=10)
        >>> tiles.shape, labels.shape
        ((2, 9, 8, 8, 3), (2,))
    """
    images, rng = np.asarray(images), np.random.default_rng(seed)
    if images.ndim != 4 or min(images.shape[1:3]) < 4:
        raise ValueError(
            f"jigsaw cuts images [B, H, W, C] of at least 4x4 pixels, got shape {images.shape}."
        )
    batch, (height, width) = len(images), images.shape[1:3]
    labels = rng.integers(num_orders, size=batch).astype(np.int32)
    cells = jigsaw_orders(num_orders)[labels]  # [B, 9]

    def start(place: np.ndarray, size: int) -> np.ndarray:
        spare = size // 3 - size // 4
        first = place * (size // 3) + rng.integers(spare + 1, size=place.shape)
        return first[..., None] + np.arange(size // 4)

    rows, columns = start(cells // 3, height), start(cells % 3, width)
    sample = np.arange(batch)[:, None, None, None]
    return images[sample, rows[..., :, None], columns[..., None, :]], labels


@typed
@functools.lru_cache(maxsize=4)
def jigsaw_orders(num_orders: int = 1000, seed: Seed = 0) -> np.ndarray:
    """Orders of the nine tiles that are far from each other, uint8 [num_orders, 9].

    The first is drawn by the seed; each next one has the largest sum of Hamming distances to those
    before it, ties drawn. (The benchmark's own list was made so too, with another draw.)

    Raises:
        ValueError: not 1 to 362,880 orders.
    """
    every = _all_orders()
    if not 1 <= num_orders <= every.shape[1]:
        raise ValueError(f"num_orders must be from 1 to {every.shape[1]}, got {num_orders}.")
    rng = np.random.default_rng(seed)
    same = np.zeros(every.shape[1], np.int32)  # places shared with the orders before, in total
    chosen = []
    for _ in range(num_orders):
        best = rng.choice(np.flatnonzero(same == same.min()))
        chosen.append(best)
        for place, tile in zip(every, every[:, best], strict=True):
            same += place == tile
        same[best] = np.iinfo(np.int32).max // 2
    orders = np.ascontiguousarray(every[:, chosen].T)
    orders.flags.writeable = False
    return orders


@functools.cache
def _all_orders() -> np.ndarray:
    """All permutations of nine, uint8 [9, 362880]."""
    flat = itertools.chain.from_iterable(itertools.permutations(range(TILES)))
    return np.fromiter(flat, np.uint8).reshape(-1, TILES).T.copy()
