"""Models that are written for one number of inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax.proxies import Memory
from lswag_jax.spaces import SimpleSpace

BATCH = 8


def _any_batch(params, x):
    return jax.nn.relu(x @ params["first"]) @ params["head"]


def _fixed(params, x):
    h = jax.nn.relu(x @ params["first"]).reshape(BATCH, 4, 4)
    return h.reshape(BATCH, 16) @ params["head"]


def _guarded(error):
    def model(params, x):
        if len(x) != BATCH:
            raise error
        return _any_batch(params, x)

    return model


def _arguments():
    rng = np.random.default_rng(0)
    shapes = {"first": (12, 16), "head": (16, 10)}
    params = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}
    return params, rng.normal(size=(BATCH, 12)).astype(np.float32), np.arange(BATCH) % 10


def test_proxies_of_the_batch_are_those_of_a_model_for_any():
    """MACs too, which are otherwise counted on one image."""
    tables = [
        lswag_jax.score_model(f, *_arguments(), proxies=["lswag", "zico"])
        for f in (_fixed, _any_batch)
    ]
    assert [int(*table.column("macs")) for table in tables] == [12 * 16 + 16 * 10] * 2
    for proxy in ("lswag", "zico"):
        np.testing.assert_allclose(*(table.values(proxy) for table in tables), rtol=1e-6)


@pytest.mark.parametrize("error", [ValueError("eight"), AssertionError(), NotImplementedError()])
def test_a_guard_is_one_whatever_it_raises(error):
    want = lswag_jax.score_model(_any_batch, *_arguments(), proxies="lswag")
    table = lswag_jax.score_model(_guarded(error), *_arguments(), proxies="lswag")
    np.testing.assert_array_equal(table["lswag"], want["lswag"])
    with pytest.raises(ValueError, match=r"not on one.* \((eight|[A-Z]\w+Error)\)\.$"):
        lswag_jax.score_model(_guarded(error), *_arguments(), proxies="synflow")


def test_errors_inside_say_which_inputs():
    def model(params, x):
        assert x.ndim == 4
        return _any_batch(params, x)

    with pytest.raises(ValueError, match=r"cannot be run on inputs of shape \(8, 12\) and type"):
        lswag_jax.score_model(model, *_arguments(), proxies="lswag")


class _One(nn.Module):
    """A network for one image at a time."""

    @nn.compact
    def __call__(self, x):
        assert len(x) == 1, "one image"
        return nn.Dense(3)(nn.relu(nn.Dense(4)(x.reshape(1, -1))))


def test_a_guard_in_a_network_of_a_space_makes_it_a_row():
    space = SimpleSpace({"k": (1,)}, lambda g: _One(), image_size=4, channels=1, num_classes=3)
    images, names = np.ones((BATCH, 4, 4, 1), np.float32), ("lswag", Memory(batch=2))
    with pytest.warns(UserWarning, match="one image"):
        table = lswag_jax.score(space, [space.parse("k=1")], images, np.arange(BATCH) % 3, names)
    assert table.rows[0]["error"] == "k=1 of simple: one image."
    assert np.isnan(table["memory"])


@pytest.mark.parametrize("options", [{"proxies": "synflow"}, {"gradient_batch": BATCH // 2}])
def test_other_numbers_are_refused_in_a_sentence(options):
    with pytest.raises(ValueError, match="runs on 8 inputs at once and not on one"):
        lswag_jax.score_model(_fixed, *_arguments(), **{"proxies": "lswag", **options})
