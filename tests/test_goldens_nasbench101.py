"""NAS-Bench-101 against zero-cost-nas's Network and the originals of the proxies, in float64."""

import functools
import json

import pytest

from lswag_jax.spaces.nasbench101.genotype import NasBench101Genotype
from lswag_jax.spaces.nasbench101.network import NasBench101Network
from tests.helpers import cnn_goldens

FILE = "nb101_inception"


def make(arrays):
    """The file's cell has 10 edges, one more than the benchmark allows."""
    info = json.loads(arrays["info_json"].item())
    g = NasBench101Genotype(info["matrix"], info["ops"])
    sizes = info["stem_out"], info["num_stacks"], info["num_mods"]
    return NasBench101Network(g.matrix, g.ops, *sizes, num_classes=10)


def order(names):
    """Index into the file's layers, each cell's operations first, of ours, as executed."""
    cells = [name for name in names if ".vertex_op." in name or ".input_op." in name]
    place = {}
    for name in cells:
        _, cell, kind, vertex, *_ = name.split(".")
        place[name] = (int(cell), int(vertex), kind == "vertex_op")
    return [names.index(name) for name in [names[0], *sorted(cells, key=place.get), names[-1]]]


@pytest.fixture
def golden():
    return _golden(FILE)


@functools.cache
def _golden(file):
    return cnn_goldens.CnnGolden(file, file, "default", 12, make, order)


@cnn_goldens.every_check
def test_golden(golden, check):
    check(golden)
