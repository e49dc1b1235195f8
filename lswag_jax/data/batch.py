"""Input batches as NumPy arrays: drawn by class, resized and normalised, from several sources.

`load_batch` reads from the embedded images, a TensorFlow Datasets folder, an `.npz` file or a
folder of class folders; `make_batch` takes arrays. Only the images drawn are decoded.
"""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from lswag_jax.data.pool import Pool, array_pool, check_pixels, label_of
from lswag_jax.data.sources import open_pool
from lswag_jax.extras import extra
from lswag_jax.options import Count, ImageSize, Seed, Size, typed

Normalize = Literal["dataset", "unit", "symmetric"]
NORMALIZATIONS = get_args(Normalize)
Channels = Literal[1, 3]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FASHION_MNIST = ((0.2860,), (0.3530,))
# Published mean and standard deviation a channel of the training split, for pixels in [0, 1]. The
# first entry that the name of the source begins with counts: cifar100 stands before cifar10.
_STATISTICS = {
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "embedded": _FASHION_MNIST,
    "fashion_mnist": _FASHION_MNIST,
    "imagenet": _IMAGENET,
    "oxford_iiit_pet": _IMAGENET,
    "oxford_pets": _IMAGENET,
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch of images.

    Attributes:
        images: [B, H, W, C] float32, normalised.
        labels: [B] int32, in [0, num_classes).
        num_classes: number of classes of the data set, drawn or not.
        source: one line that says where the batch comes from.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    source: str


@dataclasses.dataclass(frozen=True)
class _Options:
    """Options of drawing and preparing a batch; mean and deviation are checked when it is made."""

    batch_size: Count | None
    seed: Seed
    balanced: bool
    image_size: ImageSize | None
    channels: Channels | None
    normalize: Normalize
    mean: float | Sequence[float] | None
    std: float | Sequence[float] | None

    def __post_init__(self):
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"give both mean and std or neither: {self.mean!r} and {self.std!r}.")
        if self.std is not None and not np.all(np.asarray(self.std, np.float64) > 0):
            raise ValueError(f"std must be positive, not {self.std!r}.")


@typed
def load_batch(
    source: str | os.PathLike = "embedded",
    batch_size: Count | None = 64,
    *,
    split: str = "train",
    seed: Seed = 0,
    balanced: bool = True,
    image_size: ImageSize | None = None,
    channels: Channels | None = None,
    normalize: Normalize = "dataset",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    label_key: str = "label",
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Batch:
    """Draws a batch of normalised images from a source.

    Args:
        source: "embedded" (512 images of Fashion-MNIST, 28x28x1), `tfds:NAME[/CONFIG][:VERSION]`,
            "sphere:SOURCE" for another source's images on a sphere (`lswag_jax.data.sphere`),
            the path of an `.npz` file (`image` or `images` [N, H, W, C], `label` or `labels` [N],
            optional `classes`; another split's keys begin with its name, as in `test_image`),
            the path of a folder of class folders, with or without a folder a split above them, or
            `module:NAME` of your own: an object with `images`, `labels` and perhaps `classes`, or
            a function, of `split` where there are several, that gives one.
            Classes of a folder are numbered in the order of their names, its images read as RGB.
        batch_size: number of images B; None takes the whole split in its own order.
        split: name of the split; for TFDS also a slice such as "train[:10%]".
        seed: seed of the draw; the same seed gives the same batch.
        balanced: draw floor or ceil of B / num_classes images a class (the seed chooses which
            classes get one more) instead of any B images; always without replacement.
        image_size: side in pixels: the short side is resized to it (bicubic, antialiased) and the
            centre cropped. None keeps the images as they are.
        channels: 1 (luminance) or 3 (grey repeated); None keeps the images' own.
        normalize: "dataset" (mean and standard deviation a channel: the published ones where the
            name of the source begins with that of a known data set, else those of the images
            drawn, also for colours turned grey), "unit" ([0, 1]) or "symmetric" ([-1, 1]).
        mean: mean for pixels in [0, 1], one value or one a channel; overrides `normalize`.
        std: standard deviation for pixels in [0, 1]; given together with `mean`.
        label_key: key of the labels in an `.npz` file or a TFDS data set.
        data_dir: folder of TFDS data sets; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
        download: let TFDS download and prepare a missing data set; needs the extra
            `lswag_jax[tf]`.

    Returns:
        The batch.

    Raises:
        ValueError: an argument, the data or a split is not as described above.
        FileNotFoundError: the file or the folder does not exist.

    Example:
        >>> batch = load_batch("embedded", 32, image_size=32, channels=3)
        >>> batch.images.shape, batch.labels.shape, batch.num_classes
        ((32, 32, 32, 3), (32,), 10)
    """
    options = _Options(batch_size, seed, balanced, image_size, channels, normalize, mean, std)
    return _assemble(open_pool(source, split, label_key, data_dir, download), options)


@typed
def make_batch(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: Count | None = None,
    *,
    num_classes: Size | None = None,
    seed: Seed = 0,
    balanced: bool = True,
    image_size: ImageSize | None = None,
    channels: Channels | None = None,
    normalize: Normalize = "dataset",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    source: str = "arrays",
) -> Batch:
    """Makes a batch from arrays, by the same draw, resize and normalisation as `load_batch`.

    Args:
        images: [N, H, W, C] uint8, uint16, or floating point in [0, 1]; C is 1 or 3.
        labels: [N] integers in [0, num_classes).
        batch_size: number of images B; None takes all in their order.
        num_classes: number of classes; None: the largest label and one.
        seed: as in `load_batch`, like the following.
        balanced: draw equally many images a class.
        image_size: side in pixels, or None.
        channels: 1, 3 or None.
        normalize: "dataset", "unit" or "symmetric".
        mean: mean for pixels in [0, 1], or None.
        std: standard deviation for pixels in [0, 1], or None.
        source: name of the data set, by which the published mean and deviation are looked up.

    Returns:
        The batch.

    Raises:
        ValueError: an argument or an array is not as described above.

    Example:
        >>> images = np.tile(np.uint8([[0, 255], [255, 0]]), (6, 4, 4))[..., None]
        >>> batch = make_batch(images, np.array([0, 0, 0, 1, 1, 1]), 4, normalize="symmetric")
        >>> sorted(batch.labels.tolist()), float(batch.images.min())
        ([0, 0, 1, 1], -1.0)
    """
    options = _Options(batch_size, seed, balanced, image_size, channels, normalize, mean, std)
    return _assemble(array_pool(images, labels, source, source, num_classes), options)


def _assemble(pool: Pool, options: _Options) -> Batch:
    """Draws, converts, resizes and normalises."""
    index = _draw(pool, options)
    channels = options.channels or pool.channels
    images = [convert(pool.image(i), pool.where, channels, options.image_size) for i in index]
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1:
        raise ValueError(
            f"images of {pool.where} differ in shape, such as {shapes[0]} and {shapes[-1]}: "
            "give image_size and channels."
        )
    pixels = np.stack(images)
    labels = np.array([label_of(pool, i) for i in index], np.int32)
    _warn(pool, pixels, labels)
    mean, std = _mean_and_std(pixels, pool.name, options)
    height, width, channels = shapes[0]
    draw = "balanced" if options.balanced else "random"
    draw = "in order" if options.batch_size is None else f"{draw}, seed {options.seed}"
    return Batch(
        images=(pixels - mean) / std,
        labels=labels,
        num_classes=pool.num_classes,
        source=f"{pool.where}, {len(index)} of {pool.size} images, {draw}, "
        f"{height}x{width}x{channels}",
    )


def _warn(pool: Pool, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Warns of images [B, H, W, C] and labels [B] that scores can hardly tell anything of."""
    if len(labels) > 1 and len(np.unique(labels)) == 1:
        warnings.warn(f"all images drawn from {pool.where} are of one class.", stacklevel=4)
    if found := constants(list(pixels), f"drawn from {pool.where}"):
        warnings.warn(found, stacklevel=4)


def constants(images: Sequence[np.ndarray], where: str) -> str:
    """Says how many images of several are constant; empty where none is."""
    num = sum(int(image.min() == image.max()) for image in images)
    if not num:
        return ""
    return (
        f"{num} of the {len(images)} images {where} are constant: every pixel has the same value."
    )


def _draw(pool: Pool, options: _Options) -> list[int]:
    """Indices of the examples of the batch, shuffled."""
    size = pool.size if options.batch_size is None else options.batch_size
    if not pool.size:
        raise ValueError(f"{pool.where} has no images.")
    if size > pool.size:
        raise ValueError(f"batch_size {size} is more than the {pool.size} images of {pool.where}.")
    if options.batch_size is None:
        return list(range(size))
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(pool.size).tolist()
    if not options.balanced:
        return order[:size]
    quotas = np.full(pool.num_classes, size // pool.num_classes)
    quotas[rng.permutation(pool.num_classes)[: size % pool.num_classes]] += 1
    # Examples are visited in random order until every class is full: labels that lie in files are
    # not all read.
    missing, drawn = quotas.copy(), []
    for i in order:
        label = label_of(pool, i)
        if missing[label]:
            missing[label] -= 1
            drawn.append(i)
            if len(drawn) == size:
                return rng.permutation(drawn).tolist()
    label = int(np.flatnonzero(missing)[0])
    name = f" ({pool.classes[label]!r})" if pool.classes else ""
    there = int(quotas[label] - missing[label])
    images, way = f"{there} image" + "s" * (there != 1), "lower batch_size or set balanced=False"
    if not there:
        images, way = "no image", "set balanced=False"
    raise ValueError(
        f"class {label}{name} of {pool.where} has {images} where a balanced batch of {size} needs "
        f"{quotas[label]}: {way}."
    )


def convert(image: np.ndarray, where: str, channels: int | None, size: int | None) -> np.ndarray:
    """Float32 [size, size, channels] in [0, 1] of an image as `Pool.image` gives it.

    Args:
        image: [H, W, C] uint8, uint16, or floating point in [0, 1].
        where: what messages call its source.
        channels: 1, 3 or None for its own.
        size: side in pixels (`load_batch`), or None for its own.

    Raises:
        ValueError: the image has another shape or range.
    """
    check_pixels(image, where, ["H", "W", "C"])
    if image.dtype != np.uint8:  # Bytes are resized as bytes, to the very values of Pillow.
        image = _to_unit(image, where)
    return _set_channels(_to_unit(_resize(image, size), where), channels)


def to_bytes(image: np.ndarray, where: str, channels: int, size: int | None) -> np.ndarray:
    """uint8 [size, size, channels] of an image, as `convert` makes it, rounded to bytes."""
    return np.rint(255 * convert(image, where, channels, size)).astype(np.uint8)


def _to_unit(image: np.ndarray, where: str) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    if image.dtype.kind == "u":
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    if not np.isfinite(image).all():
        raise ValueError(f"an image of {where} holds NaN or Inf: leave it out.")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"pixels of {where} must lie in [0, 1] where they are floating point, "
            f"not in [{image.min()}, {image.max()}]."
        )
    return image.astype(np.float32)


def _set_channels(image: np.ndarray, channels: int | None) -> np.ndarray:
    """Grey repeated, or the luminance of colours (ITU-R BT.601); [H, W, C] to [H, W, channels]."""
    if channels in (None, image.shape[-1]):
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    return image @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _resize(image: np.ndarray, size: int | None) -> np.ndarray:
    """Short side to `size` pixels, bicubic and antialiased, then the centre crop; [H, W, C]."""
    height, width, channels = image.shape
    if size is None or (height, width) == (size, size):
        return image
    with extra("data"):
        from PIL import Image

    short = min(height, width)
    height, width = size * height // short, size * width // short
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., c])).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        for c in range(channels)
    ]
    top, left = (height - size) // 2, (width - size) // 2
    resized = np.stack(planes, axis=-1)[top : top + size, left : left + size]
    # Bicubic interpolation overshoots; of bytes, Pillow itself clips it.
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)


@typed
def statistics(
    pool: Pool,
    channels: Channels,
    normalize: Normalize = "dataset",
    *,
    image_size: ImageSize | None = None,
    num: Count = 1024,
    seed: Seed = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation a channel for pixels in [0, 1], float32 [C] each.

    Args:
        pool: of the images.
        channels: 1 or 3, to which images are converted.
        normalize: as in `load_batch`; those of an unknown data set are measured.
        image_size: to which images are resized; None where they all have one size.
        num: images measured, at most.
        seed: of their draw.

    Example:
        >>> [x.tolist() for x in statistics(open_pool("embedded"), 1, "symmetric")]
        [[0.5], [0.5]]
    """
    options = _Options(None, seed, False, image_size, channels, normalize, None, None)
    known = normalize != "dataset" or _published(pool.name, channels)
    order = np.random.default_rng(seed).permutation(pool.size)
    index = order[: 1 if known else num].tolist()
    images = [convert(pool.image(i), pool.where, channels, image_size) for i in index]
    return _mean_and_std(np.stack(images), pool.name, options)


def _published(name: str, channels: int) -> tuple | None:
    """Published mean and deviation of the data set that a source's name begins with."""
    known = next((v for k, v in _STATISTICS.items() if name.lower().startswith(k)), None)
    return known if known and len(known[0]) in (1, channels) else None


def _mean_and_std(pixels: np.ndarray, name: str, options: _Options) -> tuple:
    """Mean and standard deviation a channel, float32 [C], for pixels [B, H, W, C] in [0, 1]."""
    channels = pixels.shape[-1]
    if options.mean is not None:
        mean, std = options.mean, options.std
        if not all(np.isfinite(np.asarray(value, float)).all() for value in (mean, std)):
            raise ValueError(f"mean and std must be finite, got {mean!r} and {std!r}.")
    elif options.normalize == "unit":
        mean, std = 0.0, 1.0
    elif options.normalize == "symmetric":
        mean, std = 0.5, 0.5
    elif known := _published(name, channels):
        mean, std = known
    else:
        mean = pixels.mean(axis=(0, 1, 2), dtype=np.float64)
        std = pixels.std(axis=(0, 1, 2), dtype=np.float64)
        std = np.where(std > 0, std, 1.0)
    try:
        arrays = (np.asarray(value, np.float32) for value in (mean, std))
        return tuple(np.broadcast_to(array, channels) for array in arrays)
    except ValueError as error:
        raise ValueError(
            f"mean {mean!r} and std {std!r} must have one value or {channels}, one a channel."
        ) from error
