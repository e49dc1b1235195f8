"""Pruning: TE-NAS's arithmetic by hand, what is removed, and resuming."""

import json

import numpy as np
import pytest
from scipy import stats

from lswag_jax import proxies, spaces
from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.search import PruningOptions, pruning, run, search, total
from lswag_jax.spaces import OpSets

NB201 = spaces.get("nasbench201", width=3, cells=1, image_size=8)
DARTS = spaces.get("darts", layers=3, width=1, image_size=8)
TE_NAS = Fitness(("ntk", "linear_regions"), "dense_rank_sum")
PRUNED = {
    NB201.name: (NB201, PruningOptions()),
    DARTS.name: (DARTS, PruningOptions(prune_number=3)),
}


def row(name, ntk, regions):
    """A row with condition numbers and numbers of regions, one a repeat."""
    return {
        "id": name,
        "genotype": {},
        "params": 1,
        "macs": 1,
        "seconds": 0.0,
        "degenerate": [False] * len(ntk),
        "parts": {"ntk": {"score": list(ntk)}, "linear_regions": {"score": list(regions)}},
    }


def table(*rows):
    rows = [row(str(i), *pair) for i, pair in enumerate(rows)]
    return ScoreTable(rows, proxies.resolve(("ntk", "linear_regions")))


def test_te_nas_by_hand():
    """Worked by hand, the whole having k = 100 and 200, r = 1000 and 800 in its two repeats.

    Delta_k, descending:  .5, .1, .1, -.2     -> ranks 1, 2, 2, 3
    Delta_r, ascending:   .3, .001, .1, .0    -> ranks 4, 2, 3, 1    sums 5, 4, 5, 4
    """
    pool = table(
        ((100, 200), (1000, 800)),
        ((50, 100), (700, 560)),
        ((80, 200), (999, 799)),  # 0.001 and, rounded before the mean, 0.001
        ((90, 180), (900, 720)),
        ((120, 240), (1000, 800)),
    )
    good = np.zeros(5, bool)
    losses = [pruning.relative_losses(pool.per_repeat[name], good, 3) for name in TE_NAS.proxies]
    np.testing.assert_allclose(-losses[0], [0.5, 0.1, 0.1, -0.2], rtol=1e-12)
    np.testing.assert_allclose(losses[1], [0.3, 0.001, 0.1, 0.0], rtol=1e-12)
    # Largest first, where TE-NAS has the smallest sum first: (3 + 1) + (4 + 1) minus its sums.
    np.testing.assert_array_equal(
        pruning.removal_scores(pool, TE_NAS, 3), 9 - np.array([5, 4, 5, 4])
    )


def test_three_decimals_make_ties():
    pool = table(((100,), (1000,)), ((100.02,), (1000,)), ((99.98,), (1000,)))
    np.testing.assert_array_equal(pruning.removal_scores(pool, TE_NAS, 3), [2, 2])
    np.testing.assert_array_equal(pruning.removal_scores(pool, TE_NAS, None), [2, 3])


def test_nothing_to_choose_by_is_refused():
    """Where no operation is missed more than another, what goes would be the order of a list."""
    resolved = proxies.resolve(("ntk", "linear_regions"))

    def equal(genotypes):
        supernet = spaces.supernet_of(NB201)
        return (row(supernet.format(g), (100,), (8,)) for g in genotypes)

    with pytest.raises(ValueError, match="nothing to choose by: without any of the 24 operations"):
        search(NB201, equal, PruningOptions(), [], proxies=resolved, fitness=TE_NAS)


def test_zero_cost_scores_by_hand():
    """Relative to |z| of a negative score; a single one is not ranked, a flipped one turns."""
    scores = np.array([[-10.0, 4.0], [-12.0, 3.0], [-9.0, 6.0]])
    losses = pruning.relative_losses(scores, np.zeros(3, bool))
    np.testing.assert_allclose(losses, [(0.2 + 0.25) / 2, (-0.1 - 0.5) / 2])
    pool = table(((100,), (8,)), ((80,), (6,)), ((120,), (9,)))
    single = Fitness("linear_regions")
    np.testing.assert_allclose(pruning.removal_scores(pool, single, None), [-0.25, 0.125])
    flipped = Fitness("linear_regions", flipped=("linear_regions",))
    np.testing.assert_allclose(pruning.removal_scores(pool, flipped, None), [0.25, -0.125])


def test_failures():
    """A removal that leaves no score comes last; without the whole's, scores are compared."""
    nan = float("nan")
    pool = table(((100, 50), (8, 8)), ((nan, 40), (8, 8)), ((120, 60), (8, 8)))
    scores = pruning.removal_scores(pool, Fitness("ntk"), None)
    np.testing.assert_allclose(scores, [-np.inf, -0.2])
    pool = table(((nan,), (0,)), ((80,), (6,)), ((120,), (9,)))
    np.testing.assert_allclose(pruning.removal_scores(pool, Fitness("ntk"), None), [-80, -120])
    np.testing.assert_allclose(pruning.removal_scores(pool, Fitness("linear_regions"), 3), [6, 9])


def fake(space):
    """Rows of super-networks whose two scores are sums over the operations that are there."""
    rng = np.random.default_rng(0)
    worth = rng.integers(1, 40, (2, space.num_edges, len(space.ops)))

    def evaluate(genotypes):
        for g in genotypes:
            there = np.array([[op in ops for op in space.ops] for ops in g.edges])
            ntk, regions = (worth * there).sum((1, 2)).tolist()
            sizes = {"params": space.num_params(g), "macs": space.macs(g)}
            yield row(space.format(g), [ntk], [regions]) | {"genotype": g.to_json()} | sizes

    return evaluate


@pytest.mark.parametrize("name", PRUNED)
def test_search(name):
    """What is scored (54 and 308 removals), what is left, and every resume."""
    space, options = PRUNED[name]
    supernet, whole = spaces.supernet_of(space), []
    arguments = {"proxies": TE_NAS.proxies, "fitness": TE_NAS}
    told = []
    result = search(
        space, fake(supernet), options, whole, **arguments, progress=lambda p: told.append(p.done)
    )
    assert len(whole) == total(space, options) == told[-1]
    sizes = [sum(map(len, r["genotype"]["edges"])) for r in whole]
    ops = len(supernet.full.ops)
    if space == NB201:
        assert sizes == [24] + [23] * 24 + [18] + [17] * 18 + [12] + [11] * 12 + [6]
    else:
        edges = [28] + [27] * 3 + [27] + [26] * 4  # of the second and third node of one cell
        assert sizes[:197] + sizes[197:310] == [ops] + [195] * 196 + [112] + [111] * 112
        assert sizes[310:319] == edges
        assert len(sizes) == 2 + 308 + 6 + 24 + 1
    with pytest.raises(ValueError, match=f"holds {len(whole) + 1} rows, but this run has only"):
        search(space, fake(supernet), options, [*whole, whole[0]], **arguments)
    (found,) = result.table.rows
    genotype = space.from_json(found["genotype"])
    assert found["id"] == space.format(genotype)
    assert found["params"] == space.num_params(genotype)
    assert found["macs"] == space.macs(genotype)
    for size in (*range(0, len(whole), 1 if space == NB201 else 150), len(whole)):
        archive, evaluated = whole[:size], []

        def evaluate(genotypes, evaluated=evaluated):
            evaluated.extend(genotypes)
            return fake(supernet)(genotypes)

        again = search(space, evaluate, options, archive, **arguments)
        assert archive == whole
        assert len(evaluated) == len(whole) - size
        assert again.table.rows == result.table.rows


def test_the_first_round_removes_what_has_the_smallest_sum_on_each_edge():
    space, options = PRUNED[NB201.name]
    supernet, archive = spaces.supernet_of(space), []
    search(space, fake(supernet), options, archive, proxies=TE_NAS.proxies, fitness=TE_NAS)
    k, r = (np.array([row["parts"][p]["score"][0] for row in archive[:25]]) for p in TE_NAS.proxies)
    sums = stats.rankdata(-(k[0] - k[1:]) / k[0], "dense")
    sums = (sums + stats.rankdata((r[0] - r[1:]) / r[0], "dense")).reshape(6, 4)
    left = archive[25]["genotype"]["edges"]
    for edge, removed in enumerate(sums.argmin(1)):
        assert left[edge] == [op for i, op in enumerate(supernet.ops) if i != removed]


def test_edges_of_a_node_compete_one_node_after_another():
    supernet = spaces.supernet_of(DARTS)
    sets = OpSets([("skip_connect",)] * 28)
    visited = []
    while groups := pruning.next_round(supernet, sets, 3):
        (group,) = groups
        visited.append((len(group.removals), group.number))
        for removal in group.removals[: group.number]:
            sets = sets.without(*removal)
    assert visited == [(3, 1), (4, 2), (5, 3)] * 2
    kept = [(0, 1), (1, 2), (2, 3), (3, 4)]  # the last two inputs of each node
    assert [source for _, source in supernet.final(sets).normal] == [
        s for pair in kept for s in pair
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PruningOptions(prune_number=0), "prune_number must be an integer of at"),
        (lambda: PruningOptions(decimals=-1), "decimals must be an integer of at least"),
        (
            lambda: total(spaces.get("autoformer_tiny"), PruningOptions()),
            "has no super-network, spaces with one are nasbench201, darts",
        ),
        (
            lambda: search(
                NB201,
                iter,
                PruningOptions(),
                [],
                proxies=TE_NAS.proxies,
                fitness=Fitness(TE_NAS.proxies, "product"),
            ),
            "may be negative: not by rule 'product'",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_real_scores(tmp_path):
    """A run by real proxies, resumed from half of its rows; its result is an ordinary network."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 8, 8, 3)).astype(np.float32), np.arange(6)
    arguments = (NB201, *data, ("nwot", "linear_regions", "params"), PruningOptions())
    whole = run(*arguments, tmp_path, fitness=("nwot", "linear_regions"))
    path = tmp_path / "archive.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 58
    path.write_text("".join(lines[:30]) + lines[30][:50])
    again = run(*arguments, tmp_path, fitness=("nwot", "linear_regions"))
    assert again.table.ids == whole.table.ids
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["id"] == NB201.format(NB201.from_json(best["genotype"]))
    assert best["params"] == NB201.num_params(NB201.parse(best["id"]))
