"""Arrays beyond the range of their type: a mantissa of the usual type times a power of two.

An exponent belongs to a whole array (or to each slice along its first axis), so that products and
convolutions of mantissas are the ordinary ones. A mantissa is made small again only where it may
have left a comfortable size, told while tracing by a bound of its bits. Elements far below an
array's largest, by 2^-40 and more, may be lost; nothing else is rounded, since every scale is a
power of two.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
NOTHING = -(2**24)  # exponent of an array of zeros: below that of any other
_LIMIT = 80  # bits that a mantissa may have gained or lost before it is made small again
UNKNOWN = 12  # bits of a plain array: a factor or a term of unknown size


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("mantissa", "exponent"),
    meta_fields=("fill", "bits"),
)
@dataclasses.dataclass(frozen=True)
class Wide:
    """The value mantissa * 2^exponent.

    Attributes:
        mantissa: of the working type.
        exponent: int32, a scalar or of shape [T, 1, ...] for an array [T, ...]; None for a plain
            array, which is its own mantissa and of unknown size.
        fill: the value of a plain array whose elements are all equal, where it is known.
        bits: bound of |log2| of the largest mantissa, as far as can be told while tracing.
    """

    mantissa: Array
    exponent: Array | None = None
    fill: float | None = None
    bits: float = 0.0

    @property
    def power(self) -> Array:
        """`exponent` of an array that is not plain."""
        assert self.exponent is not None, "a plain array has no exponent"
        return self.exponent

    def __getitem__(self, index: int) -> "Wide":
        """A slice along the first axis."""
        exponent = self.exponent
        if exponent is not None and exponent.ndim:
            exponent = exponent[index].reshape(())
        return Wide(self.mantissa[index], exponent, self.fill, self.bits)

    @property
    def is_plain(self) -> bool:
        """Whether it has no exponent."""
        return self.exponent is None

    @property
    def is_scale_free(self) -> bool:
        """Whether any scale leaves it as it is: zeros or infinities."""
        return self.fill is not None and (self.fill == 0 or math.isinf(self.fill))


def grown(mantissa: Array, exponent: Array | None, bits: float) -> Wide:
    """What an operation put out, made small where its mantissa may have grown too far."""
    found = Wide(mantissa, exponent, None, bits)
    return normalised(found) if exponent is not None and bits > _LIMIT else found


def normalised(x: Wide) -> Wide:
    """Rescales so that the largest mantissa is in [1/2, 1)."""
    if x.is_scale_free:
        return Wide(x.mantissa, jnp.full((), NOTHING, jnp.int32))
    if x.fill is not None:  # known while tracing
        mantissa, exponent = math.frexp(x.fill)
        return Wide(jnp.full_like(x.mantissa, mantissa), jnp.full((), exponent, jnp.int32))
    mantissa, shift, is_zero = _normalise(flat(x).mantissa)
    exponent = shift if x.is_plain else flat(x).exponent + shift
    return Wide(mantissa, once(jnp.where(is_zero, NOTHING, exponent)))


@jax.jit
def _normalise(m: Array) -> tuple[Array, Array, Array]:
    """The mantissa over a power of two, the power, and whether all of it is zero."""
    largest = jnp.abs(m).max(initial=0)
    integer, digits, bias = _layout(m.dtype)
    field = lax.bitcast_convert_type(largest, integer) >> digits
    # An infinity or NaN has the largest field and stays what it is.
    shift = jnp.clip(field.astype(jnp.int32) - (bias - 1), 2 - bias, bias - 1)
    return m * power_of_two(-shift, m.dtype), shift, largest == 0


def _layout(dtype) -> tuple[type, int, int]:
    """Integer of a float's size, digits of its mantissa, and bias of its exponent."""
    return (jnp.int64, 52, 1023) if dtype == jnp.float64 else (jnp.int32, 23, 127)


def power_of_two(exponent: Array, dtype) -> Array:
    """2^exponent, exactly, of integers that the type has: its bits are written down."""
    integer, digits, bias = _layout(dtype)
    return lax.bitcast_convert_type((exponent.astype(integer) + bias) << digits, dtype)


def shifted(m: Array, by: Array) -> Array:
    """m * 2^by for `by` up to 0; what is far below stays above zero if it was."""
    lowest = np.int32(-1000 if m.dtype == jnp.float64 else -120)
    return m * power_of_two(lax.max(by, lowest), m.dtype)


def once(exponent: Array) -> Array:
    """Keeps XLA from computing a value more than once.

    What is cheap, as sums and maxima are, it repeats in all that depends on it: in a deep network a
    program of quadratic size. A division it takes for expensive; this one is by 1.
    """
    return lax.div(exponent, 1 + (exponent & ~exponent))


def flat(x: Wide) -> Wide:
    """Rescales to one exponent for the whole array."""
    if x.is_plain or x.power.ndim == 0:
        return x
    top = x.power.max()
    return Wide(shifted(x.mantissa, x.power - top), top, None, x.bits)


def placed(x: Wide) -> Wide:
    """A plain array with an exponent: one of zeros must not hide what is small beside it."""
    if x.fill is not None:
        return normalised(x)
    there = (x.mantissa != 0).any()
    return Wide(x.mantissa, lax.select(there, jnp.int32(0), jnp.int32(NOTHING)), None, UNKNOWN)


def aligned(xs: Sequence[Wide]) -> tuple[list[Array], Array | None, float]:
    """Mantissas of several arrays at one exponent, the exponent, and the bound of their bits."""
    scaled = [x for x in xs if not x.is_scale_free]
    bits = max((x.bits for x in scaled), default=0.0)
    if all(x.is_plain for x in scaled):
        return [x.mantissa for x in xs], None, bits
    if len({id(x.exponent) for x in scaled}) == 1:  # parts of one array
        return [x.mantissa for x in xs], scaled[0].exponent, bits
    given = [placed(x) if x.is_plain and not x.is_scale_free else x for x in xs]
    exponents = [x.power for x in given if not x.is_scale_free]
    top = once(functools.reduce(jnp.maximum, exponents))
    mantissas = [
        x.mantissa if x.is_scale_free else shifted(x.mantissa, x.power - top) for x in given
    ]
    return mantissas, top, bits


def ordinary(x: Wide) -> Array:
    """The value itself, infinite or zero where its type has no such number."""
    if x.is_plain:
        return x.mantissa
    dtype, most = x.mantissa.dtype, 1000 if x.mantissa.dtype == jnp.float64 else 126
    half = jnp.clip(x.power, -most, most)
    rest = jnp.clip(x.power - half, -most, most)
    return x.mantissa * power_of_two(half, dtype) * power_of_two(rest, dtype)


def log(x: Wide) -> Array:
    """Logarithm of a positive value, -inf of zero."""
    logs = jnp.log(x.mantissa)
    if x.is_plain:
        return logs
    return logs + x.power.astype(logs.dtype) * np.log(2).astype(logs.dtype)


def total(x: Wide) -> Wide:
    """Sum of the absolute values, with an exponent."""
    x = flat(x)
    return normalised(Wide(jnp.abs(x.mantissa).sum(), x.exponent))


def stacked(xs: Sequence[Wide]) -> Wide:
    """Scalars as one array [L] with exponents [L]."""
    xs = [normalised(x) if x.is_plain else x for x in xs]
    mantissas, exponents = zip(*((x.mantissa, x.exponent) for x in xs), strict=True)
    return Wide(jnp.stack(mantissas), jnp.stack(exponents))
