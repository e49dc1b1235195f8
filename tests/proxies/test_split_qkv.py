"""L-SWAG with queries, keys and values as layers of their own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax.probe.moments import Moments
from lswag_jax.proxies import LSwag, LSwagVariant
from lswag_jax.proxies.lswag_variant import thirds


class Attention(nn.Module):
    """One head; queries, keys and values by one layer or by three."""

    fused: bool
    width: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6, name="embed")(x)
        if self.fused:
            q, k, v = jnp.split(nn.Dense(3 * self.width, name="qkv")(x), 3, -1)
        else:
            q, k, v = (nn.Dense(self.width, name=name)(x) for name in ("q", "k", "v"))
        x = nn.relu(jax.nn.softmax(q @ k.swapaxes(1, 2)) @ v)
        return nn.Dense(3, name="head")(x.mean(1))


def test_split_qkv_of_a_flat_kernel(x64, rng):
    """Thirds of a Dense layer's outputs count as the three layers that they are."""
    images, labels = rng.normal(size=(6, 5, 3)), np.arange(6) % 3
    params = Attention(True).init(jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda v: v.astype(float), params)
    three = {key: value for key, value in params.items() if key != "qkv"}
    for i, name in enumerate(("q", "k", "v")):
        three[name] = jax.tree.map(lambda v, i=i: jnp.split(v, 3, -1)[i], params["qkv"])
    found, expected = (
        lswag_jax.score_model(Attention(fused), {"params": weights}, images, labels, proxy)
        for fused, weights, proxy in (
            (True, params, LSwagVariant(layers="split_qkv")),
            (False, three, LSwag()),
        )
    )
    for part in ("lambda", "n_layers"):
        np.testing.assert_allclose(found.parts["lswag"][part], expected.parts["lswag"][part])
    values = (np.sort(table.parts["lswag"]["lambda_l"][0]) for table in (found, expected))
    np.testing.assert_allclose(*values, rtol=1e-8)


@pytest.mark.parametrize("shape", [(6, 8), (6, 3, 12), (6, 2, 3, 4)])
def test_split_qkv_of_other_kernels(shape):
    kernel = jnp.zeros(shape)
    with pytest.raises(ValueError, match=r"layers='split_qkv' of lswag needs kernels of qkv") as e:
        thirds(Moments(kernel, kernel, kernel))
    assert str(shape) in str(e.value)
