"""docs/outputs.md names every status and every column of the binaries' tables."""

import re

import numpy as np

from lswag_jax.analysis.report import summary
from lswag_jax.proxies import LSwag
from lswag_jax.scoring.table import STATUSES
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "outputs.md").read_text()
NAMED = set(re.findall(r"`(\w+)`", PAGE))


def test_statuses():
    assert set(STATUSES) <= NAMED


def test_columns_of_correlations(rng):
    scores = {"a": rng.normal(size=20), "b": rng.normal(size=20)}
    (row, *_) = summary(scores, rng.normal(size=20), rng.normal(size=20), reference="b", n=2)
    ranges = {"tau_low", "tau_high", "partial_undefined", *(f"rho_size{i}" for i in (2, 3, 4))}
    assert set(row) - ranges <= NAMED


def test_parts_of_lswag():
    parts = {"psi": np.ones(1), "n_units": np.ones(1), "samples": np.ones(1)}
    finished = LSwag().finish(parts)
    assert {*finished, "lambda", "n_layers", "empty_layers"} <= NAMED
