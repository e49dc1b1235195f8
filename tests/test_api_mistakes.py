"""A wrong argument of the API is a ValueError of one sentence that names it."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import data, files, search, spaces
from lswag_jax.search import RandomOptions
from tests.helpers.batches import message
from tests.helpers.spaces import WIDE

IMAGES = np.random.default_rng(0).normal(size=(6, *WIDE.image_shape)).astype("float32")
LABELS = np.arange(6) % 3
GENOTYPES = WIDE.sample(np.random.default_rng(0), 2)


class Net(nn.Module):
    """A convolution and a head."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


VARIABLES = Net().init(jax.random.key(0), IMAGES)


def score(**changed):
    given = {"space": WIDE, "genotypes": GENOTYPES, "images": IMAGES, "labels": LABELS}
    return lswag_jax.score(**given | {"proxies": "params"} | changed)


def score_model(**changed):
    given = {"module": Net(), "variables": VARIABLES, "images": IMAGES, "labels": LABELS}
    return lswag_jax.score_model(**given | {"proxies": "swap"} | changed)


def load_batch(**changed):
    return data.load_batch(**{"source": "embedded", "batch_size": 8} | changed)


def space(**changed):
    return spaces.get("autoformer_tiny", **changed)


def cell(**changed):
    return spaces.get("nasbench201", **changed)


def run(**changed):
    given = {"space": WIDE, "images": IMAGES, "labels": LABELS, "proxies": "params"}
    given |= {"options": RandomOptions(num=2), "workdir": "/nowhere", "fitness": "params"}
    return search.run(**given | changed)


ARGUMENTS = {
    score: ("space", "genotypes", "images", "labels", "proxies", "seed", "repeats", "precision"),
    score_model: ("module", "variables", "images", "proxies", "seed", "precision", "batch_norm"),
    load_batch: ("source", "split", "seed", "balanced", "normalize", "label_key", "download"),
    space: ("image_size", "patch_size", "channels", "num_classes", "embed_dims", "depths"),
    cell: ("width", "cells", "image_size", "channels", "num_classes"),
    run: ("space", "images", "labels", "proxies", "options", "workdir", "fitness"),
}


@pytest.mark.parametrize("value", [None, 3.5, "x"])
@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f, names in ARGUMENTS.items() for name in names]
)
def test_a_wrong_type(function, name, value):
    if (name, value) in (("split", "x"), ("label_key", "x"), ("workdir", "x"), ("source", "x")):
        pytest.skip("a text that may be meant")
    with pytest.raises(ValueError) as error:
        function(**{name: value})
    message(error)


OTHERS = {
    "a genotype alone": (lambda: score(genotypes=GENOTYPES[0]), "genotypes of score must be a seq"),
    "a text for a genotype": (lambda: score(genotypes=["x"]), "genotype"),
    "a negative seed": (lambda: score(seed=-1), "seed must be an integer from 0"),
    "a long seed": (lambda: score(seed=10**20), "seed must be an integer from 0"),
    "an empty batch": (lambda: score(images=IMAGES[:0], labels=LABELS[:0]), "the batch is empty"),
    "under jit": (lambda: jax.jit(lambda x: score(images=x))(IMAGES), "use lswag_jax.make_scorer"),
    "a jitted model": (lambda: jax.jit(lambda x: score_model(images=x))(IMAGES), "traced by jit"),
    "other channels": (lambda: score_model(images=IMAGES[..., :1]), "cannot be run on images of"),
    "an unknown space": (lambda: spaces.get([]), "unknown search space"),
    "no model": (lambda: lswag_jax.load(None), "path of load must be a text or a path, got None"),
    "no folder": (lambda: lswag_jax.load("nowhere"), "there is no trained network in nowhere"),
    "a reversed window": (lambda: RandomOptions(params_window=(9, 1)), "params_window must"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_mistakes(name):
    call, expected = OTHERS[name]
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as error:
        call()
    message(error)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """Not the temporary one, and not "None"; the file that was there stays."""
    path = tmp_path / "rows.json"
    files.write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        files.write_atomically(path, "new")
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.json"]
