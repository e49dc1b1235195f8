"""LIBRA against figures measured on published tables by other code, and closed forms."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pyarrow.csv
import pytest
from scipy import stats

from lswag_jax.analysis import libra
from lswag_jax.analysis.libra import Candidate, LibraOptions
from lswag_jax.scoring.fitness import Fitness

RANK_BINS = LibraOptions(bins="equal_freq")
MIN_IG = LibraOptions(third="none")
MAX_IG = LibraOptions(second="max_ig", third="none")
ABOUT = ("dataset", "arch", "val_accuracy", "nb101_hash", "test_acc_108_mean", "params_M_nb101")


@pytest.fixture(scope="module")
def first500(shared_data):
    """The proxies, accuracies and parameters of one of the tables `nbsz_first500_*`."""

    def read(space, dataset="cifar10"):
        table = pyarrow.csv.read_csv(shared_data / "tables" / f"nbsz_first500_{space}.csv.gz")
        here = table["dataset"].to_numpy() == dataset
        names = [name for name in table.column_names if name not in ABOUT]
        scores = {name: table[name].to_numpy()[here].astype(float) for name in names}
        return scores, table["val_accuracy"].to_numpy()[here], scores["params"]

    return read


# Names, options -> {data set: (chosen, rho)}, three decimals.
EQUAL_WIDTH = {
    ("nasbench201", "cifar10"): ("jacov, epe_nas, synflow", 0.880),
    ("nasbench201", "cifar100"): ("synflow, jacov, l2_norm", 0.882),
    ("nasbench201", "ImageNet16-120"): ("synflow, jacov, l2_norm", 0.870),
    ("nasbench101", "cifar10"): ("flops, params, synflow", 0.733),
    ("nasbench301", "cifar10"): ("params, l2_norm, flops", 0.497),
}
EQUAL_FREQ = {
    ("nasbench201", "cifar10"): ("jacov, params, synflow", 0.892),
    ("nasbench201", "cifar100"): ("synflow, params, l2_norm", 0.806),
    ("nasbench201", "ImageNet16-120"): ("synflow, params, l2_norm", 0.804),
}
PAIRS = {
    MIN_IG: ("synflow, jacov", 0.889),
    MAX_IG: ("synflow, params", 0.789),
    dataclasses.replace(MAX_IG, pool="all"): ("synflow, plain", 0.403),
}
PUBLISHED = [
    *((*key, LibraOptions(), *found) for key, found in EQUAL_WIDTH.items()),
    *((*key, RANK_BINS, *found) for key, found in EQUAL_FREQ.items()),
    *(("nasbench201", "ImageNet16-120", *pair) for pair in ((o, *f) for o, f in PAIRS.items())),
    ("nasbench101", "cifar10", LibraOptions(rule="rank_sum"), "flops, params, synflow", 0.740),
    ("nasbench101", "cifar10", LibraOptions(second="none", third="none"), "flops", 0.72),
    ("nasbench301", "cifar10", LibraOptions(second="none", third="none"), "params", 0.51),
]


@pytest.mark.parametrize(("space", "dataset", "options", "chosen", "rho"), PUBLISHED)
def test_table_of_methods(first500, space, dataset, options, chosen, rho):
    found = libra.evaluate(*first500(space, dataset), options)
    assert ", ".join(found.selection.proxies) == chosen
    digits = 2 if options.second == "none" else 3
    assert round(found.in_sample, digits) == rho


def test_worked_oracle_of_nasbench301():
    """Worked by hand: rho of NAS-Bench-Suite-Zero, gains given nwot, biases; b_y = .47."""
    figures = {  # rho, gain, bias
        "nwot": (0.47, 0.0, 0.95),
        "params": (0.46, 0.61, 1.0),
        "l2_norm": (0.45, 0.57, 0.99),
        "zen": (0.43, 0.73, 0.99),
        "flops": (0.42, 0.69, 0.99),
        "grasp": (0.34, 0.0, 0.24),
        "fisher": (-0.28, 0.0, 0.17),
    }
    candidates = [Candidate(name, *values) for name, values in figures.items()]
    # zen and flops are as far from .47; the alphabet decides.
    assert libra.choose(candidates, 0.47) == ("nwot", "l2_norm", "flops")
    assert libra.choose(candidates[::-1], 0.47) == ("nwot", "l2_norm", "flops")


def candidates(**figures):
    return [Candidate(name, *values) for name, values in figures.items()]


POOL = candidates(
    nwot=(0.7, 0.0, 0.9),
    snip=(0.69, 0.5, 0.1),
    zen=(0.66, 0.2, 0.6),
    fisher=(0.65, 0.4, 0.3),
    plain=(-0.3, 0.9, -0.02),
)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, "nwot, zen, fisher"),
        ({"second": "max_ig"}, "nwot, snip, fisher"),
        ({"second": "max_ig", "pool": "all"}, "nwot, plain, fisher"),
        ({"second": "gradient_free", "third": "none"}, "nwot, zen"),
        ({"second": "gradient_based", "third": "none"}, "snip, fisher"),
        ({"second": "mixed", "third": "none"}, "nwot, snip"),
        ({"second": "none", "third": "none"}, "nwot"),
        ({"third": "min_bias"}, "nwot, zen, snip"),
        ({"third": "min_bias", "pool": "all"}, "nwot, zen, plain"),
        ({"window": 0.045}, "nwot, zen, snip"),  # fisher is out
        ({"window": 0.02}, "nwot, snip"),  # one in the window
        ({"window": 0.005}, "nwot"),  # none
        ({"window": 0.0}, "nwot"),
    ],
)
def test_switches(options, chosen):
    assert libra.choose(POOL, 0.35, LibraOptions(**options)) == tuple(chosen.split(", "))


def test_the_lower_end_of_the_window_is_outside():
    assert libra.choose(
        candidates(a=(0.5, 0, 0), b=(0.25, 0, 0)), 0, LibraOptions(window=0.25)
    ) == ("a",)


def test_ties_are_alphabetical():
    tied = candidates(d=(0.5, 0.1, 0.2), c=(0.5, 0.1, 0.2), b=(0.5, 0.1, 0.2), a=(0.4, 0.1, 0.2))
    assert libra.choose(tied, 0.0, LibraOptions(window=0.2)) == ("b", "a", "c")


def test_random_choices_are_seeded_and_cover_the_pool():
    def chosen(seed, **options):
        return libra.choose(POOL, 0.35, LibraOptions(**options, seed=seed))

    pairs = {frozenset(chosen(s, second="random", third="none")) for s in range(100)}
    assert len(pairs) == 10
    assert {len(pair) for pair in pairs} == {2}
    assert {chosen(s, third="random")[2] for s in range(40)} == {"snip", "fisher"}
    everyone = {chosen(s, third="random", pool="all")[2] for s in range(40)}
    assert everyone == {"snip", "fisher", "plain"}
    assert chosen(3, second="random") == chosen(3, second="random")


class Benchmark(NamedTuple):
    """The arrays that a choice is made by."""

    scores: dict[str, np.ndarray]
    accuracy: np.ndarray
    params: np.ndarray


@pytest.fixture
def benchmark(rng) -> Benchmark:
    """A good proxy, a reversed one, size, and a proxy that fails for some."""
    accuracy, params = rng.normal(size=(2, 200))
    noise = rng.normal(size=(3, 200))
    scores = {
        "good": accuracy + noise[0],
        "reversed": -3 * (accuracy + 0.1 * noise[1]) + 7,
        "size": params,
        "fails": np.where(np.arange(200) % 10, accuracy + noise[2], np.nan),
    }
    return Benchmark(scores, accuracy, params)


def test_signed_and_absolute_orientation(benchmark):
    scores, accuracy, _ = benchmark
    signed = libra.select(*benchmark)
    assert signed.fitness.proxies[0] == "good"
    assert "reversed" not in signed.proxies
    absolute = libra.select(*benchmark, LibraOptions(abs_rho=True, window=0.5))
    assert absolute.fitness.proxies[0] == "reversed"
    assert absolute.fitness.flipped == ("reversed",)
    figures = {c.name: c for c in absolute.candidates}["reversed"]
    assert figures.rho == pytest.approx(stats.spearmanr(-scores["reversed"], accuracy).statistic)
    alone = libra.select(*benchmark, LibraOptions(abs_rho=True, second="none", third="none"))
    merged = alone.fitness.merge(scores)
    assert stats.spearmanr(merged, accuracy).statistic == pytest.approx(figures.rho)


@pytest.mark.parametrize(
    "options", [LibraOptions(), LibraOptions(fill="worst_rank", bias="raw")], ids=["default", "raw"]
)
def test_figures_are_those_of_scipy(benchmark, options):
    scores, accuracy, params = benchmark
    ranked = scores | {"fails": np.nan_to_num(scores["fails"], nan=-1e9)}
    found = {c.name: c for c in libra.select(*benchmark, options).candidates}
    for name, values in ranked.items():
        assert found[name].rho == pytest.approx(stats.spearmanr(values, accuracy).statistic)
        expected = stats.spearmanr(values, params).statistic
        if options.bias == "raw":
            there = values > -1e8
            expected = stats.pearsonr(values[there], params[there]).statistic
        assert found[name].bias == pytest.approx(expected)


def test_fills(benchmark):
    """A value of -1e8 empties all other bins of equal width; a bin of failures does not."""
    gain, n = {}, {}
    for fill in ("-1e8", "worst_rank", "drop"):
        found = libra.select(*benchmark, LibraOptions(fill=fill, window=0.5))
        gain[fill] = {c.name: c.ig for c in found.candidates}["fails"]
        n[fill] = found.n
    assert gain["-1e8"] < 0.3 < 0.5 < gain["worst_rank"]
    assert n == {"-1e8": 200, "worst_rank": 200, "drop": 180}


@pytest.mark.parametrize("value", [-1e8, -np.inf, np.inf])
def test_kinds_of_failure_are_one(benchmark, value):
    scores, accuracy, params = benchmark
    other = scores | {"fails": np.nan_to_num(scores["fails"], nan=value, posinf=value)}
    expected = libra.select(*benchmark).to_json()
    assert libra.select(other, accuracy, params).to_json() == expected


def test_a_proxy_that_failed_on_all_of_a_half():
    """Its bias over no values was an error of NumPy; it ties for the worst there."""
    y = np.arange(8.0)
    few = np.where(y == 0, 1.0, -np.inf)
    options = LibraOptions(fill="worst_rank", bias="raw")
    found = libra.evaluate({"few": few, "good": y}, y, y % 3, options)
    assert found.split_proxies == (("good",),) * 5


def test_best_counted_twice(benchmark):
    once, twice = (
        libra.select(*benchmark, LibraOptions(double_best=double, rule="rank_sum", window=0.5))
        for double in (False, True)
    )
    assert twice.proxies == once.proxies
    scores = benchmark.scores
    failed_last = {
        name: np.nan_to_num(v, nan=-np.inf, neginf=-np.inf) for name, v in scores.items()
    }
    difference = twice.fitness.merge(failed_last) - once.fitness.merge(failed_last)
    np.testing.assert_allclose(difference, stats.rankdata(failed_last[once.proxies[0]]))


def test_permutation_null_says_what_is_chance(rng):
    y, first = rng.normal(size=(2, 400))
    scores = {"a": y + first, "b": y - first, "noise": rng.normal(size=400)}
    few = LibraOptions(bins="equal_freq", n_bins="cube_root", permutations=50)
    p_values = {c.name: c.p_value for c in libra.select(scores, y, first, few).candidates}
    assert p_values["b"] < 0.05 < p_values["noise"]


def test_split_halves_do_not_see_each_other(benchmark):
    """Each seed's choice is made on one half and judged on the other."""
    scores, accuracy, params = benchmark
    found = libra.evaluate(*benchmark, LibraOptions(window=0.5), seeds=3)
    assert found.split_half.shape == (3,)
    order = np.random.default_rng(2).permutation(200)
    half, rest = order[:100], order[100:]
    picked = libra.select(
        {k: v[half] for k, v in scores.items()},
        accuracy[half],
        params[half],
        LibraOptions(window=0.5),
    )
    assert picked.proxies == found.split_proxies[2]
    on_rest = {k: np.nan_to_num(v[rest], nan=-np.inf) for k, v in scores.items()}
    rho = stats.spearmanr(picked.fitness.merge(on_rest), accuracy[rest]).statistic
    assert found.split_half[2] == pytest.approx(rho)


def test_chance_looks_good_in_sample_only(rng):
    """Of many proxies of pure noise the best looks like one, until it meets new architectures."""
    scores = {f"noise{i}": rng.normal(size=60) for i in range(200)}
    found = libra.evaluate(scores, rng.normal(size=60), rng.normal(size=60), seeds=20)
    assert found.in_sample > 0.4
    assert abs(found.split_half.mean()) < 0.2


def test_saved_selection_is_a_fitness(benchmark, tmp_path):
    path = tmp_path / "selection.json"
    found = libra.select(*benchmark, LibraOptions(abs_rho=True, rule="vote"))
    found.save(path, dataset="made up")
    assert Fitness.load(path) == found.fitness
    content = json.loads(path.read_text())
    assert content["dataset"] == "made up"
    assert content["options"]["rule"] == "vote"
    assert [c["name"] for c in content["candidates"]] == ["fails", "good", "reversed", "size"]


Y = np.arange(6.0)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: libra.select({"a": Y[:1]}, Y[:1], Y[:1]), "at least 2 architectures, got 1"),
        (lambda: libra.select({"a": Y}, Y * 0, Y), "all 6 accuracies are 0"),
        (lambda: libra.select({"a": Y * np.nan}, Y, Y), "proxy 'a' has no value"),
        (lambda: libra.select({"a": Y * 0 - 1e8}, Y, Y), "proxy 'a' has no value"),
        (lambda: libra.select({}, Y, Y), "at least one proxy"),
        (lambda: libra.select({"a": Y[1:]}, Y, Y), r"a must be \[P\] as accuracy, got \(5,\)"),
        (lambda: libra.select({"a": Y}, Y, Y / 0), "params must be finite, got nan"),
        (lambda: libra.select({"a": Y[:0]}, Y[:0], Y[:0]), "at least 2 architectures, got 0"),
        (
            lambda: libra.evaluate({"a": Y}, np.array([1, 1, 1, 2, 1, 1]), Y),
            r"all 3 accuracies of a half \(seed 0\) are 1: give more architectures",
        ),
        (lambda: libra.choose([], 0), "candidates must be at least one, each named once"),
        (lambda: libra.choose([POOL[0], POOL[0]], 0), r"each named once, got \['"),
        (lambda: libra.evaluate({"a": Y[:3]}, Y[:3], Y[:3]), "at least 4 architectures, got 3"),
        (lambda: LibraOptions(bins="wide"), "bins must be one of"),
        (lambda: LibraOptions(n_bins=1), "n_bins must be one of"),
        (lambda: LibraOptions(window=-0.1), "window must be a number of at least 0, got -0.1"),
        (lambda: LibraOptions(rule="best"), "unknown merge rule 'best'"),
        (
            lambda: libra.choose(POOL[1:2], 0, LibraOptions(second="gradient_free")),
            "needs more proxies",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value|divide by zero:RuntimeWarning")
def test_errors(call, expected):
    with pytest.raises(ValueError, match=expected) as error:
        call()
    assert "\n" not in str(error.value)
