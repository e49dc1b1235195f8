"""The pages on proxies: the table is the registry's, the worked example runs."""

import json
import re

import numpy as np
import pytest

import lswag_jax
from lswag_jax.proxies import catalogue
from lswag_jax.scoring import programs
from tests.helpers import ROOT
from tests.helpers.spaces import PLAIN, batch


def test_table_is_the_registrys():
    page = (ROOT / "docs" / "proxies.md").read_text()
    costs = json.loads((ROOT / "benchmarks" / "results" / "proxy_cost.json").read_text())["cost"]
    assert catalogue.page(page, costs) == page, "run python -m lswag_jax.proxies.catalogue"


def test_worked_example(x64):
    """The page's class, on a population and on an exact network."""
    text = (ROOT / "docs" / "add_a_proxy.md").read_text()
    code, call = re.findall(r"```python\n(.*?)```", text, re.S)
    scope: dict = {"lswag_jax": lswag_jax, "__name__": "activity"}
    exec(code, scope)  # our own page
    images, labels = batch(PLAIN)
    genotypes = [PLAIN.parse("12/1/2"), PLAIN.parse("24/2,1/2,3")]
    scope |= {"space": PLAIN, "genotypes": genotypes, "images": images.astype(float)}
    scope["labels"] = labels
    exec(call, scope)
    found = scope["table"]["activity"]
    assert ((found > 0.1) & (found < 0.9)).all()
    variables = programs.initial_variables(PLAIN, 0, np.dtype(float))
    alone = lswag_jax.score_model(
        PLAIN.build(genotypes[1]),
        PLAIN.extract(variables, genotypes[1]),
        images.astype(float),
        labels,
        scope["Activity"](),
    )
    assert found[1] == pytest.approx(alone["activity"][0], rel=1e-12)
