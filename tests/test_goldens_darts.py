"""DARTS against quark0's NetworkCIFAR and the originals of the proxies, in float64."""

import functools
import json

import pytest

from lswag_jax.spaces.darts.genotype import DartsGenotype
from lswag_jax.spaces.darts.space import Darts
from tests.helpers import cnn_goldens


def make(arrays):
    info = json.loads(arrays["info_json"].item())
    genotype = DartsGenotype(info["genotype"]["normal"], info["genotype"]["reduce"])
    space = Darts(layers=info["layers"], width=info["C"], affine=True, pool_norm=False)
    return space.build(genotype)


@pytest.fixture
def golden():
    return _golden("darts_v2_C4_L3")


@functools.cache
def _golden(file):
    return cnn_goldens.CnnGolden(file, file, "default", 12, make, lambda names: range(len(names)))


@cnn_goldens.every_check
def test_golden(golden, check):
    check(golden)
