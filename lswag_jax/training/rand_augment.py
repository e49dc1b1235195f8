"""RandAugment (Cubuk et al., 2020) on uint8 images, by Pillow.

Each of N operations drawn with replacement is applied at magnitude M of 10. Ranges are those of
timm's "increasing" set, which AutoFormer's recipe (`rand-m9-mstd0.5-inc1`) trains with: larger M
always means a stronger change. Each is applied with probability 1/2, its magnitude drawn from
N(M, 0.5^2) and its direction at random, as there. No library that we could find has it for NumPy
images without PyTorch or TensorFlow.
"""

from collections.abc import Callable

import numpy as np

from lswag_jax.extras import extra

with extra("data"):
    from PIL import Image, ImageEnhance, ImageOps

APPLIED = 0.5  # probability of each drawn operation
DEVIATION = 0.5  # of the magnitude
_FILL = 128  # of what an image uncovers


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    fill = (_FILL,) * len(image.getbands()) if len(image.getbands()) > 1 else _FILL
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _rotate(image: Image.Image, level: float) -> Image.Image:
    fill = (_FILL,) * len(image.getbands()) if len(image.getbands()) > 1 else _FILL
    return image.rotate(30 * level, Image.Resampling.BILINEAR, fillcolor=fill)


def _enhance(kind: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, level: kind(image).enhance(max(0.1, 1 + 0.9 * level))


# Level is the magnitude over 10, with a sign drawn at random: -1 to 1.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "auto_contrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": lambda image, level: ImageOps.posterize(image, max(1, 4 - int(4 * abs(level)))),
    "solarize": lambda image, level: ImageOps.solarize(image, 256 - int(256 * abs(level))),
    "solarize_add": lambda image, level: image.point(
        [min(255, x + int(110 * abs(level))) if x < 128 else x for x in range(256)]
        * len(image.getbands())
    ),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, level: _affine(image, (1, 0.3 * level, 0, 0, 1, 0)),
    "shear_y": lambda image, level: _affine(image, (1, 0, 0, 0.3 * level, 1, 0)),
    "translate_x": lambda image, level: _affine(image, (1, 0, 0.45 * level * image.width, 0, 1, 0)),
    "translate_y": lambda image, level: _affine(
        image, (1, 0, 0, 0, 1, 0.45 * level * image.height)
    ),
}


def rand_augment(
    image: np.ndarray, rng: np.random.Generator, num: int = 2, magnitude: float = 9
) -> np.ndarray:
    """An image after `num` random operations.

    Args:
        image: [H, W, C] uint8, C 1 or 3.
        rng: source of randomness.
        num: operations drawn.
        magnitude: their strength, 0 to 10.

    Returns:
        [H, W, C] uint8.

    Example:
        >>> image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
        >>> rand_augment(image, np.random.default_rng(0)).shape
        (8, 8, 3)
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    for name in rng.choice(list(OPERATIONS), num):
        level = np.clip(rng.normal(magnitude, DEVIATION), 0, 10) / 10
        sign = rng.choice((-1, 1))
        if rng.random() < APPLIED:
            picture = OPERATIONS[name](picture, float(sign * level))
    return np.asarray(picture).reshape(image.shape)
