"""Streamed gradient moments against closed forms and two-pass NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture import adapters, tape
from lswag_jax.probe.moments import batch_gradients, moments_of, stream


def squared(logits, y):
    return 0.5 * (logits[:, 0] - y) ** 2


def linear_tape(x, y, kernel):
    module = nn.Dense(1, use_bias=False)
    network = adapters.linen_network(module, {"params": {"kernel": kernel}})
    return tape.record(network, x, y, loss=squared)


@pytest.mark.parametrize("n", [4, 6, 7, 32])
@pytest.mark.parametrize("absolute", [True, False])
def test_linear_model(x64, rng, n, absolute):
    """For a^T x with squared loss the gradient of sample i is (a^T x_i - y_i) x_i."""
    x, y, a = rng.normal(size=(n, 5)), rng.normal(size=n), rng.normal(size=(5, 1))
    layer = linear_tape(jnp.asarray(x), jnp.asarray(y), jnp.asarray(a)).layers[0]
    found = stream(layer, absolute=absolute)["kernel"].samples
    grads = (x @ a - y[:, None]) * x
    values = np.abs(grads) if absolute else grads
    np.testing.assert_allclose(found.mean_abs[:, 0], np.abs(grads).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.variance[:, 0], values.var(0), rtol=1e-12)


def test_mini_batches_scale_and_ddof(x64, rng):
    """The stream's mini-batches are those computed without it."""
    x, y, a = rng.normal(size=(6, 5)), rng.normal(size=6), rng.normal(size=(5, 1))
    layer = linear_tape(jnp.asarray(x), jnp.asarray(y), jnp.asarray(a)).layers[0]
    grads = ((x @ a - y[:, None]) * x).reshape(3, 2, 5).mean(1)  # mean loss of 2 samples
    for found in (
        stream(layer, batches=3)["kernel"].batches,
        batch_gradients(layer, ("kernel",), 3)["kernel"],
    ):
        np.testing.assert_allclose(found[..., 0], grads, rtol=1e-12)
    moments = moments_of(found, absolute=False).rescaled(3, scale=2.0, ddof=1)
    np.testing.assert_allclose(moments.variance[:, 0], 4 * grads.var(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(moments.mean_abs[:, 0], 2 * np.abs(grads).mean(0), rtol=1e-12)
    with pytest.raises(ValueError, match="6 samples cannot be cut into 4 equal"):
        stream(layer, batches=4)
    with pytest.raises(ValueError, match="ddof must be below the number of gradients 3, got 3"):
        moments.rescaled(3, ddof=3)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_equal_gradients_have_no_deviation(n):
    """Identical samples give a variance of exactly zero, so that they are dropped, not inverted."""
    x = jnp.tile(jnp.array([[0.1, 0.7, -1.3]]), (n, 1))
    layer = linear_tape(x, jnp.full(n, 0.3), jnp.full((3, 1), 0.7)).layers[0]
    assert stream(layer)["kernel"].samples.variance.max() == 0


def test_no_cancellation_in_float32(rng):
    """Means ten thousand times the deviation: E[x^2] - E[x]^2 would be all noise."""
    x = (1e2 + 1e-2 * rng.normal(size=(64, 40))).astype(np.float32)
    layer = linear_tape(jnp.asarray(x), jnp.zeros(64), jnp.zeros((40, 1))).layers[0]
    layer.calls[0].cotangent = jnp.ones((64, 1))
    found = jax.jit(lambda: stream(layer)["kernel"].samples.variance)()
    np.testing.assert_allclose(found[:, 0], x.astype(np.float64).var(0), rtol=1e-3)
