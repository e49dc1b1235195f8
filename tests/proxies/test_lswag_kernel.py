"""The kernel variant of L-SWAG."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax.capture import adapters, tape
from lswag_jax.proxies import LSwagKernel
from lswag_jax.proxies.lswag_kernel import gradient_gram
from tests.helpers.spaces import MLP, PLAIN, batch


def test_kernel_is_the_gradient_gram(x64):
    """Dense layers without token sharing: K_A o K_G = the Gram matrix of their gradients."""
    images, labels = batch(PLAIN, 8)
    module = MLP()
    variables = module.init(jax.random.key(0), images)
    variables = jax.tree.map(lambda v: v.astype(float), variables)
    network = adapters.linen_network(module, variables)
    layers = tape.record(network, jnp.asarray(images, float), jnp.asarray(labels)).layers
    for layer in layers:
        a, g = layer.calls[0].inputs, layer.calls[0].cotangent
        m = (a @ a.T) * (g @ g.T)
        np.testing.assert_allclose(m, gradient_gram(layer), rtol=1e-10)
        total = np.asarray(a.T @ g)
        assert m.sum() == pytest.approx((total**2).sum())
    options = {"norm": "none", "statistic": "sum"}
    flat, exact = (
        lswag_jax.score_model(
            module, variables, images.astype(float), labels,
            LSwagKernel(token_mode=mode, **options),
        )["lswag_kernel"][0]
        for mode in ("flatten", "exact")
    )  # fmt: skip
    inner = sum((np.asarray(x.calls[0].inputs.T @ x.calls[0].cotangent) ** 2).sum()
                for x in layers[1:-1])  # fmt: skip
    assert flat == pytest.approx(exact) == pytest.approx(inner)


def test_kernel_options(x64):
    """Every option on a ViT: distinct values, and groups and depth weights as defined."""
    images, labels = batch(PLAIN)
    g = PLAIN.parse("12/2,2/2,2")  # like blocks, which are one loop
    module = PLAIN.build(g)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    chosen = [
        LSwagKernel(label="/".join(o), statistic=o[0], norm=o[1], token_mode=o[2])
        for o in itertools.product(
            ("logmean", "logdet", "offdiag_ratio", "eff_rank"),
            ("dim", "trace", "cosine"),
            ("flatten", "mean"),
        )
    ]
    chosen += [LSwagKernel(label=f"w_{w}", depth_weights=w) for w in ("increasing", "decreasing")]
    chosen += [LSwagKernel(label="w_one", weight_norm="one"), LSwagKernel(label="c", center=True)]
    chosen += [LSwagKernel(label="a", attention_share=1.0)]
    table = lswag_jax.score_model(module, variables, images.astype(float), labels, chosen)
    assert (table.status == "ok").all()
    values = {key: float(score[0]) for key, score in table.scores.items()}
    assert len({round(value, 9) for value in values.values()}) > len(values) * 0.8
    layers = table.parts["logmean/dim/flatten"]["layers"][0]  # qkv, proj, fc1, fc2 twice
    attention, mlp = layers[[0, 1, 4, 5]], layers[[2, 3, 6, 7]]
    both = lambda w: 0.5 * (w @ attention + w @ mlp)  # noqa: E731
    assert values["logmean/dim/flatten"] == pytest.approx(both(np.ones(4)))
    assert values["w_increasing"] == pytest.approx(both(np.arange(1, 5) * 0.4))
    assert values["w_decreasing"] == pytest.approx(both(np.arange(4, 0, -1) * 0.4))
    assert values["w_one"] == pytest.approx(both(np.full(4, 0.25)))
    assert values["a"] == pytest.approx(attention.sum())
