"""Families of proxies: of many proxies a program each, and the results of one program."""

import itertools
import re

import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import num_programs, programs
from tests.helpers import ROOT
from tests.helpers.spaces import PLAIN, batch

NAMES = ("snip", "jacov", "params", "l2_norm")  # two families, and what is not measured


def test_every_proxy_has_a_family_that_is_documented():
    page = (ROOT / "docs" / "proxies.md").read_text().partition("## Families")[2]
    documented = re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.M)
    assert {proxy.family for proxy in proxies.PROXIES.values()} == set(documented)


@pytest.fixture
def few(monkeypatch):
    """More than two proxies are many."""
    monkeypatch.setattr(proxies, "ONE_PROGRAM", 2)


def test_programs():
    def names(chosen):
        return [[p.name for p in some] for some in proxies.programs(proxies.resolve(chosen))]

    assert names(("synflow", "params", "snip")) == [["synflow", "snip"]]
    assert names(("params", "macs")) == [[]]
    every = names("all")
    assert {*itertools.chain(*every)} == {*proxies.names()} - {"params", "macs"}
    assert len(every) == len({proxy.family for proxy in proxies.PROXIES.values()})
    assert len(proxies.programs([LSwag(label=str(i)) for i in range(20)])) == 1


def test_a_program_a_family_gives_what_one_gives(few, monkeypatch, x64):
    """Also where the gradient batch is a part of the batch."""
    images, labels = batch(PLAIN)
    images, genotypes = images.astype(float), [PLAIN.parse("12/1/2"), PLAIN.parse("24/2,1/2,3")]
    traced, original = [], programs.measure
    monkeypatch.setattr(programs, "measure", lambda *a, **k: traced.append(1) or original(*a, **k))
    table = lswag_jax.score(PLAIN, genotypes, images, labels, NAMES, gradient_batch=6)
    assert len(traced) == 2
    assert table.timing["compile"] > table.timing["score"] > 0
    scorer = jax.jit(lswag_jax.make_scorer(PLAIN, NAMES, gradient_batch=6))
    variables = programs.initial_variables(PLAIN, 0, np.dtype(float))
    one = scorer(variables, PLAIN.encode(genotypes), images, labels)
    assert len(traced) == 3
    for proxy in proxies.resolve(NAMES):
        if proxy.passes:
            raw = proxies.finish(proxy, jax.device_get(one[proxy.key]))["score"]
            np.testing.assert_allclose(table.raw[proxy.key], raw, rtol=1e-12)
    assert not one["degenerate"].any()
    assert list(table.status) == ["ok", "ok"]


def test_degenerate_is_what_every_program_finds():
    a, b = ({name: 1.0, "degenerate": np.array(found)} for name, found in (
        ("snip", [True, True, False]), ("jacov", [True, False, False])
    ))  # fmt: skip
    merged = programs.merged([a, b])
    assert set(merged) == {"snip", "jacov", "degenerate"}
    np.testing.assert_array_equal(merged["degenerate"], [True, False, False])


def test_a_model_too(few, monkeypatch):
    images, labels = batch(PLAIN)
    g = PLAIN.parse("12/1/2")
    variables = PLAIN.extract(programs.initial_variables(PLAIN, 0, np.dtype(np.float32)), g)
    chosen = ("snip", "plain", "jacov", "params")

    def scored():
        before = num_programs()
        table = lswag_jax.score_model(PLAIN.build(g), variables, images, labels, chosen)
        return table, num_programs() - before

    several, compiled = scored()
    assert compiled == 2
    monkeypatch.setattr(proxies, "ONE_PROGRAM", 12)
    one, compiled = scored()
    assert compiled == 1
    for name in chosen:
        assert several[name][0] == pytest.approx(one[name][0], rel=1e-5)
