"""Programs that score lower for accelerators that are not here, without float64 or a callback."""

import re

import jax
import numpy as np
import pytest
from jax import export

from lswag_jax import make_scorer, proxies, spaces
from lswag_jax.arrays import enable_x64

SMALL = {"image_size": 8, "num_classes": 3}
SPACES = {
    "autoformer_tiny": {"patch_size": 4, "channels": 1},
    "vitbench_autoformer": {"patch_size": 4, "channels": 1},  # heads split the width
    "nasbench201": {"width": 4, "cells": 1},
    "nasbench101": {"width": 8, "cells": 1},
    "darts": {"width": 4, "layers": 3},
    "transnas_micro": {"width": 4},
}
BATCH = 8  # of which GSNR makes eight mini-batches


def lowered(name, scored):
    """The program of some proxies as TPU and CUDA devices would compile it."""
    space = spaces.get(name, **SMALL, **SPACES[name])
    encoded = space.encode(space.sample(np.random.default_rng(0), 1))
    given = (
        jax.eval_shape(space.init, jax.random.key(0)),
        {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in encoded.items()},
        jax.ShapeDtypeStruct((BATCH, *space.image_shape), np.float32),
        jax.ShapeDtypeStruct((BATCH,), np.int32),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    scorer = jax.jit(make_scorer(space, scored))
    return export.export(scorer, platforms=["tpu", "cuda"])(*given).mlir_module()


def check(text):
    """Fails where the program holds float64 numbers; a call of Python is not exported at all."""
    assert not re.search(r"[x<]f64", text)


def test_lswag_lowers_for_accelerators():
    check(lowered("autoformer_tiny", ["lswag", "nwot"]))


def test_float64_would_be_seen():
    with enable_x64(True):
        widened = jax.jit(lambda x: x.astype(np.float64) + 1)
        text = export.export(widened, platforms=["tpu"])(np.ones(3, np.float32)).mlir_module()
    with pytest.raises(AssertionError):
        check(text)


@pytest.mark.slow
@pytest.mark.parametrize("family", range(len(proxies.programs(proxies.resolve("all")))))
@pytest.mark.parametrize("name", SPACES)
def test_every_proxy_lowers_for_accelerators(name, family):
    check(lowered(name, proxies.programs(proxies.resolve("all"))[family]))
