"""MeCo's smallest eigenvalues, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax.proxies import MeCo


@pytest.mark.parametrize(("side", "alive"), [(3, 5), (3, 8), (3, 9), (3, 12), (5, 7), (5, 12)])
def test_meco_of_maps_smaller_than_channels(x64, rng, side, alive):
    """Channels that are not there leave a block; of more channels than positions - 1 it is 0."""
    image = rng.normal(size=(1, side, side, 2))
    kernel = np.zeros((2, 12))
    kernel[:, :alive] = rng.normal(size=(2, alive))
    kernel = {"kernel": jnp.asarray(np.concatenate([kernel, kernel[::-1]]))}

    def apply(params, x):
        squares = jnp.concatenate([x, x**2], axis=-1)  # 4 inputs: outputs of 4 ranks at most
        maps = jax.nn.relu(squares @ params["kernel"])
        return maps.mean((1, 2))[:, :3]

    draws = {"meco/image": image}
    images, labels = rng.normal(size=(4, side, side, 2)), np.arange(4) % 3
    table = lswag_jax.score_model(apply, kernel, images, labels, [MeCo()], draws=draws)
    whole = np.concatenate([image, image**2], axis=-1) @ np.asarray(kernel["kernel"])
    expected = []
    for maps in (whole, np.maximum(whole, 0)):
        o_NxC = maps.reshape(-1, 12)[:, np.ptp(maps.reshape(-1, 12), axis=0) > 0]
        smallest = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(o_NxC.T)))[0]
        expected.append(smallest if smallest > 1e-12 else 0.0)
    np.testing.assert_allclose(table.parts["meco"]["layers"][0], expected, rtol=1e-7, atol=1e-14)
