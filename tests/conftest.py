"""Strict JAX settings for every test, and the folder of shared goldens and data."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they run: quick code generation takes a quarter of the time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
)

import jax
import numpy as np
import pytest

from lswag_jax.scoring import clear_programs
from tests.helpers import ROOT

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Frees compiled programs after each file: a process cannot hold all of the suite's."""
    yield
    clear_programs()
    jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 for the duration of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """Folder of the PyTorch goldens; the test is skipped where it is absent."""
    path = SHARED / "goldens"
    if not path.is_dir():
        pytest.skip(f"no goldens at {path}")
    return path


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Folder of real images and tables; the test is skipped where it is absent."""
    path = pathlib.Path(os.environ.get("LSWAG_DATA", SHARED / "data"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path} (set LSWAG_DATA)")
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
