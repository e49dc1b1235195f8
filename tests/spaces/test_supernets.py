"""Super-networks: sets of operations, counts, and elastic equals exact."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st

import lswag_jax
from lswag_jax import spaces
from lswag_jax.capture import adapters
from lswag_jax.scoring import programs
from lswag_jax.spaces import OpSets

NB201 = spaces.get("nasbench201", width=2, cells=1, image_size=8, num_classes=3)
DARTS = spaces.get("darts", layers=3, width=2, image_size=8, num_classes=3)
AFFINE = spaces.get(
    "darts", layers=1, width=2, image_size=8, num_classes=3, affine=True, pool_norm=False
)
SUPERNETS = [spaces.supernet_of(space) for space in (NB201, DARTS, AFFINE)]
PROXIES = ("lswag", "swap", "l2_norm", "params")


@pytest.mark.parametrize("space", SUPERNETS[:2], ids=lambda s: s.name)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_genotypes(space, seed):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng, 2)
    for g in (a, space.mutate(rng, a), space.crossover(rng, a, b), space.full):
        assert space.parse(space.format(g)) == g
        assert space.from_json(json.loads(json.dumps(g.to_json()))) == g
    assert space.mutate(rng, a, m_prob=0.0) == a
    smaller = a.without(1, a.edges[1][0])
    assert len(smaller.ops) == len(a.ops) - 1
    assert smaller.edges[1] == a.edges[1][1:]


def test_one_operation_an_edge_is_a_genotype():
    nb201, darts, _ = SUPERNETS
    ops = ("skip_connect", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_3x3", "skip_connect")
    final = nb201.final(OpSets((*((op,) for op in ops), ())))
    assert final.ops == (*ops, "none")
    edges = [()] * 28
    for node in darts.nodes:
        edges[node[0]], edges[node[-1]] = ("sep_conv_3x3",), ("max_pool_3x3",)
    final = darts.final(OpSets(edges))
    assert final.normal == final.reduce
    assert final.normal[:2] == (("sep_conv_3x3", 0), ("max_pool_3x3", 1))
    assert final.normal[6:] == (("sep_conv_3x3", 0), ("max_pool_3x3", 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OpSets(("skip_connect",)), "edges must be lists of operations"),
        (lambda: OpSets(3), "edges must be lists of operations, got 3"),
        (lambda: OpSets.from_json([]), "OpSets has the keys"),
        (lambda: SUPERNETS[0].parse("skip_connect"), "nasbench201_supernet has 6 edges, got 1"),
        (lambda: SUPERNETS[0].parse("|||||none"), "of edge 5 must be of skip_connect, nor_conv"),
        (lambda: SUPERNETS[0].check("none"), "holds OpSets, got a genotype of type str"),
        (lambda: SUPERNETS[0].final(SUPERNETS[0].full), "has several operations on an edge"),
        (lambda: SUPERNETS[1].final(SUPERNETS[1].full), "normal must be 8 pairs"),
        (lambda: SUPERNETS[1].parse("|" * 27), "no operation enters node 0"),
        (lambda: SUPERNETS[1].macs(SUPERNETS[1].full, "x"), "rule must be 'exact' or 'naslib'"),
        (lambda: spaces.supernet_of(spaces.get("nasbench101")), "nasbench101 has no super-network"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def batch(space):
    """Images and labels of 6 samples, in float64."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(6, *space.image_shape)), np.arange(6) % 3


def variables(space):
    """Elastic variables in float64 whose norms and statistics are not trivial."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda v: np.asarray(v, np.float64) + 0.1 * rng.random(v.shape) * (v.ndim == 1),
        space.init(jax.random.key(0)),
    )


def logits(module, variables, images, *encoded, **options):
    network = adapters.linen_network(module, variables, *encoded, **options)
    return network(images)


@pytest.mark.parametrize(
    ("space", "proxies"),
    [
        pytest.param(SUPERNETS[0], PROXIES, marks=pytest.mark.slow),
        pytest.param(
            SUPERNETS[0], (*PROXIES, "zico", "snip", "zen", "ntk"), marks=pytest.mark.slow
        ),
        pytest.param(SUPERNETS[2], PROXIES, marks=pytest.mark.slow),
    ],
    ids=["nasbench201", "nasbench201-more", "darts"],
)
def test_elastic_scores_are_the_exact_ones(x64, space, proxies, monkeypatch):
    weights = variables(space)
    monkeypatch.setattr(programs, "initial_variables", lambda *_: weights)
    (g,) = space.sample(np.random.default_rng(5), 1)
    found = lswag_jax.score(space, [g], *batch(space), proxies)
    cut = space.extract(weights, g)
    exact = lswag_jax.score_model(space.build(g), cut, *batch(space), proxies)
    assert list(found.status) == list(exact.status) == ["ok"]
    for name in proxies:
        np.testing.assert_allclose(found[name][0], exact[name][0], rtol=1e-7)
    parts, expected = found.parts["lswag"], exact.parts["lswag"]
    there = np.array(parts["bins"][0]) >= 0
    for part in ("bins", "lambda_l"):
        np.testing.assert_allclose(np.array(parts[part][0])[there], expected[part][0], rtol=1e-8)


def test_one_operation_an_edge_has_the_logits_of_the_ordinary_network(x64):
    """NAS-Bench-201 with its ordinary network's own weights, to the last bit."""
    space = SUPERNETS[0]
    (g,) = NB201.sample(np.random.default_rng(0), 1)
    sets = OpSets([() if op == "none" else (op,) for op in g.ops])
    assert space.final(sets) == g
    images, _ = batch(space)
    cut = NB201.extract(variables(NB201), g)
    renamed = {}
    for path, value in traverse_util.flatten_dict(cut).items():
        edge = int(path[2][5:]) if path[2].startswith("edge_") else None
        renamed[path if edge is None else (*path[:3], g.ops[edge], *path[3:])] = value
    expected = logits(NB201.build(g), cut, images)
    found = logits(space.build(sets), traverse_util.unflatten_dict(renamed), images)
    np.testing.assert_array_equal(found, expected)
    for count in (space.num_params, space.macs):
        assert count(sets) == getattr(NB201, count.__name__)(g)
