"""Detectors are scored: the elastic network as the exact one, and every proxy says something."""

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies, tasks
from lswag_jax.scoring import programs
from tests.helpers.spaces import DETECTOR, batch

GENOTYPES = [DETECTOR.parse(text) for text in ("12/1/2", "24/2,1/2,3")]
SOME = ("lswag", "zico", "gradsign", "synflow", "jacov", "swap", "params", "macs")
IMAGES = batch(DETECTOR).images
BOXES = tasks.synthetic_targets(DETECTOR.task, IMAGES, seed=0)
# They read the probabilities or the labels of classes, an image each.
OF_CLASSES = {"epe_nas", "vkdnw"}
OF_CNNS = {"zen", "az_progressivity"}


@pytest.mark.slow  # compiles for long
def test_elastic_is_exact(x64):
    images = IMAGES.astype(np.float64)
    table = lswag_jax.score(DETECTOR, GENOTYPES, images, BOXES, SOME)
    g = GENOTYPES[0]
    variables = DETECTOR.extract(programs.initial_variables(DETECTOR, 0, np.dtype(float)), g)
    alone = lswag_jax.score_model(
        DETECTOR.build(g), variables, images, BOXES, SOME, task=DETECTOR.task
    )
    for name in SOME:
        assert table.statuses[name][0] == "ok"
        np.testing.assert_allclose(table.raw[name][0], alone.raw[name][0], rtol=1e-7)


def test_scorer_takes_boxes():
    scorer = lswag_jax.make_scorer(DETECTOR, ("lswag",))
    shapes = jax.eval_shape(DETECTOR.init, jax.random.key(0))
    encoded = DETECTOR.encode(GENOTYPES)
    found = jax.eval_shape(scorer, shapes, encoded, IMAGES, BOXES)
    assert found["lswag"]["score"].shape == (2,)


@pytest.mark.slow  # all families compile
def test_every_proxy_says_something():
    table = lswag_jax.score(DETECTOR, GENOTYPES, IMAGES, BOXES, "all")
    assert set(table) == set(proxies.names())
    for name in table:
        missing = name in OF_CLASSES | OF_CNNS
        expected = {"not_applicable"} if missing else {"ok", "inf"}
        if name == "meco":  # no map has more positions than channels
            expected = {"degenerate"}
        assert set(table.statuses[name]) <= expected, name


@pytest.mark.parametrize("labels", [np.arange(8) % 4, np.zeros((8, 4, 4), int)])
def test_labels_of_classes_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels of detection must be floats of shape \(8, K, 5"):
        lswag_jax.score(DETECTOR, GENOTYPES, IMAGES, labels, ("params",))
