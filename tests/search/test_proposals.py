"""What searches propose: legal genotypes of the space, as many as may be, and no other."""

import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lswag_jax.search import EvolutionOptions, RandomOptions, evolution, random_search, search
from lswag_jax.spaces import AutoFormer
from tests.helpers.searches import FAKE, SPACE, WIDE, fake, fake_row


@st.composite
def random_spaces(draw):
    def choices(values):
        return tuple(sorted(draw(st.sets(st.sampled_from(values), min_size=1, max_size=3))))

    return AutoFormer(
        "random",
        choices((8, 16, 24)),
        choices((1, 2, 3)),
        choices((1.0, 2.0, 3.5)),
        choices((1, 2, 3, 4)),
        head_dim=8,
        image_size=8,
        patch_size=4,
        num_classes=3,
    )


@given(random_spaces(), st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, derandomize=True)
def test_operators_stay_in_the_space(space, seed, m_prob, s_prob):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng, 2)
    children = [space.mutate(rng, a, m_prob, s_prob), space.crossover(rng, a, b)]
    assert (children[1] is None) == (a.depth != b.depth)
    for g in (a, b, *children):
        if g is not None:
            space.check(g)
            assert set(g.mlp_ratio) <= set(space.mlp_ratios)
            assert space.from_json(g.to_json()) == g


@given(random_spaces(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=30, derandomize=True)
def test_archive_is_legal_and_without_duplicates(space, seed, evolve):
    sizes = [space.num_params(g) for g in space.sample(np.random.default_rng(seed), 50)]
    windows = {"params_window": tuple(np.quantile(sizes, (0.1, 0.9))), "patience": 200}
    macs = [space.macs(g) for g in space.sample(np.random.default_rng(seed), 50)]
    windows["macs_window"] = (min(macs), float(np.quantile(macs, 0.95)))
    options = RandomOptions(num=5, seed=seed, **windows)
    if evolve:
        options = EvolutionOptions(
            seed=seed, epochs=3, population=5, select=2, crossover=3, mutation=3, **windows
        )
    archive = []
    try:
        search(space, fake(space), options, archive, **FAKE)
    except ValueError:  # only for a space too small for the first population
        assert archive == []
    assert len({row["id"] for row in archive}) == len(archive) <= options.total
    for row in archive:
        for field in ("params", "macs"):
            low, high = windows[f"{field}_window"]
            assert low <= row[field] <= high


def test_first_population_is_that_of_random_search():
    assert evolution.propose(
        WIDE, EvolutionOptions(population=9, seed=4), 0, [], None
    ) == random_search.require_legal(
        WIDE, np.random.default_rng([4, 0]), 9, RandomOptions(num=9, seed=4)
    )


def test_generation_is_mutants_crossovers_and_random_ones():
    rows = [fake_row(WIDE, g) for g in WIDE.sample(np.random.default_rng(0), 20)]
    options = EvolutionOptions(population=30, select=1, crossover=5, mutation=8, s_prob=0.0)
    proposals = evolution.propose(WIDE, options, 1, rows, np.arange(20.0))
    parent = WIDE.from_json(rows[-1]["genotype"])
    # The only parent crossed with itself is a duplicate: random ones take the place.
    assert len(proposals) == 30
    assert all(g.depth == parent.depth for g in proposals[:8])
    assert all(g.embed_dim == parent.embed_dim for g in proposals[:8])
    assert len({g.depth for g in proposals[8:]}) > 1


def test_crossovers_take_genes_of_the_selected():
    genotypes = [g for g in WIDE.sample(np.random.default_rng(0), 200) if g.depth == 5][:6]
    rows = [fake_row(WIDE, g) for g in genotypes]
    fitness = np.array([0, 1, 0, 0, 1, 0.0])
    options = EvolutionOptions(population=1, select=2, crossover=10, mutation=0)
    children = evolution.propose(WIDE, options, 1, rows, fitness)
    assert len(children) == 10
    a, b = genotypes[1], genotypes[4]
    for g in children:
        genes = zip(g.num_heads, a.num_heads, b.num_heads, strict=True)
        assert all(gene in (x, y) for gene, x, y in genes)


def test_number_of_proposals_is_limited():
    class Stuck:
        """A space whose operators only ever give the parent back."""

        def __init__(self):
            self.calls = 0

        def __getattr__(self, name):
            return getattr(WIDE, name)

        def mutate(self, rng, g, m_prob, s_prob):
            self.calls += 1
            return g

        def crossover(self, rng, a, b):
            self.calls += 1

    space, rows = Stuck(), [fake_row(WIDE, g) for g in WIDE.sample(np.random.default_rng(0), 5)]
    options = EvolutionOptions(population=4, mutation=3, crossover=2)
    assert len(evolution.propose(space, options, 1, rows, np.arange(5.0))) == 4
    assert space.calls == 3 * 10 + 2 * 10 * 50


def test_small_space_is_searched_to_its_end():
    space = dataclasses.replace(SPACE, depths=(1,))  # 2 * 2 * 2 genotypes
    archive = []
    options = EvolutionOptions(epochs=6, population=3, select=2, patience=300)
    result = search(space, fake(space), options, archive, **FAKE)
    assert len(archive) == 8
    assert result.fitness[result.best] == 2 + 3.0


def test_windows_that_cannot_be_met():
    low, high = (
        types.SimpleNamespace(params=SPACE.num_params(g), macs=SPACE.macs(g))
        for g in map(SPACE.parse, ("16/1/2", "24/2,2/3,3"))
    )
    with pytest.raises(ValueError) as error:
        search(
            SPACE, fake(SPACE), RandomOptions(num=5, params_window=(1, 2), patience=9), [], **FAKE
        )
    assert str(error.value) == (
        "only 0 of 5 different genotypes of t were found with params in [1, 2] and macs in "
        f"[0, inf], then 9 random ones in a row failed: they have {low.params} to {high.params} "
        f"params and {low.macs} to {high.macs} macs."
    )


@pytest.mark.parametrize(
    ("options", "arguments", "expected"),
    [
        (
            EvolutionOptions,
            {"population": 0},
            "population must be an integer from 1 to 10000000, got 0.",
        ),
        (
            EvolutionOptions,
            {"crossover": 2.5},
            "crossover must be an integer from 0 to 10000000, got 2.5.",
        ),
        (EvolutionOptions, {"m_prob": 1.5}, "m_prob must be a number from 0 to 1, got 1.5."),
        (RandomOptions, {"num": -1}, "num must be an integer from 1 to 10000000, got -1."),
        (RandomOptions, {"seed": -1}, "seed must be an integer from 0 to 9.22337e+18, got -1."),
        (
            RandomOptions,
            {"params_window": (2, 1)},
            "params_window must be (smallest, largest) or None, got (2, 1).",
        ),
        (
            RandomOptions,
            {"macs_window": 5},
            "macs_window must be (smallest, largest) or None, got 5.",
        ),
    ],
)
def test_options_are_checked(options, arguments, expected):
    with pytest.raises(ValueError) as error:
        options(**arguments)
    assert str(error.value) == expected


def test_defaults_are_the_published_ones():
    options = EvolutionOptions()
    assert (options.epochs, options.population, options.select) == (20, 50, 10)
    assert (options.crossover, options.mutation, options.tries) == (25, 25, 10)
    assert (options.m_prob, options.s_prob, options.merge_last) == (0.2, 0.4, True)
    assert options.total == 50 + 20 * 50
    assert EvolutionOptions(merge_last=False).total == 50 + 19 * 50
    assert EvolutionOptions(params_window=[1, 2]).params_window == (1, 2)
