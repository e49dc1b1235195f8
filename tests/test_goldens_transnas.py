"""TransNAS-Bench-101 against NASLib's MacroNet and the originals of the proxies, in float64."""

import functools
import json

import pytest

from lswag_jax.spaces.transnas.macro import TransNASMacro
from lswag_jax.spaces.transnas.micro import TransNASMicro
from tests.helpers import cnn_goldens

FILES = {"tnb101_micro_8-41414-1_02_333": TransNASMicro, "tnb101_macro_8-1234-basic": TransNASMacro}


def make(kind, arrays):
    space = kind(width=8, num_classes=10)
    return space.build(space.parse(json.loads(str(arrays["info_json"]))["net_code"]))


MICRO, MACRO = FILES


# The cells of the micro network take minutes to compile, in float64 and check by check.
@pytest.fixture(params=[pytest.param(MICRO, marks=pytest.mark.slow), MACRO], ids=["micro", "macro"])
def golden(request):
    return _golden(request.param)


@functools.cache
def _golden(file):
    build = functools.partial(make, FILES[file])
    return cnn_goldens.CnnGolden(file, file, "default", 12, build, lambda names: range(len(names)))


@cnn_goldens.every_check
def test_golden(golden, check):
    check(golden)
