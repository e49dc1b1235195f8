"""Keras models whose layers and calls are named as their authors like."""

import os

import jax
import numpy as np
import pytest

from lswag_jax import score_model

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

IMAGES = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
LABELS = np.arange(6) % 3
PROXIES = ("lswag", "snip", "nwot", "l2_norm", "params")


class Net(keras.Model):
    """Two hidden layers, and a call that knows no mode."""

    def __init__(self, names):
        super().__init__()
        start = [keras.initializers.GlorotNormal(seed) for seed in (1, 2, 3)]
        dense, relu = keras.layers.Dense, {"activation": "relu"}
        self.a, self.b = (
            dense(8, name=n, kernel_initializer=s, **relu)
            for n, s in zip(names, start, strict=False)
        )
        self.head = dense(3, name="head", kernel_initializer=start[2])

    def call(self, x):
        return self.head(self.b(self.a(x)))


def test_layers_of_one_name_are_two():
    """Keras gives the variables of both the same path."""
    tables = []
    for names in (("a", "b"), ("fc", "fc")):
        model = Net(names)
        with jax.numpy_rank_promotion("allow"):  # which Keras relies on
            model(IMAGES)
            tables.append(score_model(model, None, IMAGES, LABELS, PROXIES))
    for name in PROXIES:
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-6)
    assert tables[1]["params"] == 5 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3
