"""TransNAS-Bench-101: spaces, codes, counts against the published ones, operators."""

import ast
import csv
import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lswag_jax import tasks
from lswag_jax.spaces.transnas.genotype import TransNASMacroGenotype, TransNASMicroGenotype
from lswag_jax.spaces.transnas.macro import TransNASMacro
from lswag_jax.spaces.transnas.micro import TransNASMicro

SPACES = pytest.mark.parametrize(
    "space", [TransNASMicro(), TransNASMacro()], ids=lambda space: space.name
)
GENOTYPES = {TransNASMicro: TransNASMicroGenotype, TransNASMacro: TransNASMacroGenotype}


@SPACES
def test_all_genotypes(space):
    """4,096 and 3,256 distinct genotypes, each with its code and NASLib's tuple."""
    every = space.genotypes()
    assert (
        len(set(every))
        == len(every)
        == {"transnas_micro": 4096, "transnas_macro": 3256}[space.name]
    )
    for g in every:
        space.check(g)
        assert space.parse(space.format(g)) == g
        assert type(g).from_naslib(g.to_naslib()) == g
        assert len(g.to_naslib()) == 6


def test_codes_of_the_benchmark():
    """The examples of its README, and the order of NASLib's tuples."""
    micro = TransNASMicro().parse("64-41414-1_02_333")
    assert micro.to_naslib() == (1, 0, 2, 3, 3, 3)
    macro = TransNASMacro().parse("64-1234-basic")
    assert macro.to_naslib() == (1, 2, 3, 4, 0, 0)
    assert TransNASMacro().parse("64-2311-basic").modules == (2, 3, 1, 1)


TABLES = (
    ("nbsz_early725_transbench101_micro", TransNASMicro, 7 * 711),
    ("nbsz_early725_transbench101_macro", TransNASMacro, 2 * 662 + 725),
    ("nbsz_final_transbench101_micro", TransNASMicro, 2128),
)


@pytest.mark.parametrize(("table", "kind", "rows"), TABLES, ids=[t[0] for t in TABLES])
def test_published_counts(shared_data, table, kind, rows):
    """Every published number of parameters and FLOPs, of all tasks, to its last digit."""
    with gzip.open(shared_data / "tables" / f"{table}.csv.gz", "rt") as file:
        found = [row for row in csv.DictReader(file) if row["params"]]
    found = [row for row in found if row["dataset"] in tasks.names()]
    assert len(found) == rows
    spaces = {name: kind(task=name) for name in tasks.names()}
    for row in found:
        space, g = (
            spaces[row["dataset"]],
            GENOTYPES[kind].from_naslib(ast.literal_eval(row["arch"])),
        )
        space.check(g)
        assert space.num_params(g) == round(1e6 * float(row["params"]))
        assert space.macs(g, rule="naslib") / 1e6 == pytest.approx(float(row["flops"]), rel=2e-8)


def test_parameters_of_the_goldens():
    task = tasks.classification(10)
    micro = TransNASMicro(width=8, task=task)
    macro = TransNASMacro(width=8, task=task)
    assert micro.num_params(micro.parse("8-41414-1_02_333")) == 355_086
    assert macro.num_params(macro.parse("8-1234-basic")) == 54_190


@SPACES
@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_operators_stay_in_the_space(space, seed):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng, 2)
    for g in (a, b, space.mutate(rng, a), space.mutate(rng, b, m_prob=1.0, s_prob=1.0)):
        space.check(g)
        assert space.from_json(json.loads(json.dumps(g.to_json()))) == g
        assert space.mutate(rng, g, m_prob=0.0, s_prob=0.0) == g
    child = space.crossover(rng, a, b)
    if child is not None:
        space.check(child)
        genes = zip(child.to_naslib(), a.to_naslib(), b.to_naslib(), strict=True)
        assert all(gene in parents for gene, *parents in genes)


def test_mutation_of_one_edge():
    space, rng = TransNASMicro(), np.random.default_rng(0)
    for g in space.sample(rng, 50):
        mutant = space.mutate(rng, g, m_prob=0.0, s_prob=1.0)
        assert sum(x != y for x, y in zip(g.ops, mutant.ops, strict=True)) == 1


def test_parents_of_different_depth_have_no_child():
    space, rng = TransNASMacro(), np.random.default_rng(0)
    assert space.crossover(rng, space.parse("64-1234-basic"), space.parse("64-12341-basic")) is None
    # Each has one module that doubles the channels: a child may have none.
    a, b = space.parse("64-2311-basic"), space.parse("64-1321-basic")
    children = {space.crossover(rng, a, b) for _ in range(40)}
    assert None in children
    assert len(children) > 2


@SPACES
def test_sampling_is_uniform_and_seeded(space):
    sample = space.sample(np.random.default_rng(0), 4000)
    assert sample == space.sample(np.random.default_rng(0), 4000)
    every = [g.to_naslib() for g in space.genotypes()]
    for position in range(6):
        for digit in range(5):
            share = np.mean([g[position] == digit for g in every])
            drawn = np.mean([g.to_naslib()[position] == digit for g in sample])
            assert drawn == pytest.approx(share, abs=0.03)


MICRO, MACRO = TransNASMicro(), TransNASMacro()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransNASMicroGenotype((1, 2)), "one of each of the 6 edges, got 2"),
        (lambda: TransNASMicroGenotype((1, 2, 3, 4, 0, 0)), "ops must be integers from 0 to 3"),
        (lambda: TransNASMicroGenotype.from_json({"op": 1}), "has the keys"),
        (lambda: TransNASMacroGenotype((1, 2.5)), "modules must be integers from 1 to 4"),
        (lambda: TransNASMacroGenotype((1,) * 7), "there must be 1 to 6 modules, got 7"),
        (lambda: TransNASMacroGenotype.from_json([1]), "has the keys"),
        (lambda: MICRO.check(TransNASMacroGenotype((1, 2, 3, 4))), "holds TransNASMicroGenotype"),
        (lambda: MACRO.parse("64-111-basic"), "has 4 to 6 modules, got 3"),
        (lambda: MACRO.parse("64-1222-basic"), "1 to 4 modules that halve the resolution, got 0"),
        (lambda: MACRO.parse("64-4444-basic"), "1 to 3 modules that double the channels, got 4"),
        (lambda: MACRO.parse("64-1235-basic"), "is not a code of transnas_macro"),
        (lambda: MACRO.parse("32-1234-basic"), "for example '64-1234-basic'"),
        (lambda: MICRO.parse("64-41414-102_333"), "is not a code of transnas_micro"),
        (lambda: MICRO.parse("64-4141-1_02_333"), "for example '64-41414-1_02_333'"),
        (lambda: MICRO.macs(MICRO.genotypes()[0], rule="flops"), "rule must be 'exact' or"),
        (lambda: TransNASMicro(task="depth"), "unknown task 'depth'"),
        (lambda: TransNASMicro(task=3), "task must be a Task or its name, got 3"),
        (lambda: TransNASMicro(task=tasks.detection(3)), "transnas_micro have no head for boxes"),
        (lambda: TransNASMicro(modules=(4, 5)), "modules must be integers from 1 to 4"),
        (lambda: TransNASMicro(num_classes=0), "must be an integer from 1 to 100000, got 0"),
        (lambda: TransNASMicro(width=5), "width must be even, got 5"),
        (
            lambda: TransNASMicro(decoder_width=8),
            "decoder_width of transnas_micro must be an integer from 64",
        ),
        (lambda: TransNASMicro(task="normal", image_size=48), "must be a multiple of 32"),
        (lambda: TransNASMacro(task="normal", image_size=96), "must be a multiple of 64"),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
