"""Arrays that a seed draws again, so that the small goldens need not hold them.

The goldens' images come from NumPy's `RandomState`, most of their weights from PyTorch's generator.
Both are the Mersenne Twister, seeded alike: NumPy has the very words that PyTorch made numbers of.
What differs in the last bits is kept as units in the last place, so that the arrays are exact.
"""

import functools

import numpy as np

_BLOCK = 16  # PyTorch's normal numbers are made sixteen at a time


@functools.lru_cache(maxsize=4)
def uniforms(seed: int, count: int) -> np.ndarray:
    """The generator's words as multiples of 2^-24 in [0, 1), as PyTorch reads them."""
    words = np.random.RandomState(seed).randint(0, 2**32, count, dtype=np.uint32)
    return (words & 0xFFFFFF) * 2.0**-24


def _gaussian(seed, offset, shape, scale):
    """NumPy's own normal numbers."""
    size = int(np.prod(shape))
    return scale * np.random.RandomState(seed).randn(offset + size)[offset:].reshape(shape)


def _images(seed, offset, shape, scale):
    """A random block pattern plus noise of each pixel."""
    n, channels, rows, columns = shape
    draw = np.random.RandomState(seed)
    blocks = draw.randn(n, channels, 8, 8).repeat(rows // 8, 2).repeat(columns // 8, 3)
    return scale * blocks + scale * draw.randn(*shape)


def _torch_uniform(seed, offset, shape, scale):
    """`uniform_(-scale, scale)`: one multiplication and addition, rounded once."""
    u = uniforms(seed, offset + int(np.prod(shape)))[offset:]
    return (u * float(np.float32(2 * scale)) - float(np.float32(scale))).reshape(shape)


def _torch_normal(seed, offset, shape, scale):
    """`normal_(0, scale)`, by Box and Muller in blocks of which one half gives the radii."""
    size = int(np.prod(shape))
    rest = size % _BLOCK
    u = uniforms(seed, offset + size + (_BLOCK if rest else 0))[offset:]
    values = _box_muller(u[: size - rest].reshape(-1, 2, _BLOCK // 2)).ravel()
    if rest:  # the last sixteen numbers are drawn anew
        last = _box_muller(u[size:].reshape(-1, 2, _BLOCK // 2)).ravel()
        values = np.concatenate([values, np.zeros(rest)])
        values[-_BLOCK:] = last
    return (float(np.float32(scale)) * values).reshape(shape)


def _box_muller(u):
    """In PyTorch's float32 steps, each of them rounded from float64 so that no platform differs."""
    radius = _round(np.sqrt(_round(-2 * _round(np.log1p(-u[:, 0])))))
    angle = _round(float(np.float32(2 * np.pi)) * u[:, 1])
    return np.stack([_round(radius * _round(f(angle))) for f in (np.cos, np.sin)], 1)


def _round(values):
    return values.astype(np.float32).astype(float)


KINDS = {
    "gaussian": _gaussian,
    "images": _images,
    "torch_uniform": _torch_uniform,
    "torch_normal": _torch_normal,
}


def draw(kind: str, seed: int, offset: int, shape, scale: float, ulps=0) -> np.ndarray:
    """A float32 array; `ulps` corrects its last bits."""
    values = np.asarray(KINDS[kind](seed, offset, shape, scale), np.float32)
    return (values.view(np.int32) + np.asarray(ulps, np.int32)).view(np.float32)
