"""Single images as arrays: files, Pillow's images and arrays, whatever their mode."""

import os
from typing import Any

import numpy as np

from lswag_jax.extras import extra
from lswag_jax.files import one_line

_JPEG = (".jfif", ".jpe", ".jpeg", ".jpg")
SUFFIXES = (*_JPEG, ".bmp", ".gif", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_GREY16 = ("PNG", "PPM")  # formats whose mode "I" Pillow scales to 16 bits; PNG before Pillow 10.3
_ORIENTATION = 0x0112  # the EXIF tag that says how a picture is to be turned


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
        from PIL import Image

    try:
        with Image.open(file) as image:
            return pixels_of(image, orient=orient)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(f"the image {where}", error) from error


def _unreadable(what: str, error: Exception) -> ValueError:
    """The one sentence about an image that Pillow, or `pixels_of`, cannot read."""
    why = one_line(error).rstrip(". ")
    return ValueError(f"cannot read {one_line(what)}: {why}.")


def pixels_of(image: Any, *, orient: bool = False) -> np.ndarray:
    """Pixels of Pillow's image, as `decode_image` gives them; ValueError for a mode without range.

    Example:
        >>> from PIL import Image
        >>> pixels_of(Image.new("LA", (3, 2))).shape
        (2, 3, 1)
    """
    grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _GREY16)
    if orient:
        image = _turned(image)
    if grey16:
        pixels = np.asarray(image).astype(np.uint16)
    elif image.mode in ("1", "L", "LA"):
        pixels = np.asarray(image.convert("L"))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r} have no range: give 8 or 16 bits each.")
    else:
        if "transparency" in image.info:
            image = image.convert("RGBA")
        pixels = np.asarray(image.convert("RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _turned(image: Any) -> Any:
    """The image as its EXIF tag says; other tags, however broken, do not matter."""
    with extra("data"):
        from PIL import Image

    turns = Image.Transpose
    methods = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    try:
        tag = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises what its parser trips over: struct.error, SyntaxError, ...
        return image
    method = methods.get(tag) if isinstance(tag, int) else None
    return image if method is None else image.transpose(method)


def as_pixels(value: Any, where: str) -> np.ndarray:
    """An image of a caller's as `decode_image` gives those of files.

    Args:
        value: path of a file; Pillow's image; or an array [H, W] or [H, W, C] with C 1 or 3, or 2
            or 4 whose last one is alpha and dropped.
        where: what the message of an error calls it.

    Raises:
        ValueError: it is none of these, or cannot be read.

    Example:
        >>> as_pixels(np.zeros((2, 3, 4), np.uint8), "it").shape
        (2, 3, 3)
    """
    if isinstance(value, str | os.PathLike):
        return decode_image(value, os.fspath(value), orient=True)
    if hasattr(value, "getexif"):  # Pillow's
        try:
            return pixels_of(value, orient=True)
        except (OSError, SyntaxError, ValueError) as error:
            raise _unreadable(where, error) from error
    try:
        pixels = np.asarray(value)
    except (TypeError, ValueError):
        pixels = np.empty(0, object)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    fits = pixels.ndim == 3 and pixels.size and pixels.shape[-1] in (1, 2, 3, 4)
    if not fits or pixels.dtype.kind not in "uf":
        is_array = pixels.ndim and pixels.size
        what = f"{pixels.dtype} {list(pixels.shape)}" if is_array else one_line(repr(value), 80)
        raise ValueError(
            f"{where} must be a path, Pillow's image, or an array [H, W] or [H, W, C] with C from "
            f"1 to 4 of uint8, uint16 or floating point, got {what}."
        )
    return pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels


def as_several(images: Any) -> list[Any]:
    """A list of what a caller gave as one image or several; arrays [B, H, W] are several.

    Example:
        >>> len(as_several(np.zeros((5, 8, 8, 1)))), len(as_several("a.png"))
        (5, 1)
    """
    if images is None or isinstance(images, str | os.PathLike) or hasattr(images, "getexif"):
        return [images]
    if hasattr(images, "dtype"):
        shape = np.shape(images)
        one = len(shape) < 3 or (len(shape) == 3 and shape[-1] in (1, 2, 3, 4))
        return [images] if one else list(images)
    try:
        return list(images)
    except TypeError:
        return [images]
