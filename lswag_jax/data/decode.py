"""Decoding of image files."""

from typing import Any

import numpy as np

from lswag_jax.extras import extra


def decode_image(file: Any, where: str, *, orient: bool = False) -> np.ndarray:
    """Decodes an image by Pillow; transparency is dropped.

    Args:
        file: path or binary file.
        where: what the message of an error calls it.
        orient: turn the image as its EXIF tag says.

    Returns:
        [H, W, 1] uint8 or uint16 where the image is grey, else [H, W, 3] uint8.

    Raises:
        ValueError: the image cannot be read.
    """
    with extra("data"):
        from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if orient:
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                pixels = np.asarray(image).astype(np.uint16)
            elif image.mode in ("1", "L", "LA"):
                pixels = np.asarray(image.convert("L"))
            elif image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode!r} have no range.")
            else:
                if "transparency" in image.info:
                    image = image.convert("RGBA")
                pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image {where}: {error}.") from error
    return pixels.reshape(*pixels.shape[:2], -1)
