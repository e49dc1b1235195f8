"""One network written in every library that is understood has one set of scores."""

import functools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from lswag_jax import score_model

PROXIES = ("lswag", "params", "macs", "snip", "swap", "synflow")
RNG = np.random.default_rng(1)
IMAGES, LABELS = RNG.normal(size=(8, 6)).astype(np.float32), np.arange(8) % 3
HIDDEN, OUT = RNG.normal(size=(6, 5)), RNG.normal(size=(5, 3))
A, B = HIDDEN.astype(np.float32), OUT.astype(np.float32)
ZEROS_A, ZEROS_B = np.zeros(5, np.float32), np.zeros(3, np.float32)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, and of eight samples


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="b")(nn.relu(nn.Dense(5, name="a")(x)))


VARIABLES = {"params": {"a": {"kernel": A, "bias": ZEROS_A}, "b": {"kernel": B, "bias": ZEROS_B}}}


def linen():
    return Net(), VARIABLES


def train_state():
    state = TrainState.create(apply_fn=Net().apply, params=VARIABLES["params"], tx=optax.sgd(0.1))
    return state, None


def bare_function():
    def apply(params, x):
        return jnp.maximum(x @ params["a"] + params["bias_a"], 0) @ params["b"] + params["bias_b"]

    return apply, {"a": A, "bias_a": ZEROS_A, "b": B, "bias_b": ZEROS_B}


def nnx_model():
    class NnxNet(nnx.Module):
        def __init__(self):
            self.a, self.b = (nnx.Linear(i, o, rngs=nnx.Rngs(0)) for i, o in ((6, 5), (5, 3)))
            self.a.kernel.value, self.b.kernel.value = jnp.asarray(A), jnp.asarray(B)

        def __call__(self, x):
            return self.b(nnx.relu(self.a(x)))

    return NnxNet(), None


def linen_inside_nnx():
    model = nnx.bridge.ToNNX(Net(), rngs=nnx.Rngs(0)).lazy_init(IMAGES)
    model.a["kernel"].value, model.b["kernel"].value = jnp.asarray(A), jnp.asarray(B)
    return model, None


def haiku():
    hk = pytest.importorskip("haiku")
    model = hk.transform(lambda x: hk.nets.MLP([5, 3])(x))
    layers = {"linear_0": {"w": A, "b": ZEROS_A}, "linear_1": {"w": B, "b": ZEROS_B}}
    return model, {f"mlp/~/{name}": layer for name, layer in layers.items()}


def equinox():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(6, 3, 5, 1, activation=jax.nn.relu, key=jax.random.key(0))
    stored = [jnp.asarray(w) for w in (A.T, ZEROS_A, B.T, ZEROS_B)]

    def weights(m):
        return [m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias]

    return eqx.tree_at(weights, model, stored), None


def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    library = pytest.importorskip("keras")
    layers = [library.layers.Dense(5, activation="relu"), library.layers.Dense(3)]
    model = library.Sequential([library.Input((6,)), *layers])
    model.set_weights([A, ZEROS_A, B, ZEROS_B])
    return model, None


@pytest.mark.parametrize(
    "make",
    [bare_function, train_state, nnx_model, linen_inside_nnx, haiku, equinox, keras],
    ids=lambda f: f.__name__,
)
def test_scores_are_those_of_linen(make):
    model, variables = make()
    with jax.numpy_rank_promotion("allow"):  # which other libraries rely on
        table = score_model(model, variables, IMAGES, LABELS, PROXIES)
    expected = score_model(*linen(), IMAGES, LABELS, PROXIES)
    for name in PROXIES:
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("width", [6, 8])
def test_an_equinox_state_has_no_rows_of_samples(width):
    """Also where its statistics are as long as the batch."""
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        first: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        last: eqx.nn.Linear

        def __init__(self):
            self.first = eqx.nn.Linear(5, width, key=jax.random.key(0))
            self.norm = eqx.nn.BatchNorm(width, "batch", mode="ema")
            self.last = eqx.nn.Linear(width, 3, key=jax.random.key(1))

        def __call__(self, x, state):
            h, state = self.norm(self.first(x), state)
            return self.last(jax.nn.relu(h)), state

    net, state = eqx.nn.make_with_state(Net)()
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    with pytest.warns(UserWarning, match="running statistics") as told:
        table = score_model(net, None, x, np.arange(8) % 3, "synflow", args=(state,), output=0)
    assert table.statuses["synflow"] == ["ok"]
    assert len(told) == 1


def test_a_bound_flag_stays():
    """`functools.partial` says how a function runs as keywords of the call do."""

    def model(params, x, train=False):
        h = jax.nn.relu(x @ params["w"])
        return (h * jnp.arange(4.0).reshape(1, 4) if train else h) @ params["o"]

    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(6, 4))), "o": jnp.asarray(rng.normal(size=(4, 3)))}
    given = params, rng.normal(size=(8, 6)), np.arange(8) % 3, "grad_norm"

    def score(function, **kwargs):
        return float(score_model(function, *given, **kwargs)["grad_norm"][0])

    partial = functools.partial(model, train=True)
    bound = score(partial)
    np.testing.assert_allclose(score(jax.jit(partial)), bound, rtol=1e-6)
    assert bound == score(model, kwargs={"train": True}) != score(model)
