"""Strict JAX settings for every test, shared data, and a count of what is skipped without it."""

import os
import pathlib
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they run: quick code generation takes a quarter of the time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
    # One that XLA does not know ends the process.
    + " --xla_cpu_use_fusion_emitters=false"
    * version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")),
)

import gc

import jax
import numpy as np
import pytest
from hypothesis import settings

from lswag_jax.arrays import enable_x64
from lswag_jax.scoring import clear_programs
from tests.helpers import NO_SHARED, shared

gc.set_threshold(100_000, 20, 100)
settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(autouse=True, scope="module")
def _programs():
    """Frees compiled programs after each file: a process cannot hold all of the suite's."""
    yield
    clear_programs()
    jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 for the duration of a test."""
    with enable_x64(True):
        yield


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Folder of real images and tables; the test is skipped where it is absent."""
    return shared("data")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_terminal_summary(terminalreporter):
    """Says how many tests wanted data that is not beside the repository."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    counts = {
        kind: sum(f"{NO_SHARED} {kind}" in reason for reason in reasons)
        for kind in ("goldens", "data")
    }
    if any(counts.values()):
        said = " and ".join(f"{n} for {kind}" for kind, n in counts.items() if n)
        terminalreporter.write_line(f"Skipped for want of ../shared: {said}.", yellow=True)
