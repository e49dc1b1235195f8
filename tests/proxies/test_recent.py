"""Dextr, InTrain and VKDNW against an independent computation in float64.

Weights and inputs are Flax's; activations are made in NumPy, gradients by `jax.grad` and
`jax.jacrev` of the model itself.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import marks
from lswag_jax.proxies import Dextr, InTrain, Vkdnw
from lswag_jax.proxies.dextr import inverse_condition
from lswag_jax.proxies.vkdnw import spectral_entropy
from lswag_jax.spaces.convolution import convolve

BATCH, CLASSES, SHAPE = 6, 4, (5, 6, 3)
EPSILON = 1e-5


class Net(nn.Module):
    """Two convolutions and a classifier, with BatchNorm or without."""

    norm: bool

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(7, (3, 3), name="first")(x)
        if self.norm:
            x = nn.BatchNorm(not train, momentum=0.0, epsilon=EPSILON, name="norm")(x)
        x = nn.relu(x)
        x = nn.relu(nn.Conv(40, (3, 3), use_bias=False, name="second")(x))
        return nn.Dense(CLASSES, name="head")(x.mean((1, 2)))


@pytest.fixture(params=[False, True], ids=["plain", "batch_norm"])
def net(request, x64, rng):
    """The model, its variables, and a batch."""
    model = Net(request.param)
    images = rng.normal(size=(BATCH, *SHAPE))
    variables = model.init(jax.random.key(0), jnp.asarray(images))
    variables = jax.tree.map(lambda v: np.asarray(rng.normal(size=v.shape) * 0.5), dict(variables))
    if request.param:
        variables["batch_stats"] = {"norm": {"mean": np.zeros(7), "var": np.ones(7)}}
    return model, variables, images, np.arange(BATCH) % CLASSES


def score(net, proxy, **draws):
    model, variables, images, labels = net
    variables = jax.tree.map(jnp.asarray, variables)
    return lswag_jax.score_model(model, variables, images, labels, proxy, draws=draws)


def convolved(x, kernel):
    """3 x 3 convolution with a border of zeros."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    _, h, w, _ = x.shape
    return sum(padded[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))


def forward(net, images, on=None):
    """Outputs in order of execution, by NumPy; BatchNorm in training mode.

    With `on`, other outputs, a ReLU passes what is positive there.
    """
    params = net[1]["params"]
    found = {"first": convolved(images, params["first"]["kernel"]) + params["first"]["bias"]}
    x = found["first"]
    if net[0].norm:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        own = params["norm"]
        x = found["norm"] = (x - mean) / np.sqrt(var + EPSILON) * own["scale"] + own["bias"]
    x = found["first_relu"] = np.where((on["first_relu"] if on else x) > 0, x, 0)
    x = found["second"] = convolved(x, params["second"]["kernel"])
    x = found["second_relu"] = np.where((on["second_relu"] if on else x) > 0, x, 0)
    found["head"] = x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    return found


def test_dextr(net, rng):
    """Singular values of every map, and central differences of order 6 along the circle."""
    plane = rng.normal(size=(2, *SHAPE))
    table = score(net, Dextr(), **{"dextr/plane": plane})
    maps = forward(net, net[2][:1])
    del maps["head"]
    ratios = []
    for x in maps.values():
        x = x.reshape(-1, x.shape[-1])
        s = np.linalg.svd(x[x.any(1)][:, x.any(0)], compute_uv=False)
        ratios.append(s.min() / s.max())
    a = np.log(1 + sum(ratios))
    basis = np.linalg.qr(plane.reshape(2, -1).T)[0].T
    u, w = (d * np.sign(d @ p) for d, p in zip(basis, plane.reshape(2, -1), strict=True))

    def logits(t, on=None):
        return forward(net, (np.cos(t) * u + np.sin(t) * w).reshape(1, *SHAPE), on)

    # No unit is switched within the step.
    step, on = 2e-3, logits(0)
    f = [logits(t, on)["head"][0] for t in np.arange(-3, 4) * step]
    v = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60 @ np.array(f) / step
    acceleration = np.array([2, -27, 270, -490, 270, -27, 2]) / 180 @ np.array(f) / step**2
    square = (v @ v) * (acceleration @ acceleration) - (v @ acceleration) ** 2
    kappa = np.sqrt(square) / (v @ v) ** 1.5
    b = np.log(1 + kappa)
    parts = table.parts["dextr"]
    assert parts["conditions"][0] == pytest.approx(sum(ratios), rel=1e-9)
    assert parts["curvature"][0] == pytest.approx(kappa, rel=1e-6)
    assert table["dextr"][0] == pytest.approx(a * b / (a + b), rel=1e-6)
    assert 0.05 < sum(ratios) < len(ratios)


def test_dextr_of_a_circle(x64, rng):
    """An isometry keeps the circle, whose curvature is 1; of logits that stand still it is a."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(12, name="tokens")(x) + 100) - 100
            return nn.Dense(CLASSES, use_bias=False, name="head")(x.reshape(len(x), -1))

    images = rng.normal(size=(2, 2, 6, 2))
    variables = Linear().init(jax.random.key(0), jnp.asarray(images))
    variables = jax.tree.map(lambda v: v.astype(float), variables)
    variables["params"]["tokens"]["kernel"] = jnp.eye(2, 12)
    wide = np.zeros((2, 6, 12, CLASSES))
    wide[0, 0, 0, 0] = wide[0, 0, 1, 1] = 1
    variables["params"]["head"]["kernel"] = jnp.asarray(wide.reshape(-1, CLASSES))
    plane = np.zeros((2, 2, 6, 2))
    plane[0, 0, 0, 0], plane[1, 0, 0, 1] = 3, 5
    data = (Linear(), variables, images, np.arange(2))
    assert score(data, "dextr", **{"dextr/plane": plane}).parts["dextr"]["curvature"][0] == 1
    plane[:, 0, 0] = rng.normal(size=(2, 2))
    plane[1, 0, 0] = 0  # the logits do not move
    plane[1, 1, 1, 0] = 1
    table = score(data, "dextr", **{"dextr/plane": plane})
    parts = table.parts["dextr"]
    assert np.isnan(parts["curvature"][0])
    assert table["dextr"][0] == pytest.approx(np.log1p(parts["conditions"][0]))


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5)])
@pytest.mark.parametrize("dead", [(0, 0), (2, 0), (0, 2), (2, 1)])
def test_inverse_condition(x64, rng, shape, dead):
    """Rows and columns of zeros do not count, on either side; nothing at all is 0."""
    x = np.zeros(shape)
    n, c = shape[0] - dead[0], shape[1] - dead[1]
    x[:n, :c] = rng.normal(size=(n, c))
    s = np.linalg.svd(x[:n, :c], compute_uv=False)
    assert float(inverse_condition(jnp.asarray(x))) == pytest.approx(s.min() / s.max(), rel=1e-9)
    assert float(inverse_condition(jnp.zeros(shape))) == 0
    flat = np.outer(np.arange(1, n + 1), np.arange(1, c + 1))  # of rank one
    x[:n, :c] = flat
    assert float(inverse_condition(jnp.asarray(x))) == (1 if min(n, c) == 1 else 0)


def test_intrain(net, rng):
    images = rng.normal(size=(BATCH, *SHAPE))
    labels = rng.integers(CLASSES, size=BATCH)
    draws = {"intrain/images": images, "intrain/labels": labels}
    table = score(net, InTrain(batch=BATCH), **draws)
    outputs = forward(net, images)
    gamma = 0.0
    for name in ("first", "second", "head"):
        x = outputs[name].reshape(-1, outputs[name].shape[-1])
        covariance = np.cov(x.T, bias=True) + 1e-10 * np.eye(x.shape[1])
        v = np.linalg.eigvalsh(covariance)
        gamma += np.log(v.sum() ** 2 / (v**2).sum())
    model, variables = net[:2]

    def loss(params):
        own = {**variables, "params": params}
        logits, _ = model.apply(own, jnp.asarray(images), True, mutable=["batch_stats"])
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    gradients = jax.tree.leaves(jax.grad(loss)(jax.tree.map(jnp.asarray, variables["params"])))
    gradients = [np.asarray(g) for g in gradients]
    assert len(gradients) == (7 if model.norm else 5)
    o = sum(min(1, g.std() / (np.abs(g).max() + 1e-10)) for g in gradients)
    parts = table.parts["intrain"]
    assert parts["capacity"][0] == pytest.approx(gamma, rel=1e-6)
    assert parts["resilience"][0] == pytest.approx(o, rel=1e-6)
    assert table["intrain"][0] == pytest.approx(gamma * (1 + o) / np.log(3 + 1), rel=1e-6)


def added_twice(p, x):
    return nn.relu(nn.relu(x @ p["in"] + p["b"][None]) @ p["w"] + p["b"][None]) @ p["out"]


def added_at_one_of_two_calls(p, x):
    return nn.relu(nn.relu(x @ p["in"] @ p["w"]) @ p["w"] + p["b"][None]) @ p["out"]


def another_at_each_call(p, x):
    return nn.relu(nn.relu(x @ p["in"] @ p["w"] + p["b"][None]) @ p["w"] + p["c"][None]) @ p["out"]


def added_at_each_turn(p, x):
    def turn(x, w):
        return nn.relu(x @ w + p["b"][None]), None

    return jax.lax.scan(turn, x @ p["in"], p["stack"])[0] @ p["out"]


def stack_of_biases_used_twice(p, x):
    def turn(x, own):
        return nn.relu(x @ own[0] + own[1][None]), None

    x = x @ p["in"]
    for _ in range(2):
        x, _ = jax.lax.scan(turn, x, (p["stack"], p["biases"]))
    return x @ p["out"]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (added_twice, "w b"),
        (added_at_one_of_two_calls, "w b"),
        (another_at_each_call, "w b c"),
        (added_at_each_turn, "stack b"),
        (stack_of_biases_used_twice, "stack biases"),
    ],
)
def test_intrain_counts_a_shared_bias_once(x64, rng, model, names):
    """A tensor has one gradient, of all its uses; each slice of a stack is a tensor."""
    shapes = {"w": (5, 5), "b": (5,), "c": (5,), "stack": (2, 5, 5), "biases": (2, 5)}
    shapes = {name: shapes[name] for name in names.split()} | {"in": (3, 5), "out": (5, CLASSES)}
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
    images, labels = rng.normal(size=(BATCH, 3)), np.arange(BATCH) % CLASSES
    draws = {"intrain/images": images, "intrain/labels": labels}
    table = lswag_jax.score_model(model, params, images, labels, InTrain(batch=BATCH), draws=draws)

    def loss(params):
        return -jax.nn.log_softmax(model(params, images))[np.arange(BATCH), labels].mean()

    found = jax.grad(loss)(params)
    tensors = [g for n, gs in found.items() for g in (gs if n in ("stack", "biases") else [gs])]
    o = sum(float(g.std() / jnp.abs(g).max()) for g in tensors)
    assert table.parts["intrain"]["resilience"][0] == pytest.approx(o, rel=1e-6)


class Maps(nn.Module):
    """A network whose output is a map."""

    @nn.compact
    def __call__(self, x):
        return nn.Conv(2, (3, 3), use_bias=False, name="last")(nn.relu(nn.Conv(5, (1, 1))(x)))


def test_intrain_of_maps_is_of_squared_errors(x64, rng):
    images, targets = rng.normal(size=(BATCH, *SHAPE)), rng.normal(size=(BATCH, 5, 6, 2))
    variables = Maps().init(jax.random.key(0), jnp.asarray(images))
    variables = jax.tree.map(lambda v: v.astype(float), variables)
    draws = {"intrain/images": images, "intrain/targets": targets}
    data = (Maps(), variables, images, np.zeros((BATCH, 5, 6, 2)))
    table = lswag_jax.score_model(
        *data, (InTrain(batch=BATCH), Vkdnw(batch=BATCH)), draws=draws,
        loss=lambda maps, labels: ((maps - labels) ** 2).mean((1, 2, 3)),
    )  # fmt: skip
    own = jax.grad(lambda v: ((Maps().apply(v, jnp.asarray(images)) - targets) ** 2).mean())
    gradients = [np.asarray(g) for g in jax.tree.leaves(own(variables))]
    o = sum(g.std() / np.abs(g).max() for g in gradients)
    assert table.parts["intrain"]["resilience"][0] == pytest.approx(o, rel=1e-6)
    assert table.statuses["vkdnw"][0] == "not_applicable"


def entropy_of(log_probabilities, at):
    """Of the deciles of the Fisher information of parameters `at` [L], class by class."""
    p, g = np.exp(log_probabilities(at)), np.asarray(jax.jacrev(log_probabilities)(at))
    fisher = sum(
        p[n, k] * np.outer(g[n, k], g[n, k]) / BATCH for n in range(BATCH) for k in range(CLASSES)
    )
    v = np.quantile(np.linalg.eigvalsh(fisher), np.arange(1, 10) / 10)
    return -(v / v.sum() * np.log(v / v.sum())).sum()


def test_vkdnw(net, rng):
    """The Fisher information of all classes, one by one; statistics of the batch are constants."""
    images = rng.normal(size=(BATCH, *SHAPE))
    table = score(net, Vkdnw(batch=BATCH), **{"vkdnw/images": images})
    model, variables = net[0], jax.tree.map(jnp.asarray, net[1])
    if model.norm:
        _, updated = model.apply(variables, jnp.asarray(images), True, mutable=["batch_stats"])
        variables |= updated
    places = {"first": (1, 1, 0, 0), "second": (1, 1, 0, 0), "head": (0, 0)}

    def log_probabilities(chosen):
        params = dict(variables["params"])
        for (name, place), value in zip(places.items(), chosen, strict=True):
            params[name] = params[name] | {"kernel": params[name]["kernel"].at[place].set(value)}
        return jax.nn.log_softmax(model.apply(variables | {"params": params}, jnp.asarray(images)))

    at = jnp.stack([variables["params"][name]["kernel"][place] for name, place in places.items()])
    entropy = entropy_of(log_probabilities, at)
    assert table.parts["vkdnw"]["entropy"][0] == pytest.approx(entropy, rel=1e-6)
    assert table["vkdnw"][0] == pytest.approx(3 + entropy, rel=1e-9)
    assert 0.1 < entropy < np.log(9)


def tiles_folded(x, w, layer):
    return layer(convolve, x.reshape(-1, *x.shape[2:]), w).reshape(*x.shape[:-1], -1)


def tiles_mapped(x, w, layer):
    return jax.vmap(lambda x: layer(convolve, x, w), 1, 1)(x)


def samples_mapped(x, w, layer):
    return jax.vmap(lambda x: layer(convolve, x, w))(x)


def tiles_beside_each_other(x, w, layer):
    return layer(convolve, x, w)


def channels_stored_first(x, w, layer):
    return layer(convolve, x, w.transpose(2, 3, 1, 0))


def matrices(x, w, layer):
    return layer(product_of_heads, x.mean((1, 2, 3)), w)[:, None, None]


def product_of_heads(x, w):
    return jnp.einsum("bd,dhk->bhk", x, w)


@pytest.mark.parametrize(
    ("function", "shape", "place"),
    [
        *[
            (function, (3, 3, 3, 5), (1, 1, 0, 0))
            for function in (tiles_folded, tiles_mapped, samples_mapped, tiles_beside_each_other)
        ],
        (channels_stored_first, (5, 3, 3, 3), (0, 0, 1, 1)),
        (matrices, (3, 2, 5), (0, 0, 0)),
    ],
)
def test_vkdnw_of_marked_layers(x64, rng, function, shape, place):
    """A marked convolution has the middle of its kernel, wherever its samples lie."""
    images = rng.normal(size=(BATCH, 2, *SHAPE))
    params = {"w": jnp.asarray(rng.normal(size=shape)), "h": jnp.asarray(rng.normal(size=(5, 4)))}

    def model(p, x, layer=marks.layer):
        return nn.relu(function(x, p["w"], layer)).mean((1, 2, 3)) @ p["h"]

    data = (model, params, images, np.arange(BATCH) % CLASSES)
    table = score(data, Vkdnw(batch=BATCH), **{"vkdnw/images": images})

    def log_probabilities(chosen):
        own = {"w": params["w"].at[place].set(chosen[0]), "h": params["h"].at[0, 0].set(chosen[1])}
        return jax.nn.log_softmax(model(own, images, lambda f, x, w: f(x, w)))

    at = jnp.stack([params["w"][place], params["h"][0, 0]])
    expected = entropy_of(log_probabilities, at)
    assert table.parts["vkdnw"]["entropy"][0] == pytest.approx(expected, rel=1e-6)


def test_entropy_of_known_spectra():
    assert spectral_entropy(np.eye(7)) == pytest.approx(np.log(9))
    # Deciles of 0 and 1 are 0.1 to 0.9, whose sum is 4.5.
    share = np.arange(1, 10) / 45
    assert spectral_entropy(np.diag([0.0, 1.0])) == pytest.approx(-(share * np.log(share)).sum())
    assert np.isnan(spectral_entropy(np.zeros((3, 3))))
