"""Positive networks whose signal leaves the range of their type, against logarithms by NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax.proxies import LogSynFlow, wide
from lswag_jax.proxies.dss import nuclear_norms
from lswag_jax.proxies.te_nas import Ntk

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 6)).astype(np.float32)


class Deep(nn.Module):
    """Layers with biases; every tenth has a residual connection."""

    depth: int
    scale: float
    dtype: str | None = None

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.normal(self.scale)
        for i in range(self.depth):
            y = nn.relu(nn.Dense(6, kernel_init=init, dtype=self.dtype)(x))
            x = y if i % 10 else y + self.scale * x
        return nn.Dense(3, use_bias=False, dtype=self.dtype)(x)


def synflow_by_logs(variables, depth: int, scale: float) -> float:
    """log sum |w g| of `Deep`, vectors kept as a float64 and a logarithm."""
    kernels = [np.abs(np.asarray(variables["params"][f"Dense_{i}"]["kernel"], float))
               for i in range(depth + 1)]  # fmt: skip
    x, xs, log_x = np.ones(6), [], 0.0
    for i, k in enumerate(kernels[:-1]):
        xs.append((x, log_x))
        x = x @ k + (0 if i % 10 else scale) * x
        log_x, x = log_x + np.log(x.max()), x / x.max()
    g, log_g = np.ones(3), 0.0
    terms = [np.log(x @ kernels[-1] @ g) + log_x]
    g = kernels[-1] @ g
    for i in reversed(range(depth)):
        k, (x, log_x) = kernels[i], xs[i]
        terms.append(np.log(x @ k @ g) + log_x + log_g)
        g = k @ g + (0 if i % 10 else scale) * g
        log_g, g = log_g + np.log(g.max()), g / g.max()
    return float(np.logaddexp.reduce(terms))


@pytest.mark.filterwarnings("ignore:the logits do not depend on the images")
@pytest.mark.parametrize(
    ("depth", "scale", "dtype"),
    [
        pytest.param(200, 5.0, None, marks=pytest.mark.slow),
        (20, 50.0, None),
        (20, 2**-10, "bfloat16"),
        (20, 50.0, "float16"),
    ],
)
def test_many_layers(depth, scale, dtype):
    """Whatever the modules' own type is, in float32."""
    model = Deep(depth, scale)
    variables = model.init(jax.random.key(0), IMAGES)
    images = 0 * IMAGES  # so that the real pass stays finite
    found = lswag_jax.score_model(
        Deep(depth, scale, dtype), variables, images, None, ("synflow", LogSynFlow())
    )
    expected = synflow_by_logs(variables, depth, scale)
    assert abs(expected) > np.log(float(np.finfo(np.float32).max))
    assert found.raw["synflow"][0] == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(found.raw["logsynflow"][0])


def convolve(x, k):
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=dims)


POINTWISE = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "tanh gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "clip": lambda x: jnp.clip(x, -1, 3),
    "power": lambda x: x**2.5,
    "sort": lambda x: jnp.sort(x, -1) * jnp.ones((1, 1, 1, 2)).cumsum(-1),
    "argmax": lambda x: x * jax.nn.one_hot(jnp.argmax(x, -1), 2),
    "max pool": lambda x: nn.max_pool(x, (2, 2), strides=(1, 1)),
    "average pool": lambda x: nn.avg_pool(x, (2, 2)),
    "extremes": lambda x: jnp.maximum(x, 2 * x[:, ::-1]) - jnp.minimum(x, 7),
    "norm": lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-6),
    "switch": lambda x: jax.lax.switch(x.sum().astype(int) % 2, [jnp.sin, lambda x: 0 * x], x),
    "remat": jax.checkpoint(lambda x: jnp.exp(-x) * x),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_gradients_are_those_of_jax(name):
    """Where nothing is out of range."""
    act = POINTWISE[name]
    w = jnp.abs(jnp.asarray(RNG.normal(size=(3, 3, 2, 2)), jnp.float32))
    x = jnp.ones((1, 8, 8, 2)) / 10
    f = lambda w: convolve(act(convolve(x, w)), w).sum()  # noqa: E731
    found = jax.jit(lambda w: wide.ordinary(wide.gradient(f, w)))(w)
    expected = jax.grad(f)(w)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6 * np.abs(expected).max())


def test_scan_of_layers_beyond_the_range():
    """Each turn of a loop has a range of its own."""
    w = 1e6 * jnp.abs(jnp.asarray(RNG.normal(size=(40, 4, 4)), jnp.float32))

    def total(w):
        return jax.lax.scan(lambda c, k: (jax.nn.relu(c @ k), None), jnp.ones((1, 4)), w)[0].sum()

    g = jax.jit(lambda w: wide.gradient(total, w))(w)
    flows = jnp.log(jnp.abs(g.mantissa * w).sum((1, 2))) + g.exponent.ravel() * np.log(2)
    x, log_x = np.ones(4), 0.0
    for k in np.asarray(w, float):
        x = x @ k
        log_x, x = log_x + np.log(x.max()), x / x.max()
    np.testing.assert_allclose(flows, np.log(x.sum()) + log_x, rtol=1e-6)


def test_population_is_one_by_one():
    """Under vmap every member has exponents of its own."""
    w = jnp.abs(jnp.asarray(RNG.normal(size=(3, 6, 6)), jnp.float32))
    w *= jnp.array([1e-30, 1.0, 1e30]).reshape(3, 1, 1)
    f = lambda w: (jnp.ones((1, 6)) @ w @ w @ w @ w).sum()  # noqa: E731
    log_flow = lambda w: wide.log(wide.total(wide.gradient(f, w)))  # noqa: E731
    np.testing.assert_allclose(jax.vmap(log_flow)(w), [jax.jit(log_flow)(k) for k in w], rtol=1e-6)


@pytest.mark.parametrize("rank", [3, 40])
def test_nuclear_norms(rank):
    """Singular values far below the largest are no noise, in float32."""
    a = RNG.normal(size=(2, 40, rank)) @ RNG.normal(size=(2, rank, 120))
    found = nuclear_norms(jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(found, np.linalg.svd(a, compute_uv=False).sum(1), rtol=1e-5)


def test_no_float64_inside():
    """The traced program, exported for another machine, has the types that it was given."""
    text = jax.jit(lambda v: wide.log(wide.total(wide.gradient(
        lambda k: Deep(3, 1.0).apply({"params": v | {"Dense_0": k}}, jnp.ones((1, 6))).sum(),
        v["Dense_0"])["kernel"]))).lower(
            Deep(3, 1.0).init(jax.random.key(0), IMAGES)["params"]).as_text()  # fmt: skip
    assert "f64" not in text


def singular_kernel(rng):
    """Two equal rows."""
    rows = rng.normal(size=(6, 500))
    rows[4] = rows[1]
    return (rows @ rows.T)[None]


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_singular_by_a_relative_tolerance(scale, rng):
    """Up to rounding of the type that the kernel was computed in."""
    kernel = singular_kernel(rng)
    noise = 1 + 1e-7 * rng.normal(size=kernel.shape)
    rounded = (kernel * scale * (noise + noise.swapaxes(1, 2))).astype("f4")
    for found in (kernel * scale, rounded):
        assert np.isinf(Ntk().finish({"kernel": found})["score"][0])


def test_condition_of_a_regular_kernel(rng):
    kernel = singular_kernel(rng)
    regular = np.delete(np.delete(kernel, 4, 1), 4, 2).astype("f4")
    assert Ntk().finish({"kernel": regular})["score"][0] == pytest.approx(
        np.linalg.cond(regular[0].astype(float)), rel=1e-6
    )


class Dying(nn.Module):
    """The first sample reaches no unit."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))


@pytest.mark.filterwarnings("ignore:some of the images are not finite")
def test_sample_without_gradient_is_degenerate():
    images = np.array(IMAGES)
    variables = Dying().init(jax.random.key(0), images)
    kernel = variables["params"]["Dense_1"]["kernel"]  # the inner layer
    variables["params"]["Dense_1"]["kernel"] = jnp.abs(kernel)
    images[0] = -np.abs(images[0])
    images[1:] = np.abs(images[1:])
    batch = images, np.arange(4) % 2
    table = lswag_jax.score_model(Dying(), variables, *batch, ("jacov", "epe_nas"))
    assert [table.statuses[name][0] for name in ("jacov", "epe_nas")] == ["degenerate"] * 2
    images[0, 0] = np.inf
    table = lswag_jax.score_model(Dying(), variables, images, batch[1], ("jacov",))
    assert table.statuses["jacov"][0] == "nan"


@pytest.mark.parametrize("kind", [np.int32, np.bool_])
def test_integers_in_a_product(kind):
    """A graph's edges, as a matrix of integers or booleans beside one of floats."""
    edges = np.eye(6) + np.eye(6, k=1)
    params = {"w": jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32)}

    def score(edges):
        def model(params, x):
            return jnp.einsum("ij,bj->bi", edges, nn.relu(x @ params["w"])) @ params["w"]

        return lswag_jax.score_model(model, params, IMAGES, np.arange(4), ("synflow",))["synflow"]

    np.testing.assert_allclose(score(edges.astype(kind)), score(edges.astype("f4")), rtol=1e-6)


def test_complex_layers_have_no_quantity_of_some_proxies():
    params = {name: jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32) for name in "abc"}

    def model(params, x):
        return nn.relu(jnp.abs(x @ (params["a"] + 1j * params["b"])) - 2) @ params["c"]

    names = ("synflow", "logsynflow", "fisher", "intrain", "lswag_kernel", "lswag", "grad_norm")
    table = lswag_jax.score_model(model, params, IMAGES, np.arange(4), names)
    expected = dict.fromkeys(names[:5], "not_applicable") | dict.fromkeys(names[5:], "ok")
    assert {name: table.statuses[name][0] for name in names} == expected
