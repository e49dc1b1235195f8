"""NAS-Bench-101: counts and hashes against the published tables, codecs, elastic == exact."""

import ast
import csv
import gzip
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lswag_jax
from lswag_jax.arrays import enable_x64
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import programs
from lswag_jax.spaces.nasbench101.genotype import MAX_EDGES, MAX_VERTICES, OPS, vertex_channels
from lswag_jax.spaces.nasbench101.genotype import NasBench101Genotype as Genotype
from lswag_jax.spaces.nasbench101.space import NasBench101
from tests.helpers.batches import Batch
from tests.helpers.loops import turns_of

SPACE = NasBench101()
SMALL = NasBench101(width=7, stacks=2, cells=1, image_size=4, num_classes=3)
DIAMOND = Genotype(
    [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
    ["input", "conv3x3-bn-relu", "maxpool3x3", "output"],
)
# Vertex 5 reaches no output.
PRUNED = (
    *(0, 1, 1, 1, 1, 0, 1),
    *(0, 0, 0, 0, 0, 1, 1),
    *(0, 0, 0, 0, 0, 0, 1),
    *(0, 0, 0, 0, 1, 1, 0),
    *(0, 0, 0, 0, 0, 1, 1),
    *(0, 0, 0, 0, 0, 0, 0),
    *(0, 0, 0, 0, 0, 0, 0),
    *(0, 2, 2, 4, 4, 4, 1),
)


def public_rows(folder, name):
    with gzip.open(folder / "tables" / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def test_counts_and_hashes_of_the_benchmark(shared_data):
    """1,000 random rows of all 423,624."""
    with np.load(shared_data / "tables" / "nasbench101_full.npz") as table:
        rows = np.random.default_rng(0).choice(len(table["adj_bits"]), 1000, replace=False)
        table = {key: table[key][rows] for key in table}
    for i, (size, bits) in enumerate(zip(table["num_vertices"], table["adj_bits"], strict=True)):
        bit = [[x + y * (y - 1) // 2 if x < y else 31 for y in range(size)] for x in range(size)]
        ops = [OPS[op] for op in table["ops"][i, : size - 2]]
        g = Genotype((int(bits) >> np.array(bit)) & 1, ["input", *ops, "output"])
        SPACE.check(g)
        assert g.num_vertices == size
        assert np.float32(SPACE.num_params(g) / 1e6) == table["params_M"][i]
        assert bytes.fromhex(g.spec_hash()[:8]) == table["hash4"][i].tobytes()


def test_counts_of_nas_bench_suite_zero(shared_data):
    """All 500 public encodings: parameters, FLOPs by their counter, and the benchmark's hash."""
    rows = public_rows(shared_data, "nbsz_first500_nasbench101")
    assert len(rows) == 500
    for row in rows:
        g = Genotype.from_naslib(ast.literal_eval(row["arch"]))
        assert SPACE.num_params(g) == round(float(row["params"]) * 1e6)
        assert float(f"{SPACE.macs(g, rule='naslib') / 1e6:.9g}") == float(row["flops"])
        assert g.spec_hash() == row["nb101_hash"]


def test_encodings_of_fewer_vertices(shared_data):
    rows = public_rows(shared_data, "nbsz_final_nasbench101")[::50]
    assert {len(ast.literal_eval(row["arch"])) for row in rows} >= {30, 42, 56}
    for row in rows:
        encoding = ast.literal_eval(row["arch"])
        g = Genotype.from_naslib(encoding)
        assert g.spec_hash() == row["nb101_hash"]
        assert Genotype.from_naslib(g.to_naslib()) == g


def test_published_example():
    g = Genotype.from_naslib(PRUNED)
    assert (g.num_vertices, g.num_edges) == (6, 9)
    assert SPACE.format(g) == "maxpool3x3~0|maxpool3x3~0|conv3x3~0|conv3x3~0,3|output~0,1,2,4"
    assert SPACE.num_params(g) == 4_095_778
    assert SPACE.macs(g, rule="naslib") == 624_558_080
    assert SPACE.macs(g) == 613_646_336


def test_pruning_and_order_of_vertices():
    """What is on no path does not count; isomorphic cells share their hash."""
    hanging = [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0] * 5]
    assert Genotype(hanging, ["input", "conv3x3", "maxpool3x3", "conv1x1", "output"]) == DIAMOND
    swapped = Genotype(DIAMOND.matrix, ["input", "maxpool3x3", "conv3x3", "output"])
    assert swapped != DIAMOND
    assert swapped.spec_hash() == DIAMOND.spec_hash()
    other = Genotype(DIAMOND.matrix, ["input", "conv1x1", "conv3x3", "output"])
    assert other.spec_hash() != DIAMOND.spec_hash()


def test_channel_rule():
    """Shares of the output with a remainder; an inner vertex has the most of those it feeds."""
    g = SPACE.parse("conv3x3~0|conv3x3~1|conv3x3~1|conv1x1~0|output~0,2,3,4")
    assert vertex_channels(g.matrix, 64, 128) == (64, 43, 43, 43, 42, 128)
    assert vertex_channels([[0, 1], [0, 0]], 64, 128) == (64, 128)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_operators_stay_in_the_space(seed):
    rng = np.random.default_rng(seed)
    a, b = SPACE.sample(rng, 2)
    for g in (a, b, SPACE.mutate(rng, a), SPACE.mutate(rng, b, m_prob=1.0, s_prob=1.0)):
        SPACE.check(g)
        assert SPACE.parse(SPACE.format(g)) == g
        assert SPACE.from_json(json.loads(json.dumps(g.to_json()))) == g
        assert Genotype.from_naslib(g.to_naslib()) == g
        assert SPACE.mutate(rng, g, m_prob=0.0, s_prob=0.0) == g
        assert SPACE.crossover(rng, g, g) == g
    mutant = SPACE.mutate(rng, a, m_prob=1.0, s_prob=0.0)
    assert mutant.matrix == a.matrix
    assert all(x != y for x, y in zip(mutant.ops[1:-1], a.ops[1:-1], strict=True))
    child = SPACE.crossover(rng, a, b)
    if child is not None:
        SPACE.check(child)
        assert child.num_vertices <= max(a.num_vertices, b.num_vertices)


def test_sampling_is_seeded_and_as_published(shared_data):
    """Sizes of cells are spread as in the 500 public draws of the same sampler."""
    sample = SPACE.sample(np.random.default_rng(0), 2000)
    assert sample == SPACE.sample(np.random.default_rng(0), 2000)
    rows = public_rows(shared_data, "nbsz_first500_nasbench101")
    public = [Genotype.from_naslib(ast.literal_eval(row["arch"])) for row in rows]
    for vertices in range(2, MAX_VERTICES + 1):
        share, expected = (
            np.mean([g.num_vertices == vertices for g in cells]) for cells in (sample, public)
        )
        assert abs(share - expected) < 4 * np.sqrt(0.25 / len(public)) * np.sqrt(1.25)
    counts = [sum(g.ops.count(op) for g in sample) for op in OPS]
    assert min(counts) > 0.9 * max(counts)
    assert max(g.num_edges for g in sample) == MAX_EDGES


# All operations, remainders, truncation, pools of pools, and an edge from input to output.
MEMBERS = [
    SMALL.parse(text)
    for text in (
        "output~0",
        "maxpool3x3~0|output~0,1",
        "conv3x3~0|conv1x1~0,1|maxpool3x3~2|output~1,3",
        "conv3x3~0|maxpool3x3~0|conv1x1~0,2|conv3x3~3|conv1x1~0|output~1,4,5",
        "conv1x1~0|conv3x3~1|conv3x3~1|conv1x1~1|maxpool3x3~2|output~2,3,4,5",
    )
]


@pytest.fixture(scope="module")
def batch():
    """Images and labels of 6 samples, in float64."""
    rng = np.random.default_rng(1)
    return Batch(rng.normal(size=(6, *SMALL.image_shape)), np.arange(6) % 3)


def draw(space):
    """Elastic variables in float64 whose norms and statistics are not trivial."""
    rng = np.random.default_rng(2)
    with enable_x64(True):
        start = jax.jit(space.init)(jax.random.key(0))
        return jax.tree.map(
            lambda v: np.asarray(v, np.float64) + 0.1 * rng.random(v.shape) * (v.ndim == 1), start
        )


@pytest.mark.slow
def test_elastic_scores_are_the_exact_ones(x64, batch, monkeypatch):
    """Every proxy, windows included, layer by layer."""
    names = ("lswag", "swap", "nwot", "snip", "fisher", "l2_norm", "params")
    proxies = (*names, LSwag(label="deep", window=(5, 9)))
    variables = draw(SMALL)
    monkeypatch.setattr(programs, "initial_variables", lambda *_: variables)
    found = lswag_jax.score(SMALL, MEMBERS[1:], *batch, proxies)
    for i, g in enumerate(MEMBERS[1:]):
        cut = SMALL.extract(variables, g)
        exact = lswag_jax.score_model(SMALL.build(g), cut, *batch, proxies)
        for name in (*names, "deep"):
            np.testing.assert_allclose(found[name][i], exact[name][0], rtol=1e-8)
        assert found.status[i] == exact.status[0]
        present = np.array(found.parts["lswag"]["bins"][i]) >= 0
        lambda_l = np.array(found.parts["lswag"]["lambda_l"][i])
        np.testing.assert_allclose(
            lambda_l[present], exact.parts["lswag"]["lambda_l"][0], rtol=1e-8
        )


def test_cells_are_turns_of_loops():
    """A loop for each stack, so that a cell compiles once, its first one too."""
    assert turns_of(NasBench101(width=8, stacks=2, image_size=8)) == [3, 3]


def test_initial_scale_is_that_of_the_genotype():
    """Kernels N(0, 2 / (k * k * output channels)) of the vertex itself."""
    space = NasBench101(width=60, stacks=1, cells=1)
    variables = jax.jit(space.init)(jax.random.key(0))
    cut = space.extract(variables, space.parse("conv3x3~0|conv1x1~0|conv3x3~0|output~1,2,3"))
    cell = cut["params"]["cells_0"]
    for name, size in (("vertex_1", 3), ("vertex_2", 1), ("input_3", 1)):
        kernel = cell[name]["conv"]["kernel"]
        assert kernel.shape == (size, size, 60 if name == "input_3" else 20, 20)
        assert kernel.std() == pytest.approx((2 / (size**2 * 20)) ** 0.5, rel=0.1)


def test_layer_sets_are_those_of_the_benchmark(shared_data):
    """Every set of layers that one of 2,008 cells of the benchmark has is listed, and each once."""
    sets = SMALL.layer_sets()
    listed = {row.tobytes() for row in sets}
    assert len(listed) == len(sets)
    assert SMALL.encode(MEMBERS)["in_units"].shape[1] == sets.shape[1]
    with np.load(shared_data / "tables" / "nasbench101_full.npz") as table:
        rows = slice(None, None, 211)
        bits = table["adj_bits"][rows].astype(np.int64)
        last, ops = table["num_vertices"][rows] - 1, table["ops"][rows]
    into = np.array([v * (v - 1) // 2 for v in range(1, 7)])
    is_fed = (bits[:, None] >> into) & 1 > 0
    direct = np.take_along_axis(is_fed, last[:, None].astype(int) - 1, 1)
    is_inner = np.arange(1, 6) < last[:, None]
    inner = np.stack([is_fed[:, :5] & is_inner, np.isin(ops, (0, 1)) & is_inner], axis=2)
    cell = np.concatenate([inner.reshape(len(bits), -1), direct], axis=1)
    ends = np.ones((len(bits), 1), bool)
    found = np.concatenate([ends, np.tile(cell, 2), ends], axis=1)
    assert {row.tobytes() for row in found} <= listed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Genotype([[0, 1]], ("input", "output")), "matrix must be square"),
        (lambda: Genotype([[0, 1], [0]], ("input", "output")), "matrix must be square"),
        (lambda: Genotype(3, ("input", "output")), "matrix must be square"),
        (lambda: Genotype([[0, 2], [0, 0]], ("input", "output")), "matrix must hold 0 and 1"),
        (lambda: Genotype([[0, None], [0, 0]], ("input", "output")), "matrix must hold 0 and 1"),
        (lambda: Genotype([["a", "b"], ["c", "d"]], ("input", "output")), "must hold 0 and 1"),
        (lambda: Genotype([[0, 1], [1, 0]], ("input", "output")), "only 0 up to the diagonal"),
        (lambda: Genotype([[0, 0], [0, 0]], ("input", "output")), "must have a path"),
        (lambda: Genotype([[0, 1], [0, 0]], ("input",)), "ops must be 'input', any of conv3x3"),
        (lambda: Genotype([[0, 1], [0, 0]], 3), "ops must be 'input', any of conv3x3"),
        (lambda: Genotype([[0, 1], [0, 0]], ("input", "conv1x1", "output")), "one entry a vertex"),
        (lambda: Genotype.from_naslib((0, 1, 0)), "V \\* V \\+ V integers for 2 to 7 .* got 3"),
        (lambda: Genotype.from_naslib((0, 1, 0, 0, 0, 5)), "are 0 to 4, got 5"),
        (lambda: Genotype.from_json({"matrix": 1}), "has the keys"),
        (lambda: Genotype.from_json([1]), "has the keys"),
        (lambda: SPACE.check("conv3x3~0|output~1"), "holds NasBench101Genotype"),
        (lambda: SPACE.parse("conv3x3-output"), "is not of the form"),
        (lambda: SPACE.parse("conv5x5~0|output~1"), "is not of the form"),
        (lambda: SPACE.parse("conv3x3~0|output~1,7"), "is not of the form"),
        (lambda: SPACE.parse("|".join(f"conv3x3~{v}" for v in range(6)) + "|output~6"), "7 vert"),
        (
            lambda: SPACE.parse("conv3x3~0|conv3x3~0,1|conv3x3~0,1,2|output~0,1,2,3"),
            "at most 9 edges, got 10",
        ),
        (lambda: SPACE.macs(DIAMOND, rule="flops"), "rule must be"),
        (lambda: NasBench101(width=4), "width of nasbench101 must be an integer from 5"),
        (lambda: NasBench101(cells=0), "cells of nasbench101 must be an integer from 1"),
        (lambda: NasBench101(image_size=30), "image_size must be a multiple of"),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
