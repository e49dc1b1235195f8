"""Layer profile against exact networks; pickers by hand; oracle by brute force; the file."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lswag_jax
from lswag_jax import proxies
from lswag_jax.analysis import layer_profile, window
from lswag_jax.analysis.layer_profile import STATISTICS, LayerProfile
from lswag_jax.arrays import enable_x64
from lswag_jax.capture import tape
from lswag_jax.scoring import programs
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces import AutoFormer
from tests.helpers.batches import Batch

SPACE = AutoFormer(
    "t",
    (8, 16),
    (1, 2),
    (2.0, 3.0),
    (1, 2),
    head_dim=8,
    relative_position=False,  # compiles faster
    image_size=8,
    patch_size=4,
    num_classes=3,
)

GENOTYPES = [SPACE.parse(text) for text in ("16/1/2", "8/2,1/3,2")]
NAN = np.nan


@pytest.fixture(scope="module")
def batch():
    return Batch(np.random.default_rng(0).normal(size=(6, 8, 8, 3)), np.arange(6) % 3)


@pytest.fixture(scope="module")
def variables():
    """Initial weights of the elastic network, seed 3, float64."""
    with enable_x64(True):
        return programs.initial_variables(SPACE, 3, np.dtype(float))


@pytest.fixture(scope="module")
def table(batch):
    """L-SWAG and the layer profile of two networks, float64."""
    with enable_x64(True):
        return lswag_jax.score(SPACE, GENOTYPES, *batch, ("lswag", LayerProfile()), seed=3)


def sigmas(genotype, variables, images, labels) -> list[np.ndarray]:
    """Standard deviations of |gradient| of each kernel of the exact network, one sample a time."""
    variables, module = SPACE.extract(variables, genotype), SPACE.build(genotype)

    def loss(params, image, label):
        logits = module.apply(variables | {"params": params}, image[None])
        return tape.cross_entropy(logits, label[None])[0]

    gradient = jax.jit(jax.grad(loss))
    samples = [gradient(variables["params"], *pair) for pair in zip(images, labels, strict=True)]
    grads = jax.tree.map(lambda *g: np.stack(g), *samples)
    order = [grads["patch_embed"]]
    for i in range(genotype.depth):
        block = grads[f"blocks_{i}"]
        order += [block["attn"]["qkv"], block["attn"]["proj"]]
        order += [block["mlp"]["fc1"], block["mlp"]["fc2"]]
    return [np.abs(g["kernel"]).std(0) for g in [*order, grads["head"]]]


FORMULAS = {
    "mean_log_sigma": lambda s: np.log(s).mean(),
    "log_mean_sigma": lambda s: np.log(s.mean()),
    "log_sum_sigma": lambda s: np.log(s.sum()),
    "lambda_l": lambda s: np.log((1 / s).sum()),
}


@given(st.lists(st.floats(1e-12, 1e6), min_size=1, max_size=30), st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_layer_statistics_leave_padding_out(values, padding):
    with enable_x64(True):
        for name in STATISTICS:
            padded = jax.numpy.array([0.0] * padding + values)
            expected = FORMULAS[name](np.array(values))
            got = float(layer_profile.layer_statistic(padded, name))
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.usefixtures("x64")
def test_profile_is_that_of_exact_networks(batch, variables, table):
    parts, pooled = table.parts["layer_profile"], [[] for _ in range(10)]
    for i, genotype in enumerate(GENOTYPES):
        layers = sigmas(genotype, variables, *batch)
        expected = [FORMULAS["mean_log_sigma"](s[s > 0]) for s in layers]
        bins = [i * 10 // len(layers) for i in range(len(layers))]
        there = parts["bins"][i] >= 0
        assert parts["bins"][i][there].tolist() == bins
        np.testing.assert_allclose(parts["values"][i][there], expected, rtol=1e-8)
        assert np.isnan(parts["values"][i][~there]).all()
        # The same deviations make L-SWAG's lambda_l.
        expected_lambda = [FORMULAS["lambda_l"](s[s > 0]) for s in layers]
        np.testing.assert_allclose(
            table.parts["lswag"]["lambda_l"][i][there], expected_lambda, rtol=1e-8
        )
        for b, value in zip(bins, expected, strict=True):
            pooled[b].append(value)
    result = layer_profile.aggregate(table)
    assert result.count.tolist() == [len(values) for values in pooled]
    for b, values in enumerate(pooled):
        expected = (np.mean(values), np.std(values)) if values else (NAN, NAN)
        np.testing.assert_allclose((result.mean[b], result.std[b]), expected, rtol=1e-8)
    np.testing.assert_array_equal(table.parts["lswag"]["bins"], parts["bins"])


@pytest.mark.usefixtures("x64")
def test_a_model_of_its_own_has_the_profile_of_the_elastic_one(batch, variables, table):
    variables, module = SPACE.extract(variables, GENOTYPES[0]), SPACE.build(GENOTYPES[0])
    exact = lswag_jax.score_model(module, variables, *batch, LayerProfile())
    elastic = table.parts["layer_profile"]
    np.testing.assert_allclose(
        exact.parts["layer_profile"]["values"][0],
        elastic["values"][0][elastic["bins"][0] >= 0],
        rtol=1e-8,
    )


def test_profile_draws_its_own_networks_and_repeats_itself(batch):
    options = {"n": 3, "seed": 5, "gradient_batch": 4}
    first = layer_profile.profile(SPACE, *batch, **options)
    again = layer_profile.profile(SPACE, *batch, statistic=LayerProfile(), **options)
    np.testing.assert_array_equal(first.mean, again.mean)
    assert (first.networks, first.statistic) == (3, "mean_log_sigma")
    own = layer_profile.random_genotypes(SPACE, 40, 5)
    assert own != SPACE.sample(np.random.default_rng(5), 40)
    assert own[:3] == layer_profile.random_genotypes(SPACE, 3, 5)


def profile_table(values, bins, rule="zero_based") -> ScoreTable:
    """A table as if networks with these values and bins had been scored."""
    rows = [
        {"id": str(i), "genotype": None, "params": 1, "macs": 1, "seconds": 0.0}
        | {"degenerate": [False]}
        | {"parts": {"layer_profile": {"score": [np.mean(v)], "values": [v], "bins": [b]}}}
        for i, (v, b) in enumerate(zip(values, bins, strict=True))
    ]
    return ScoreTable(rows, [LayerProfile(bins=rule)])


def test_failed_networks_and_unmeasured_layers_have_no_say():
    bad = profile_table([[1.0, 2.0], [3.0, np.inf], [5.0, 8.0]], [[0, 5], [0, 5], [0, 9]])
    result = layer_profile.aggregate(bad)
    assert result.networks == 2
    assert result.count.tolist() == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (result.mean[0], result.std[0], result.mean[5]) == (3.0, 2.0, 2.0)
    assert np.isnan(result.mean[1])
    with pytest.raises(ValueError, match="none of the 1 networks"):
        layer_profile.aggregate(profile_table([[np.inf]], [[0]]))
    literal = profile_table([[1.0, 2.0]], [[5, 10]], "literal")
    assert layer_profile.aggregate(literal).count.tolist() == [0] * 5 + [1] + [0] * 4 + [1]


def test_profile_arguments_are_checked(batch):
    with pytest.raises(ValueError, match="statistic of profile must be one of"):
        layer_profile.profile(SPACE, *batch, statistic="median")
    with pytest.raises(ValueError, match="at least 1 network, got 0"):
        layer_profile.profile(SPACE, *batch, n=0)
    with pytest.raises(ValueError, match="has no layer_profile, it has params"):
        layer_profile.aggregate(ScoreTable([], proxies.resolve("params")))
    assert "layer_profile" not in proxies.names()


# Where the means alternate, their median is 0 and the MAD 1, hence z = m / 1.4826.
@pytest.mark.parametrize(
    ("mean", "options", "expected"),
    [
        ([0, 0, 0, 9, 9, 0, 0, 0, 0, 0], {}, (3, 4)),  # MAD of 0
        ([0, 0, 1, 9, 0, 8, 0, 0, 7, 1], {}, (3, 5)),  # a gap of one bin, then one of two
        ([0, 0, 1, 9, 0, 8, 0, 0, 7, 1], {"hull": True}, (3, 8)),
        ([5, 0, 5, 0, 0, 0, 0, 9, 9, 0], {}, (7, 8)),  # a gap adds nothing to a run's length
        ([5, 5, 0, 0, 0, 0, 0, 0, 6, 6], {}, (8, 9)),  # tie: the larger sum of z
        ([6, 6, 0, 0, 0, 0, 0, 0, 6, 6], {}, (0, 1)),  # tie of sums: the first
        ([1, -1, 1, -1, 1, -1, 1, -1, 1, -1], {}, (0, 0)),  # nothing above tau: argmax
        ([1, -1, 1, -1, 1, -1, 1, -1, 1.4, -1], {}, (8, 8)),
        ([1, -1, 1, -1, 1, -1, 1, -1, 2, -1], {"tau": 0.5}, (0, 8)),
        ([7] * 10, {}, (0, 0)),
        ([9, 0, 0, 0, 0, 0, 0, 0, 0, 9], {"hull": True}, None),  # all bins are refused
        ([NAN, 9, 0, 0, 0, NAN, 0, 0, 9, NAN], {"hull": True}, None),  # all that have a layer
        ([NAN, 0, 9, NAN, 9, 0, 0, NAN, 0, NAN], {}, (2, 4)),  # NaN is no candidate
        ([NAN] * 9 + [2], {}, None),
    ],
)
def test_pick(mean, options, expected):
    assert window.pick(mean, **options) == expected


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ([0, 0, 5, 5, 5, 5, 0, 0, 0, 0], (1, 5)),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 9], (8, 8)),
        ([0, NAN, 9, 9, 9, 9, 9, 9, 9, 9], (0, 0)),
        ([3] * 10, (0, 0)),
        ([NAN, 4] + [NAN] * 8, None),
    ],
)
def test_pick_steep(mean, expected):
    assert window.pick_steep(mean) == expected


@pytest.mark.parametrize("pick", [window.pick, window.pick_steep])
def test_a_profile_without_a_mean_is_refused(pick):
    with pytest.raises(ValueError, match="no bin of the profile has a finite mean"):
        pick([NAN] * 10)


MEANS = st.lists(st.integers(-20, 20), min_size=10, max_size=10)


@given(MEANS, st.integers(1, 50), st.integers(-50, 50), st.booleans())
def test_pick_does_not_depend_on_scale_or_offset(mean, scale, offset, hull):
    mean = np.array(mean, float)
    assert window.pick(mean, hull=hull) == window.pick(mean * 2.0**scale + offset * 4, hull=hull)


@given(MEANS)
def test_the_hull_holds_the_longest_run(mean):
    run, hull = window.pick(mean), window.pick(mean, hull=True)
    assert run is None or 0 <= run[0] <= run[1] <= 9
    if run is not None and hull is not None:
        assert hull[0] <= run[0] <= run[1] <= hull[1]


def brute_force(lambda_l, bins, psi, truth):
    """Spearman of all 55 windows, straight from the definition."""
    rhos = {}
    for lo in range(10):
        for hi in range(lo, 10):
            scores = []
            for p in range(len(truth)):
                terms = [v for v, b in zip(lambda_l[p], bins[p], strict=True) if lo <= b <= hi]
                scores.append(sum(terms) * psi[p, hi] if terms else -np.inf)
            ranks = stats.rankdata(scores)
            varies = len(set(ranks)) > 1
            rhos[lo, hi] = stats.spearmanr(ranks, truth).statistic if varies else 0.0
    return rhos


@pytest.mark.parametrize("of_each_window", [False, True])
def test_oracle_is_brute_force(of_each_window, rng):
    truth = rng.normal(size=20)
    lambda_l = rng.uniform(1, 9, size=(20, 12))
    lambda_l[:, 5] += 4 * truth + 15
    bins = np.sort(rng.integers(0, 10, size=(20, 12)), axis=1)
    bins[:4, -3:] = -1
    lambda_l[:4, -3:] = 0
    per_end = np.sort(rng.integers(1, 99, size=(20, 10)), axis=1)
    psi = per_end if of_each_window else per_end[:, 4]
    rhos = brute_force(lambda_l, bins, np.broadcast_to(psi.reshape(20, -1), (20, 10)), truth)
    best = window.oracle(lambda_l, bins, psi, truth)
    assert best.window == max(rhos, key=rhos.get)
    assert best.rho == pytest.approx(max(rhos.values()), abs=1e-12)
    assert best.rho_all == pytest.approx(rhos[0, 9], abs=1e-12)


@pytest.mark.usefixtures("x64")
def test_parts_hold_what_the_oracle_needs(batch, table):
    """Lambda of a window, from the parts over all layers, is that of LSwag(window=...)."""
    one = proxies.get("lswag", window=(3, 6))
    narrow = lswag_jax.score(SPACE, GENOTYPES, *batch, one, seed=3).parts["lswag"]
    parts = table.parts["lswag"]
    used = (parts["bins"] >= 3) & (parts["bins"] <= 6)
    lam = np.where(used, parts["lambda_l"], 0).sum(1)
    np.testing.assert_allclose(lam, narrow["lambda"], rtol=1e-8)
    best = window.oracle(parts["lambda_l"], parts["bins"], parts["psi"], np.arange(2))
    assert best.rho >= best.rho_all
    with pytest.raises(ValueError, match=r"bins \[P, n\] and psi"):
        window.oracle(parts["lambda_l"], parts["bins"][:, 1:], parts["psi"], np.arange(2))


def test_file_round_trip(tmp_path):
    path = tmp_path / "window.json"
    mean = np.array([1.0, NAN] + [0.5] * 8)
    profile = layer_profile.Profile(mean, mean, np.arange(10), 4, "lambda_l")
    for chosen in ((3, 7), None):
        window.save(path, chosen, profile, space="t", seed=0)
        assert window.load(path) == window.parse(str(path)) == chosen
    content = json.loads(path.read_text())
    assert content["profile"]["mean"][:3] == [1.0, None, 0.5]
    assert (content["space"], content["profile"]["networks"]) == ("t", 4)
    window.save(path, (3, 10))
    assert window.load(path, "literal") == (3, 10)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a readable JSON file of a window"),
        ("{", "is not a readable JSON file of a window"),
        ("[1, 2]", "holds no window"),
        ('{"bins": 1}', "holds no window"),
        ('{"window": [7, 3]}', "holds a bad window: window must hold bins 0 <="),
        ('{"window": "all"}', "holds a bad window: window must be None or two bins"),
        ('{"window": [1, 2.9]}', "holds a bad window: window must be None or two bins"),
        ('{"window": [true, 2]}', "holds a bad window: window must be None or two bins"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "window.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        window.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["3,7", "3, 7", "manual:3,7", (3, 7), [3, 7]])
def test_parse(spec):
    assert window.parse(spec) == (3, 7)


def test_parse_of_all_and_of_literal_bins():
    assert window.parse("all") is window.parse(None) is None
    assert window.parse("3,10", "literal") == (3, 10)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("manual:7,3", "bins 0 <= first <= last <= 9"),
        ("3,10", "bins 0 <= first <= last <= 9"),
        ("upper", "must be 'all', two bins such as '3,7', or the path"),
        ("manual:3", "must be 'all', two bins"),
        ((1, 2, 3), "None or two bins"),
    ],
)
def test_parse_refuses(spec, message):
    with pytest.raises(ValueError, match=message):
        window.parse(spec)
