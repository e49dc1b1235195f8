"""Random changes of training images.

One image at a time on the host, as bytes: crop, flip, RandAugment. On the device, for a whole
normalised batch: mixup or CutMix, and random erasing.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.data.batch import to_bytes
from lswag_jax.extras import extra
from lswag_jax.options import Bound, Checked, Natural, NonNegative, PositiveShare, Share

Array = jax.Array
Crop = Literal["none", "pad", "resized"]
_EVAL_CROP = 0.875  # of the short side, of networks trained on resized crops
_ERASED = (0.02, 1 / 3)  # share of the area
_ERASED_RATIO = (0.3, 1 / 0.3)  # height over width


@dataclasses.dataclass(frozen=True)
class AugmentOptions(Checked):
    """Options of the augmentation of training images.

    Attributes:
        crop: "none" (resized, as in `lswag_jax.data`), "pad" (a crop of the image padded by an
            eighth of its side on each side) or "resized" (a random part, resized).
        min_scale: smallest share of the area of a "resized" crop.
        flip: mirror half of the images.
        rand_augment: operations of RandAugment; 0 for none.
        magnitude: their strength, 0 to 10.
        erase: probability that a random rectangle becomes noise.
        mixup, cutmix: parameter of the Beta distribution of the mixing; 0 for none. With both,
            each batch draws one of them.
        mix_probability: that a batch is mixed at all.
        smoothing: share of the label that is spread over all classes.
    """

    crop: Crop = "none"
    min_scale: PositiveShare = 0.08
    flip: bool = False
    rand_augment: Natural = 0
    magnitude: Annotated[float, Bound(0, 10)] = 9.0
    erase: Share = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    mix_probability: Share = 1.0
    smoothing: Share = 0.0


# On the host, image by image -------------------------------------------------------------------


def evaluation_image(
    image: np.ndarray, where: str, channels: int, size: int, options: AugmentOptions
) -> np.ndarray:
    """An image as validation sees it: resized, its centre cropped.

    Networks trained on "resized" crops see the middle 87.5 % of the short side.

    Args:
        image: as a pool gives it.
        where: its source.
        channels, size: of the network.
        options: of the training.
    """
    if options.crop != "resized":
        return to_bytes(image, where, channels, size)
    edge = (round(size / _EVAL_CROP) - size) // 2
    whole = to_bytes(image, where, channels, size + 2 * edge)
    return whole[edge : edge + size, edge : edge + size]


def training_image(
    image: np.ndarray,
    where: str,
    channels: int,
    size: int,
    options: AugmentOptions,
    rng: np.random.Generator,
) -> np.ndarray:
    """An image as training sees it; arguments as of `evaluation_image`."""
    if options.crop == "resized":
        image = resized_crop(to_bytes(image, where, channels, None), size, options.min_scale, rng)
    else:
        image = to_bytes(image, where, channels, size)
    if options.crop == "pad":
        image = padded_crop(image, rng)
    if options.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    if options.rand_augment:
        from lswag_jax.training.rand_augment import rand_augment

        image = rand_augment(image, rng, options.rand_augment, options.magnitude)
    return np.ascontiguousarray(image)


def padded_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop of the image's own size after padding by zeros, an eighth of it on each side.

    Example:
        >>> padded_crop(np.ones((32, 32, 3), np.uint8), np.random.default_rng(0)).shape
        (32, 32, 3)
    """
    size = image.shape[0]
    pad = size // 8
    top, left = rng.integers(2 * pad + 1, size=2)
    padded = np.zeros((size + 2 * pad, size + 2 * pad, image.shape[2]), image.dtype)
    padded[pad : pad + size, pad : pad + size] = image
    return padded[top : top + size, left : left + size]


def resized_crop(
    image: np.ndarray, size: int, min_scale: float, rng: np.random.Generator
) -> np.ndarray:
    """A random part of the image, resized to a square (bicubic, antialiased).

    Its area is uniform from `min_scale` to 1 of the image's, the logarithm of its height over its
    width uniform from that of 3/4 to that of 4/3, as in Inception's and torchvision's crop. After
    ten draws that do not fit it is the largest square in the centre.

    Args:
        image: [H, W, C] uint8.
        size: side S of the result.
        min_scale: smallest share of the area.
        rng: source of randomness.

    Returns:
        [S, S, C] uint8.
    """
    with extra("data"):
        from PIL import Image

    height, width = image.shape[:2]
    for _ in range(10):
        area = rng.uniform(min_scale, 1) * height * width
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        rows, columns = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            break
    else:
        rows = columns = min(height, width)
        top, left = (height - rows) // 2, (width - columns) // 2
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    box = (left, top, left + columns, top + rows)
    resized = picture.resize((size, size), Image.Resampling.BICUBIC, box)
    return np.asarray(resized).reshape(size, size, -1)


# On the device, batch by batch -----------------------------------------------------------------


def mix(
    images: Array, labels: Array, num_classes: int, options: AugmentOptions, key: Array
) -> tuple[Array, Array]:
    """Mixes a batch with itself reversed, by mixup or CutMix, and smooths the labels.

    mixup (Zhang et al., 2018): x = l x_i + (1 - l) x_j, l ~ Beta(a, a). CutMix (Yun et al., 2019):
    a rectangle of 1 - l of the area is x_j's, l then being what is left of x_i. Labels are mixed
    alike.

    Args:
        images: [B, H, W, C].
        labels: [B] integers.
        num_classes: C.
        options: see `AugmentOptions`.
        key: of the draw.

    Returns:
        Images, and targets [B, C] float32 that sum to 1.
    """
    smooth = options.smoothing
    targets = jax.nn.one_hot(labels, num_classes) * (1 - smooth) + smooth / num_classes
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(options, kind)]
    if not kinds:
        return images, targets
    which, whether, beta, place = jax.random.split(key, 4)
    mixed = [_MIXERS[kind](images, getattr(options, kind), beta, place) for kind in kinds]
    pick = jax.random.bernoulli(which) if len(kinds) == 2 else 0
    images_mixed, share = jax.lax.cond(pick, lambda: mixed[-1], lambda: mixed[0])
    is_mixed = jax.random.bernoulli(whether, options.mix_probability)
    share = jnp.where(is_mixed, share, 1.0)
    images = jnp.where(is_mixed, images_mixed, images)
    return images, share * targets + (1 - share) * targets[::-1]


def _mixup(images: Array, alpha: float, beta: Array, place: Array) -> tuple[Array, Array]:
    """Mixes images in pairs; returns them with the share of the first of each pair."""
    del place
    share = jax.random.beta(beta, alpha, alpha)
    return share * images + (1 - share) * images[::-1], share


def _cutmix(images: Array, alpha: float, beta: Array, place: Array) -> tuple[Array, Array]:
    side = jnp.sqrt(1 - jax.random.beta(beta, alpha, alpha))
    centre = jax.random.uniform(place, (2,))
    mask = _rectangle(images.shape[1:3], centre, jnp.stack([side, side]))
    share = 1 - mask.mean(dtype=jnp.float32)
    return jnp.where(mask[None, :, :, None], images[::-1], images), share


_MIXERS = {"mixup": _mixup, "cutmix": _cutmix}


def erase(images: Array, probability: float, key: Array) -> Array:
    """Normalised images [B, H, W, C] with a random rectangle of N(0, 1) noise in some of them.

    Zhong et al., 2020, as AutoFormer and DeiT use it: 2 % to a third of the area, height over
    width from 0.3 to 3.3. A rectangle that does not fit is cut at the border.

    Args:
        images: the batch.
        probability: of an image to be changed.
        key: of the draw.
    """
    chosen, area, ratio, place, noise = jax.random.split(key, 5)
    batch = images.shape[0]
    area = jax.random.uniform(area, (batch,), minval=_ERASED[0], maxval=_ERASED[1])
    low, high = np.log(_ERASED_RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio, (batch,), minval=low, maxval=high))
    sides = jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)], axis=1)
    centres = jax.random.uniform(place, (batch, 2))
    shape = images.shape[1:3]
    mask = jax.vmap(lambda centre, side: _rectangle(shape, centre, side))(centres, sides)
    mask &= jax.random.bernoulli(chosen, probability, (batch, 1, 1))
    return jnp.where(mask[..., None], jax.random.normal(noise, images.shape), images)


def _rectangle(shape: tuple[int, ...], centre: Array, sides: Array) -> Array:
    """Pixels [H, W] of a rectangle, all in units of the image's sides, cut at the border."""
    rows, columns = (
        jnp.abs((jnp.arange(n) + 0.5) / n - centre[i]) < sides[i] / 2 for i, n in enumerate(shape)
    )
    return rows[:, None] & columns[None, :]
