"""NAS-Bench-201: codecs, counts against the published tables, and elastic equals exact."""

import ast
import json

import jax
import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lswag_jax
from lswag_jax import spaces
from lswag_jax.arrays import enable_x64
from lswag_jax.scoring import programs
from lswag_jax.spaces.nasbench201.genotype import OPS, NasBench201Genotype
from tests.helpers.batches import Batch

SPACE = spaces.get("nasbench201")
SMALL = spaces.get("nasbench201", width=4, cells=1, image_size=8, num_classes=3)
genotypes = st.tuples(*[st.sampled_from(OPS)] * 6).map(NasBench201Genotype)


@pytest.fixture(scope="module")
def table(shared_data):
    """The whole benchmark: columns as NumPy arrays."""
    return read(shared_data, "nasbench201.csv.gz")


def read(folder, name):
    """Columns of a table as NumPy arrays, NaN where a number is missing."""
    table = pyarrow.csv.read_csv(folder / "tables" / name)
    return {key: table[key].to_numpy() for key in table.column_names}


@given(genotypes)
def test_codecs(g):
    assert SPACE.parse(SPACE.format(g)) == g
    assert NasBench201Genotype.from_naslib(g.to_naslib()) == g
    assert SPACE.from_json(json.loads(json.dumps(g.to_json()))) == g


def test_index_0_of_the_benchmark():
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|"
    g = SPACE.parse(text + "skip_connect~2|")
    assert SPACE.num_params(g) == 129_306
    assert g.to_naslib() == (4, 3, 3, 0, 0, 0)


def test_every_row(table):
    """All 15,625: string, NASLib's tuple, parameters, published FLOPs, connectedness."""
    found = [SPACE.parse(text) for text in table["arch_str"]]
    assert len(set(found)) == 15_625
    assert set(found) == set(SPACE.genotypes())
    params = np.array([SPACE.num_params(g) for g in found])
    np.testing.assert_allclose(params / 1e6, table["params_M_cifar10"], rtol=1e-12)
    naslib = [g.to_naslib() for g in found]
    assert [ast.literal_eval(text) for text in table["naslib_op_indices"]] == naslib
    flops = np.array([SPACE.macs(g, "naslib") for g in found])
    known = ~np.isnan(table["cifar10_nbsz_flops"])
    assert known.sum() > 9000
    as_published = [float(f"{n / 1e6:.8g}") for n in flops[known]]  # with 8 digits
    np.testing.assert_array_equal(as_published, table["cifar10_nbsz_flops"][known])
    connected = np.array([g.is_connected for g in found])
    assert (~connected).sum() == 341
    np.testing.assert_array_equal(table["cifar10_test200"][~connected], 10.0)


def test_published_counts(shared_data):
    """NASLib's parameters of 491 networks on three data sets."""
    rows = read(shared_data, "nbsz_first500_nasbench201.csv.gz")
    classes = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
    assert len(rows["params"]) == 3 * 491
    for i, tuple_text in enumerate(rows["arch"]):
        g = NasBench201Genotype.from_naslib(ast.literal_eval(tuple_text))
        space = spaces.get("nasbench201", num_classes=classes[rows["dataset"][i]])
        assert space.num_params(g) == round(rows["params"][i] * 1e6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NasBench201Genotype(("none",) * 5), "ops must be 6 operations"),
        (
            lambda: NasBench201Genotype(("none",) * 5 + ("conv",)),
            "operation 5 must be of none, skip_con",
        ),
        (lambda: NasBench201Genotype.from_naslib((0, 1, 2, 3, 4, 5)), "6 indices from 0 to 4"),
        (lambda: SPACE.parse("|none~0|+|none~0|none~1|"), "is not of the form"),
        (lambda: SPACE.parse("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|"), "not of the form"),
        (lambda: SPACE.from_json({"op": []}), "NasBench201Genotype has the keys"),
        (lambda: SPACE.check("none"), "holds NasBench201Genotype"),
        (lambda: SPACE.macs(SPACE.genotypes()[0], "flops"), "rule must be 'exact' or 'naslib'"),
        (lambda: spaces.get("nasbench201", image_size=30), "image_size must be a multiple of 4"),
        (
            lambda: spaces.get("nasbench201", cells=0),
            "cells of nasbench201 must be an integer from 1",
        ),
        (lambda: spaces.get("nasbench201", patch_size=2), "no argument 'patch_size'"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_operators(rng):
    a, b = SPACE.sample(rng, 2)
    assert SPACE.mutate(rng, a, m_prob=0.0) == a
    children = {SPACE.crossover(rng, a, b) for _ in range(1000)}
    differ = sum(x != y for x, y in zip(a.ops, b.ops, strict=True))
    assert len(children) == 2**differ
    assert all(op in pair for c in children for op, *pair in zip(c.ops, a.ops, b.ops, strict=True))
    assert len({SPACE.mutate(rng, a, m_prob=1.0) for _ in range(50)}) > 45


@pytest.fixture(scope="module")
def batch():
    """Images and labels of 6 samples, in float64."""
    rng = np.random.default_rng(1)
    return Batch(rng.normal(size=(6, *SMALL.image_shape)), np.arange(6) % 3)


@pytest.fixture(scope="module")
def variables():
    """Elastic variables in float64 whose norms and statistics are not trivial."""
    rng = np.random.default_rng(2)
    with enable_x64(True):
        start = SMALL.init(jax.random.key(0))
        return jax.tree.map(
            lambda v: np.asarray(v, np.float64) + 0.1 * rng.random(v.shape) * (v.ndim == 1), start
        )


@pytest.mark.slow  # its programs compile for a minute
def test_elastic_scores_are_the_exact_ones(x64, batch, variables, monkeypatch):
    """Genotypes with and without each kind of edge, and a disconnected one."""
    proxies = ("lswag", "zico", "swap", "nwot", "snip", "fisher", "l2_norm", "params")
    monkeypatch.setattr(programs, "initial_variables", lambda *_: variables)
    members = [
        NasBench201Genotype(("nor_conv_1x1", "none", "avg_pool_3x3") * 2),
        NasBench201Genotype(("nor_conv_3x3", "skip_connect", "nor_conv_1x1") * 2),
    ]
    disconnected = NasBench201Genotype(("nor_conv_3x3", *("none",) * 5))
    found = lswag_jax.score(SMALL, [*members, disconnected], *batch, proxies)
    assert list(found.status) == ["ok", "ok", "degenerate"]
    for i, g in enumerate(members):
        cut = SMALL.extract(variables, g)
        exact = lswag_jax.score_model(SMALL.build(g), cut, *batch, proxies)
        for name in proxies:
            np.testing.assert_allclose(found[name][i], exact[name][0], rtol=1e-8)
        parts, expected = found.parts["lswag"], exact.parts["lswag"]
        present = np.array(parts["bins"][i]) >= 0
        lambda_l = np.array(parts["lambda_l"][i])[present]
        np.testing.assert_allclose(lambda_l, expected["lambda_l"][0], rtol=1e-8)
        np.testing.assert_array_equal(np.array(parts["bins"][i])[present], expected["bins"][0])
