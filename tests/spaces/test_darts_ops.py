"""Depthwise convolution and pooling with a traced dilation, against JAX's own, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.spaces import convolution
from lswag_jax.spaces.darts import ops as darts_ops

POOLS = {"average": darts_ops.average_pool, "max": darts_ops.max_pool}
PLAIN = {"average": convolution.average_pool, "max": convolution.max_pool}


def check(ours, theirs, *args):
    """Values and gradients of both, where the dilation of ours is traced."""
    y, pull = jax.vjp(jax.jit(ours), *args)
    expected, expected_pull = jax.vjp(theirs, *args)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    cotangent = jnp.asarray(np.random.default_rng(9).normal(size=y.shape))
    for found, wanted in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "strides", "dilation"), list(itertools.product((3, 5), (1, 2), (1, 2, 4)))
)
def test_depthwise(x64, rng, size, strides, dilation):
    x = jnp.asarray(rng.normal(size=(2, 8, 6, 3)))
    kernel = jnp.asarray(rng.normal(size=(size, size, 1, 3)))
    pad = ((dilation * (size // 2),) * 2,) * 2
    traced = jnp.asarray(dilation)
    check(
        lambda x, k: darts_ops.depthwise(x, k, traced, strides, 4),
        lambda x, k: jax.lax.conv_general_dilated(
            x,
            k,
            (strides, strides),
            pad,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3,
        ),
        x,
        kernel,
    )


@pytest.mark.parametrize(("name", "strides"), list(itertools.product(POOLS, (1, 2))))
def test_pools(x64, rng, name, strides):
    x = jnp.asarray(rng.normal(size=(2, 3, 8, 6, 2)))
    check(
        lambda x: POOLS[name](x, jnp.asarray(1), strides, 2),
        lambda x: PLAIN[name](x, strides=strides),
        x,
    )


@pytest.mark.parametrize("name", POOLS)
def test_pools_of_spread_maps(x64, rng, name):
    """Stride 2 and dilation 2 on a spread map are stride 1 on the map itself."""
    x = jnp.asarray(rng.normal(size=(2, 4, 3, 2)))
    check(
        lambda x: POOLS[name](darts_ops.spread(x, 2), jnp.asarray(2), 2, 2),
        lambda x: PLAIN[name](x),
        x,
    )


def test_max_pool_of_equals(x64):
    """The first of equal values has the gradient, as in PyTorch."""
    x = jnp.zeros((1, 4, 4, 1))
    gradient = jax.grad(lambda x: darts_ops.max_pool(x, 1, 1, 1)[0, 2, 2, 0])(x)
    assert gradient[0, 1, 1, 0] == 1
    assert gradient.sum() == 1
