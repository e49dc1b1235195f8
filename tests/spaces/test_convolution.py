"""Convolutions and poolings against JAX's own primitives and hand-made cases, in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.spaces import convolution
from lswag_jax.spaces.layers import Conv, ElasticConv

CASES = [c for c in itertools.product((1, 3, 5), (1, 2), (1, 2), (7, 8)) if c[0] > 1 or c[2] == 1]


@pytest.mark.parametrize(("size", "strides", "dilation", "height"), CASES)
@pytest.mark.parametrize("batch", [1, 2])
def test_convolutions(x64, rng, size, strides, dilation, height, batch):
    """Values, both gradients and theirs, odd and even images, one and more of them."""
    x = jnp.asarray(rng.normal(size=(batch, height, height + 1, 3)))
    kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)))
    pad = dilation * (size // 2)

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (strides, strides),
            ((pad, pad), (pad, pad)),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def ours(x, kernel):
        return convolution.convolve(x, kernel, strides, dilation)

    y, pull = jax.vjp(ours, x, kernel)
    expected, expected_pull = jax.vjp(theirs, x, kernel)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    cotangent = jnp.asarray(rng.normal(size=y.shape))
    for found, wanted in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    along = tuple(jnp.asarray(rng.normal(size=array.shape)) for array in (x, kernel))
    twice = [
        jax.vjp(lambda *a, f=f: jax.vjp(f, *a[:2])[1](a[2]), x, kernel, cotangent)[1](along)
        for f in (ours, theirs)
    ]
    for found, wanted in zip(*twice, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_more_leading_axes(x64, rng):
    """Tiles of an image are convolved as images are."""
    x = jnp.asarray(rng.normal(size=(2, 3, 6, 6, 2)))
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)))
    y = convolution.convolve(x, kernel)
    np.testing.assert_allclose(y[:, 1], convolution.convolve(x[:, 1], kernel), atol=1e-12)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("height", [5, 6])
def test_pools(x64, rng, strides, height):
    x = rng.normal(size=(2, height, height, 3))
    window = ((0, 0), (1, 1), (1, 1), (0, 0))
    padded = np.pad(x, window, constant_values=np.nan)
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    views = views[:, ::strides, ::strides]
    found = convolution.average_pool(jnp.asarray(x), strides=strides)
    np.testing.assert_allclose(found, np.nanmean(views, axis=(-2, -1)), atol=1e-12)
    found = convolution.max_pool(jnp.asarray(x), strides=strides)
    np.testing.assert_allclose(found, np.nanmax(views, axis=(-2, -1)))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("height", [5, 6])
def test_gradient_of_the_average_pool(x64, rng, strides, height):
    """Against sums over windows by JAX, and the second derivative of a cubic loss."""
    x = jnp.asarray(rng.normal(size=(2, height, height + 1, 3)))

    def theirs(x):
        window, moves = (1, 3, 3, 1), (1, strides, strides, 1)
        padding = ((0, 0), (1, 1), (1, 1), (0, 0))
        sums = [
            jax.lax.reduce_window(a, 0.0, jax.lax.add, window, moves, padding)
            for a in (x, jnp.ones_like(x))
        ]
        return sums[0] / sums[1]

    def cubic(pool):
        return jax.grad(lambda x: (jax.grad(lambda x: (pool(x) ** 3).sum())(x) ** 2).sum())(x)

    ours = functools.partial(convolution.average_pool, strides=strides)
    y, pull = jax.vjp(ours, x)
    cotangent = jnp.asarray(rng.normal(size=y.shape))
    (expected,) = jax.vjp(theirs, x)[1](cotangent)
    np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-12)
    np.testing.assert_allclose(cubic(ours), cubic(theirs), atol=1e-10)


def test_max_pool_of_equals(x64):
    """The first of equal pixels has the gradient, as in PyTorch."""
    x = jnp.zeros((1, 3, 3, 1))
    gradient = jax.grad(lambda x: convolution.max_pool(x)[0, 1, 1, 0])(x)
    assert gradient[0, :, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_gradient_can_be_differentiated(x64, rng):
    """Second derivatives, which GraSP needs: of a cubic loss, against its closed form."""
    x = jnp.asarray(rng.normal(size=(1, 5, 5, 2)))
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 2)))

    def directional(k):
        return (jax.grad(lambda k: (convolution.convolve(x, k) ** 3).sum())(k) * kernel).sum()

    found = jax.grad(directional)(kernel)  # H k; k'(H k) = 6 sum y^3 for y linear in k
    assert (found * kernel).sum() == pytest.approx(6 * (convolution.convolve(x, kernel) ** 3).sum())


def test_elastic_sizes(rng):
    """Choice 0 gives zeros, the others what the centre of the kernel gives."""
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 3)), jnp.float32)
    layer = ElasticConv(4, sizes=(1, 3, 5), strides=2)
    variables = layer.init(jax.random.key(0), x, jnp.array(3))
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (5, 5, 3, 4)
    assert not layer.apply(variables, x, jnp.array(0)).any()
    for choice, size in enumerate((1, 3, 5), start=1):
        edge = (5 - size) // 2
        exact = {"params": {"kernel": kernel[edge : 5 - edge, edge : 5 - edge]}}
        np.testing.assert_allclose(
            layer.apply(variables, x, jnp.array(choice)),
            Conv(4, size, strides=2).apply(exact, x),
            atol=1e-6,
        )
