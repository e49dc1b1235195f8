"""Rank statistics against SciPy, by hand where SciPy has none, and their intervals."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lswag_jax import spaces
from lswag_jax.analysis import correlation, correlation_parts
from lswag_jax.analysis import report as correlation_report
from lswag_jax.analysis.converters import convert
from lswag_jax.analysis.tables import GroundTruth, Records

VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(-np.inf))


def columns(k: int):
    """`k` columns of one length, with ties and failures."""
    rows = st.lists(st.tuples(*[VALUES] * k), min_size=3, max_size=40)
    return rows.map(lambda r: tuple(np.array(r, float).T))


def varies(*arrays) -> bool:
    return all(len(np.unique(a)) > 1 for a in arrays)


@given(columns(2))
def test_spearman_and_kendall_are_scipys(xy):
    x, y = xy
    if varies(x, y):
        assert correlation.spearman(x, y) == pytest.approx(
            stats.spearmanr(stats.rankdata(x), stats.rankdata(y)).statistic, abs=1e-12
        )
        assert correlation.kendall(x, y) == stats.kendalltau(x, y).statistic
    else:
        for statistic in (correlation.spearman, correlation.kendall):
            assert statistic(x, y) == 0.0
            assert np.isnan(statistic(x, y, undefined=np.nan))


@settings(deadline=None, max_examples=200)
@given(columns(2))
def test_weighted_tau_is_scipys(xy):
    x, y = xy
    expected = stats.weightedtau(x, y).statistic
    found = correlation.weighted_kendall(x, y, undefined=np.nan)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    if not varies(x, y):
        assert correlation.weighted_kendall(x, y) == 0.0


@given(columns(2), st.data())
def test_top_overlap_is_the_mean_over_orders_of_ties(xy, data):
    """Against draws of random orders; exact where nothing ties at the border."""
    k = data.draw(st.integers(1, len(xy[0])))
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        tops = [set(np.lexsort((rng.random(len(v)), -v))[:k].tolist()) for v in xy]
        shares.append(len(tops[0] & tops[1]) / k)
    found = correlation_parts.top_overlap(*xy, k)
    assert found == pytest.approx(np.mean(shares), abs=5 * np.std(shares) / 20 + 1e-12)
    assert correlation_parts.top_overlap(*xy, len(xy[0])) == pytest.approx(1)


def test_ndcg_by_hand():
    """Gains of 7, 3, 1 and 0 at discounts of 1, log 2 / log 3 and 1 / 2."""
    y, second = [3.0, 2.0, 1.0, 0.0], np.log(2) / np.log(3)
    best = 7 + 3 * second + 1 / 2
    assert correlation_parts.ndcg([4, 3, 2, 1], y, 3) == pytest.approx(1)
    worst = 0 + 1 * second + 3 / 2
    assert correlation_parts.ndcg([1, 2, 3, 4], y, 3) == pytest.approx(worst / best)
    assert correlation_parts.ndcg([-np.inf, 9, 8, 7], y, 1) == pytest.approx(3 / 7)
    # The last two of the first three places are shared by the gains of 7 and 1.
    tied = 3 + (7 + 1) / 2 * (second + 1 / 2)
    assert correlation_parts.ndcg([0, 1, 0, -1], y, 3) == pytest.approx(tied / best)
    # The border is among the ties: each of three has the mean of one place and two behind it.
    assert correlation_parts.ndcg([1, 0, 0, 0], y, 2) == pytest.approx(
        (7 + (3 + 1 + 0) / 3 * second) / (7 + 3 * second)
    )
    assert correlation_parts.ndcg([1, 2], [0, 0], 1) == 0
    assert correlation_parts.ndcg([1, 2], [5000, 4998], 2) < 1  # 2^5000 is past float64


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([1, 2], 0, "p must be from 1 to the 2 architectures, got 0"),
        ([1, -2], 1, "must be at least 0, got -2"),
        ([1, np.nan], 1, "must not hold NaN"),
    ],
)
def test_ndcg_arguments_are_checked(y, p, message):
    with pytest.raises(ValueError, match=message):
        correlation_parts.ndcg([1, 2], y, p)


def test_regret_within_bins_and_within_best(rng):
    x, y, sizes = rng.normal(size=(3, 100))
    assert correlation_parts.regret(x, y) == y.max() - y[x.argmax()]
    assert correlation_parts.regret(y, y) == 0
    assert correlation_parts.regret([1, 1, 0], [4, 6, 9]) == 4
    found = correlation_parts.within_bins(x, y, sizes)
    for rho, part in zip(found, np.split(np.argsort(sizes), 5), strict=True):
        assert rho == pytest.approx(stats.spearmanr(x[part], y[part]).statistic)
    assert np.isnan(correlation_parts.within_bins(x, y, np.ones(100))[1:]).all()
    best = np.argsort(-y)[:10]
    expected = stats.spearmanr(x[best], y[best]).statistic
    assert correlation_parts.within_best(x, y, 0.1) == pytest.approx(expected)
    assert correlation_parts.within_best(x, y, 1.0) == correlation.spearman(x, y)


@pytest.fixture(scope="module")
def nasbench201(shared_data):
    path = shared_data / "tables" / "nasbench201.csv.gz"
    return convert("nasbench201_csv", path, spaces.get("nasbench201"))


@pytest.mark.parametrize(
    ("dataset", "proxy", "expected"),
    [
        ("cifar10", "freerea_naswot", (0.793, 0.543, -0.061)),
        ("cifar10", "freerea_logsynflow", (0.826, 0.612, 0.191)),
        ("cifar100", "freerea_synflow", (0.761, 0.583, 0.391)),
        ("ImageNet16-120", "freerea_naswot", (0.780, 0.609, 0.252)),
    ],
)
def test_restricted_ranges_of_published_proxies(nasbench201, dataset, proxy, expected):
    """As measured by other code: all of NAS-Bench-201, its best half, its best tenth."""
    x, y = (nasbench201.values(dataset, m) for m in (proxy, "test_accuracy"))
    found = [correlation_parts.within_best(x, y, fraction) for fraction in (1, 0.5, 0.1)]
    assert found == pytest.approx(expected, abs=2e-3)


@given(columns(3))
def test_partial_spearman_is_the_closed_form(xyz):
    x, y, z = xyz
    xy, xz, yz = (
        correlation.spearman(*pair, undefined=np.nan) for pair in ((x, y), (x, z), (y, z))
    )
    partial = correlation.partial_spearman(x, y, z, undefined=np.nan)
    if not varies(x, y) or max(np.nan_to_num(xz**2), np.nan_to_num(yz**2)) > 1 - 1e-12:
        assert np.isnan(partial)
        assert correlation.partial_spearman(x, y, z) == 0.0
    elif not varies(z):
        assert partial == pytest.approx(xy, abs=1e-12)
    else:
        expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
        assert partial == pytest.approx(expected, abs=1e-9)


def test_partial_spearman_is_the_correlation_of_rank_residuals(rng):
    z = rng.integers(0, 9, 200)
    x, y = z + rng.normal(size=200), z - rng.normal(size=200)
    design = np.stack([np.ones(200), stats.rankdata(z)], axis=1)
    rests = []
    for values in (x, y):
        ranks = stats.rankdata(values)
        rests.append(ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0])
    expected = stats.pearsonr(*rests).statistic
    assert correlation.partial_spearman(x, y, z) == pytest.approx(expected, abs=1e-12)
    assert correlation.partial_spearman(z, y, z) == 0.0


@pytest.mark.parametrize(
    ("statistic", "count"),
    [(correlation.spearman, 2), (correlation.kendall, 2), (correlation.partial_spearman, 3)],
)
def test_statistics_take_many_rows_at_once(rng, statistic, count):
    arrays = rng.integers(0, 5, (3, 4, 2, 12)).astype(float)[:count]
    together = statistic(*arrays)
    assert together.shape == (4, 2)
    for i in np.ndindex(4, 2):
        assert together[i] == pytest.approx(statistic(*(a[i] for a in arrays)))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("statistic", [correlation.spearman, correlation.kendall])
def test_too_few_points_are_undefined(statistic, n):
    assert statistic(np.zeros(n), np.zeros(n)) == 0.0
    assert np.isnan(statistic(np.zeros(n), np.zeros(n), undefined=np.nan))


def test_failures_share_the_worst_rank():
    expected = correlation.spearman([0, 0, 1, 2], [1, 2, 4, 3])
    assert correlation.spearman([-np.inf, -np.inf, 5, 9], [1, 2, 4, 3]) == expected


@pytest.mark.parametrize("statistic", [correlation.spearman, correlation.kendall])
def test_bad_arrays_are_refused_in_one_sentence(statistic):
    with pytest.raises(ValueError, match=r"must not hold NaN, got \[1, 0\]"):
        statistic([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match=r"must have one shape \[\.\.\., n\], got"):
        statistic([1, 2], [1, 2, 3])


@pytest.mark.parametrize("statistic", [correlation.spearman, correlation.kendall])
def test_bootstrap_is_the_quantiles_of_resampled_statistics(rng, statistic):
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    index = np.random.default_rng(7).integers(30, size=(50, 30))
    values = [statistic(x[i], y[i]) for i in index]
    expected = np.quantile(values, [0.05, 0.95])
    got = correlation.bootstrap(statistic, x, y, n=50, seed=7, level=0.9)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_bootstrap_in_chunks_is_the_same(rng, monkeypatch):
    x, y = rng.normal(size=(2, 25))
    whole = correlation.bootstrap(correlation.spearman, x, y, n=40)
    monkeypatch.setattr(correlation, "_CHUNK", 60)
    assert correlation.bootstrap(correlation.spearman, x, y, n=40) == whole


def test_bootstrap_covers_the_true_value():
    """About 95 of 100 intervals hold Spearman's rho of a bivariate normal, 6/pi asin(r/2)."""
    truth, hits = 6 / np.pi * np.arcsin(0.25), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x, noise = rng.normal(size=(2, 150))
        y = 0.5 * x + np.sqrt(0.75) * noise
        low, high = correlation.bootstrap(correlation.spearman, x, y, n=200, seed=seed)
        hits += low <= truth <= high
    assert 87 <= hits <= 100


def test_paired_bootstrap_resamples_both_proxies_together(rng):
    truth = rng.normal(size=200)
    a = truth + 0.5 * rng.normal(size=200)
    statistic = correlation.spearman
    assert correlation.paired_bootstrap(statistic, a, 2 * a + 1, truth) == (0.0, 0.0)
    low, high = correlation.paired_bootstrap(statistic, a, rng.normal(size=200), truth)
    assert 0 < low < high
    flipped = correlation.paired_bootstrap(statistic, rng.normal(size=200), a, truth)
    assert flipped[1] < 0


@pytest.mark.parametrize("k", [0, 6])
def test_overlap_of_more_than_there_are_is_refused(k):
    x = np.arange(5.0)
    with pytest.raises(ValueError, match=f"k must be from 1 to the 5 architectures, got {k}"):
        correlation_parts.top_overlap(x, x, k)


@pytest.mark.parametrize(
    ("num", "options", "message"),
    [
        (1, {}, "at least 2 architectures, got 1"),
        (5, {"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
        (5, {"n": 0}, "n of bootstrap must be an integer from 1 to 10000000, got 0"),
    ],
)
def test_bootstrap_arguments_are_checked(num, options, message):
    x = np.arange(float(num))
    with pytest.raises(ValueError, match=message):
        correlation.bootstrap(correlation.spearman, x, x, **options)


def test_bootstrap_of_a_thousand_points_takes_about_a_second(rng):
    x, y = rng.normal(size=(2, 1000))
    start = time.process_time()
    correlation.bootstrap(correlation.spearman, x, y)
    correlation.bootstrap(correlation.kendall, x, y)
    assert time.process_time() - start < 5  # 0.6 s alone on one core


def test_summary(rng):
    truth = rng.normal(size=60)
    params = truth + rng.normal(size=60)
    good = truth + 0.3 * rng.normal(size=60)
    good[:3] = -np.inf
    dropped = np.where(np.isinf(good), np.nan, good)
    scores = {"good": good, "dropped": dropped, "flat": np.ones(60), "params": params}
    rows = {row["proxy"]: row for row in correlation_report.summary(scores, truth, params, n=100)}
    assert list(rows) == list(scores)
    row = rows["good"]
    assert row["rho"] == correlation.spearman(good, truth)
    assert row["tau"] == correlation.kendall(good, truth)
    assert row["partial_rho"] == correlation.partial_spearman(good, truth, params)
    interval = correlation.bootstrap(correlation.spearman, good, truth, n=100)
    assert (row["rho_low"], row["rho_high"]) == interval
    assert row["tau_low"] < row["tau"] < row["tau_high"]
    assert (row["n"], row["failures"], row["undefined"]) == (60, 3, False)
    assert row["weighted_tau"] == pytest.approx(stats.weightedtau(good, truth).statistic)
    assert row["top_overlap"] == correlation_parts.top_overlap(good, truth, 6)
    assert np.isnan(row["ndcg"])  # the truth is no accuracy
    within = [row[f"rho_size{i}"] for i in range(1, 6)]
    assert within == correlation_parts.within_bins(good, truth, params).tolist()
    assert rows["dropped"]["rho"] == correlation.spearman(good[3:], truth[3:])
    assert (rows["dropped"]["n"], rows["dropped"]["failures"]) == (57, 3)
    assert (rows["flat"]["rho"], rows["flat"]["undefined"]) == (0.0, True)
    assert (rows["params"]["partial_rho"], rows["params"]["partial_undefined"]) == (0.0, True)


def test_gain_over_a_reference(rng):
    truth = rng.normal(size=80)
    good, bad = truth + 0.3 * rng.normal(size=80), rng.normal(size=80)
    good[:5] = np.nan
    scores = {"good": good, "bad": bad}
    first, second = correlation_report.summary(scores, truth, reference="bad", n=100)
    pair = [correlation.spearman(v[5:], truth[5:]) for v in (good, bad)]
    assert first["gain"] == pair[0] - pair[1]
    arrays = good[5:], bad[5:], truth[5:]
    interval = correlation.paired_bootstrap(correlation.spearman, *arrays, n=100)
    assert (first["gain_low"], first["gain_high"]) == interval
    assert (second["gain"], second["gain_low"], second["gain_high"]) == (0, 0, 0)
    with pytest.raises(ValueError, match="no reference 'params' among good, bad"):
        correlation_report.summary(scores, truth, reference="params")


def test_no_resamples_no_intervals(rng):
    (row,) = correlation_report.summary({"a": rng.normal(size=9)}, rng.normal(size=9), n=0)
    assert np.isnan([row["rho_low"], row["tau_high"]]).all()


def test_summary_of_nothing_left_and_of_a_bad_truth():
    (row,) = correlation_report.summary({"a": [np.nan, np.nan]}, [1.0, 2.0])
    assert (row["n"], row["failures"], row["undefined"]) == (0, 2, True)
    assert np.isnan(row["rho_low"])
    assert "partial_rho" not in row
    with pytest.raises(ValueError, match="must not hold NaN"):
        correlation_report.summary({"a": [1.0, 2.0]}, [np.nan, 1.0])
    with pytest.raises(ValueError, match="one shape"):
        correlation_report.summary({"a": [1.0, 2.0, 3.0]}, [1.0, 2.0])


def test_report_of_data_sets_with_and_without_the_reference(rng):
    """What lacks the reference has no gain; a reference that no data set has is refused."""
    texts = [f"g{i}" for i in range(9)]
    metrics = {"a": ("val_accuracy", "zen", "nwot"), "b": ("val_accuracy", "zen")}
    records = [
        Records(dataset, metric, texts, rng.normal(size=9), "made in a test")
        for dataset, names in metrics.items()
        for metric in names
    ]
    table = GroundTruth.from_records(records)
    rows = correlation_report.report(table, "val_accuracy", reference="nwot", n=0)
    assert {(row["dataset"], row["proxy"]): "gain" in row for row in rows} == {
        ("a", "zen"): True,
        ("a", "nwot"): True,
        ("b", "zen"): False,
    }
    alone = correlation_report.report(table, "val_accuracy", ["a"], reference="nwot", n=0)
    np.testing.assert_equal([row for row in rows if row["dataset"] == "a"], alone)
    for arguments, options, message in (
        (("val_accuracy", ["b"]), {"reference": "nwot"}, "'nwot' has no value where val_accuracy"),
        (("top1",), {}, "no 'top1' on any of a, b, it has val_accuracy"),
        (("val_accuracy",), {"n": -3}, "n of summary must be an integer from 0 to [0-9]+, got -3"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            correlation_report.report(table, *arguments, **options)
        assert len(str(error.value).splitlines()) == 1
