"""Proxies of one's own that go wrong, and names that tables cannot have."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.proxies import NotApplicable, Proxy
from tests.helpers.batches import message

IMAGES, LABELS = np.random.default_rng(0).normal(size=(4, 3)), np.arange(4) % 2


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(4)(x)))


def proxy(measure=lambda probe: {"score": 1.0}, called="mine", label="", **methods):
    """A proxy of these methods."""
    methods = {name: lambda self, *a, f=f: f(*a) for name, f in methods.items()}
    fields = {"name": called, "needs": frozenset({"weights"}), "__module__": __name__}
    fields["measure"] = lambda self, probe: measure(probe)
    return dataclasses.dataclass(frozen=True)(type("Own", (Proxy,), fields | methods))(label=label)


def score(*own):
    variables = Net().init(jax.random.key(0), IMAGES)
    return lswag_jax.score_model(Net(), variables, IMAGES, LABELS, own)


def fail(*_):
    raise KeyError("width")


def inapplicable(_):
    raise NotApplicable


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (proxy(fail), "measure of the proxy mine failed: KeyError: 'width'."),
        (proxy(lambda _: {"x": 1.0}), "measure of the proxy mine must return a dict with a number"),
        (
            proxy(lambda _: {"score": 1.0, "x": None}),
            "mine failed: ValueError: None is not a valid",
        ),
        (proxy(lambda _: {"score": 1.0, "x": {}}), "mine failed: TypeError: a part must be an arr"),
        (proxy(lambda _: {"score": 1.0, 3: 1.0}), "mine failed: TypeError: a part must be an arr"),
        (proxy(finish=lambda parts: None), "finish of the proxy mine must return a dict with 'sco"),
        (proxy(finish=lambda parts: {"x": parts["score"]}), "finish of the proxy mine must return"),
        (proxy(finish=lambda parts: {**parts, "x": 1}), "a row for each of 1 networks, got 'x' of"),
        (
            proxy(pool=lambda *_: (np.ones((3, 1)), np.full((3, 1), "ok"), "score")),
            "got shapes (3,",
        ),
        (proxy(pool=lambda *_: (np.ones((1, 1)), np.full((1, 1), "x"), "score")), "each of the la"),
        (proxy(lambda _: {"score": {}}), "measure of the proxy mine failed: TypeError: "),
        (proxy(lambda _: 3), "measure of the proxy mine must return a dict with a number 'score'."),
        (proxy(lambda _: {"score": 1.0, "std": 2.0}), "must not call a part 'std'."),
        (proxy(lambda _: {"score": jnp.ones(3)}), "must return a dict with a number 'score'."),
        (proxy(finish=fail), "finish of the proxy mine failed: KeyError: 'width'."),
        (proxy(pool=fail), "pool of the proxy mine failed: KeyError: 'width'."),
    ],
)
def test_what_fails_is_named(own, words):
    with pytest.raises(ValueError) as error:
        score(own)
    assert words in message(error)


def test_what_works():
    assert score(proxy())["mine"][0] == 1
    assert score(proxy(label="two"), proxy()).statuses["two"][0] == "ok"
    assert score(proxy(inapplicable)).status[0] == "not_applicable"


@pytest.mark.parametrize(
    ("name", "label", "words"),
    [
        *((name, "", "must not be that of another column of tables") for name in
          ("id", "genotype", "params", "degenerate", "error", "generation", "fitness", "costs")),
        ("mine", "seconds", "the label of a proxy must not be that of another column"),
        ("", "", "the name of a proxy must be a text without + or - in front, got ''"),
        ("-mine", "", "without + or - in front, got '-mine'"),
        ("mine", "a\nb", "got 'a\\nb'"),
        ("a,b", "", "the name of a proxy must have no comma, got 'a,b'"),
    ],
)  # fmt: skip
def test_names_that_tables_cannot_have(name, label, words):
    with pytest.raises(ValueError) as error:
        proxies.resolve([proxy(called=name, label=label)])
    assert words in message(error)
