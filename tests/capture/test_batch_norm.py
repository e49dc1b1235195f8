"""Per-sample gradients in every mode of BatchNorm, against Jacobians of JAX's own."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lswag_jax
from lswag_jax.capture import adapters
from lswag_jax.capture.batch_norm import BATCH_NORM_MODES
from lswag_jax.capture.tape import cross_entropy
from lswag_jax.proxies import LSwag, LSwagKernel, LSwagVariant, Ntk
from lswag_jax.spaces.layers import BatchNorm


class Net(nn.Module):
    """A convolution, BatchNorm, ReLU and a linear layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(BatchNorm(name="norm")(nn.Conv(4, (3, 3), name="conv")(x)))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Problem(NamedTuple):
    """A batch and a network's weights and statistics."""

    images: np.ndarray
    labels: np.ndarray
    variables: dict


@pytest.fixture
def problem(x64, rng) -> Problem:
    images, labels = rng.normal(size=(6, 5, 5, 2)), np.arange(6) % 3
    variables = Net().init(jax.random.key(0), images)
    variables = jax.tree.map(lambda v: v.astype(np.float64), variables)
    stats = {"norm": {"mean": rng.normal(size=4) * 0.1, "var": 0.5 + rng.random(4)}}
    return Problem(images, labels, {"params": variables["params"], "batch_stats": stats})


def losses(*arguments):
    """Losses [B] of mode, params, variables, images and labels."""
    return cross_entropy(logits(*arguments[:-1]), arguments[-1])


def logits(mode, params, variables, images):
    """Logits [B, 3], straight from the definition of the mode."""
    conv, norm, head = (params[name] for name in ("conv", "norm", "head"))
    y = nn.Conv(4, (3, 3)).apply({"params": conv}, images)
    stats = variables["batch_stats"]["norm"]
    if mode == "eval":
        mean, var = stats["mean"], stats["var"]
    else:
        axes = (1, 2) if mode == "batch1_train" else (0, 1, 2)
        mean, var = y.mean(axes, keepdims=True), y.var(axes, keepdims=True)
        if mode == "frozen":
            mean, var = jax.lax.stop_gradient((mean, var))
    shape = (1, 1, 1, -1)
    mean, var = (s.reshape(shape) if s.ndim == 1 else s for s in (mean, var))
    y = (y - mean) / jnp.sqrt(var + 1e-5) * norm["scale"].reshape(shape)
    pooled = jnp.maximum(y + norm["bias"].reshape(shape), 0).mean((1, 2))
    return pooled @ head["kernel"] + head["bias"][None]


@pytest.mark.parametrize("mode", BATCH_NORM_MODES)
def test_lswag_of_every_mode(problem, mode):
    """lambda_l = log sum_w 1 / std_i |dL_i / dw| of the kernels."""
    images, labels, variables = problem
    table = lswag_jax.score_model(
        Net(), variables, images, labels, (LSwag(), LSwag(label="signed", grad_abs=False)),
        batch_norm=mode,
    )  # fmt: skip
    jacobian = jax.jacrev(losses, argnums=1)(mode, variables["params"], variables, images, labels)
    for key, values in (("lswag", np.abs), ("signed", np.asarray)):
        expected = [
            np.log((1 / values(jacobian[name]["kernel"]).std(0)).sum()) for name in ("conv", "head")
        ]
        np.testing.assert_allclose(table.parts[key]["lambda_l"][0], expected, rtol=1e-8)


@pytest.mark.parametrize("mode", ["frozen", "batch1_train"])
def test_norm_parameters(problem, mode):
    """BatchNorm's own scale and bias as layers of the sum."""
    images, labels, variables = problem
    proxy = LSwagVariant(include_norm=True)
    table = lswag_jax.score_model(Net(), variables, images, labels, proxy, batch_norm=mode)
    jacobian = jax.jacrev(losses, argnums=1)(mode, variables["params"], variables, images, labels)
    inverse = sum((1 / np.abs(g).std(0)).sum() for g in jacobian["norm"].values())
    np.testing.assert_allclose(table.parts["lswag"]["lambda_l"][0][-1], np.log(inverse), rtol=1e-8)


@pytest.mark.parametrize("mode", BATCH_NORM_MODES)
def test_biases(problem, mode):
    """The head's bias among its weights; before BatchNorm's statistics a bias has no gradient."""
    images, labels, variables = problem
    proxy = LSwagVariant(include_bias=True, window=(5, 9))
    table = lswag_jax.score_model(Net(), variables, images, labels, proxy, batch_norm=mode)
    jacobian = jax.jacrev(losses, argnums=1)(mode, variables["params"], variables, images, labels)
    inverse = sum((1 / np.abs(g).std(0)).sum() for g in jacobian["head"].values())
    np.testing.assert_allclose(table.parts["lswag"]["lambda"], np.log(inverse), rtol=1e-8)


def test_modes_that_have_no_norm_gradients(problem):
    images, labels, variables = problem
    with pytest.raises(ValueError, match="normalisation layers of a network with BatchNorm"):
        lswag_jax.score_model(
            Net(), variables, images, labels, LSwagVariant(include_norm=True), batch_norm="through"
        )


def test_active_channels(rng):
    """Surplus channels are zero, and a layer that is not there costs nothing and gives zeros."""
    x = jnp.asarray(rng.normal(size=(3, 4, 4, 6)), jnp.float32)

    class Elastic(nn.Module):
        @nn.compact
        def __call__(self, x, active):
            return BatchNorm(name="norm")(x, active=active)

    variables = Elastic().init(jax.random.key(0), x, 6)
    for active in (0, 4, 6):
        network = adapters.linen_network(Elastic(), variables, jnp.array(active))
        y = np.asarray(network(x))
        assert not y[..., active:].any()
        scale = x[..., :active].std((0, 1, 2), keepdims=True)
        expected = (x[..., :active] - x[..., :active].mean((0, 1, 2), keepdims=True)) / scale
        np.testing.assert_allclose(y[..., :active], expected, atol=1e-4)


def test_through_with_a_window(problem):
    """Layers below the window have no cotangent, and no moments."""
    images, labels, variables = problem
    whole, deep = (
        lswag_jax.score_model(
            Net(), variables, images, labels, LSwag(window=window), batch_norm="through"
        ).parts["lswag"]
        for window in (None, (5, 9))
    )
    np.testing.assert_allclose(deep["lambda_l"][0], whole["lambda_l"][0][1:], rtol=1e-10)


@pytest.mark.parametrize("mode", BATCH_NORM_MODES)
def test_tangent_kernel_with_frozen_statistics(problem, mode):
    """Its own mode, whatever that of the other proxies; running statistics stay what they are."""
    images, labels, variables = problem
    proxy = Ntk(batch_norm="frozen")
    table = lswag_jax.score_model(Net(), variables, images, labels, proxy, batch_norm=mode)
    own = "eval" if mode == "eval" else "frozen"
    jacobian = jax.jacrev(lambda p: logits(own, p, variables, images).sum(1))(variables["params"])
    weights = (("conv", "kernel"), ("head", "kernel"), ("norm", "scale"))
    g_BxP = np.concatenate([jacobian[a][b].reshape(len(images), -1) for a, b in weights], 1)
    v = np.linalg.eigvalsh(g_BxP @ g_BxP.T)
    np.testing.assert_allclose(table.raw["ntk"], v[-1] / v[0], rtol=1e-6)


@pytest.mark.parametrize("mode", BATCH_NORM_MODES)
def test_gram_of_samples_gradients(problem, mode):
    """The kernel variant's M_ij = <dW loss_i, dW loss_j>, also where samples see each other."""
    images, labels, variables = problem
    chosen = [
        LSwagKernel(label=f, statistic=f, token_mode="exact") for f in ("sum", "offdiag_ratio")
    ]
    table = lswag_jax.score_model(Net(), variables, images, labels, chosen, batch_norm=mode)
    jacobian = jax.jacrev(losses, argnums=1)(mode, variables["params"], variables, images, labels)
    for i, name in enumerate(("conv", "head")):
        g_BxP = jacobian[name]["kernel"].reshape(len(images), -1)
        m = np.asarray(g_BxP @ g_BxP.T)
        ratio = (m.sum() - np.trace(m)) / np.trace(m)
        for key, expected in (("sum", m.sum()), ("offdiag_ratio", ratio)):
            np.testing.assert_allclose(table.parts[key]["layers"][0, i], expected, rtol=1e-8)


class LinenMasked(nn.Module):
    """BatchNorm over some of the positions."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(4, (3, 3))(x)
        mask = jnp.arange(x.shape[1])[None, :, None, None] < 3
        return nn.Dense(3)(nn.relu(nn.BatchNorm(not train)(x, mask=mask)).mean((1, 2)))


class NnxMasked(nnx.Module):
    """The same."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv, self.norm = nnx.Conv(2, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.conv(x)
        mask = jnp.arange(x.shape[1])[None, :, None, None] < 3
        return self.head(nnx.relu(self.norm(x, mask=mask)).mean((1, 2)))


@pytest.mark.parametrize("make", [LinenMasked, NnxMasked])
def test_a_mask_is_refused_where_it_matters(make):
    images, labels = np.ones((6, 5, 5, 2), np.float32), np.arange(6) % 3
    images *= np.random.default_rng(0).normal(size=(6, 1, 1, 1))
    model, variables = make(), None
    if make is LinenMasked:
        variables = model.init(jax.random.key(0), images)
    for mode in BATCH_NORM_MODES:
        if mode == "eval":
            table = lswag_jax.score_model(
                model, variables, images, labels, ("lswag", "synflow"), batch_norm=mode
            )
            assert table.status[0] == "ok"
            continue
        with pytest.raises(ValueError, match=r"BatchNorm layer .* has a mask"):
            lswag_jax.score_model(model, variables, images, labels, "lswag", batch_norm=mode)
