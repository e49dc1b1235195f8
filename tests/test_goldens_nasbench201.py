"""NAS-Bench-201 against xautodl's TinyNetwork and the originals of the proxies, in float64."""

import functools

import pytest

from lswag_jax import spaces
from tests import cnn_goldens

FILES = ("best", "mixed", "sparse", "deadbranch")
CASES = [(file, weights) for file in FILES for weights in ("default", "gauss", "kaiming")]


def make(arrays):
    genotype = spaces.NasBench201Genotype.from_string(str(arrays["arch"]))
    width, cells = int(arrays["C"]), int(arrays["N"])
    return spaces.get("nasbench201", width=width, cells=cells).build(genotype)


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def golden(request, goldens):
    file, weights = request.param
    return _golden(goldens, file, weights)


@functools.cache
def _golden(folder, file, weights):
    inputs = folder / "nb201_inputs.npz"
    path = folder / f"nb201_{file}_C8_N1.npz"
    return cnn_goldens.CnnGolden(path, inputs, weights, 16, make, lambda names: range(len(names)))


@cnn_goldens.every_check
def test_golden(golden, check):
    check(golden)
