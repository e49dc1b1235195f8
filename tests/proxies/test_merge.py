"""Merge rules against hand-worked numbers, SciPy's ranks and their invariances."""

import numpy as np
import pytest
from scipy import stats

from lswag_jax.proxies.merge import RULES, merge

# Ranks of the two proxies: 1, 2, 3, 4 and 1.5, 4, 3, 1.5 (a tie).
VALUES = np.array([[0.1, 0.2, 0.4, 0.8], [1.0, 5.0, 2.0, 1.0]])
BY_HAND = {
    "log_rank_sum": [np.log(1.5 / 16), np.log(8 / 16), np.log(9 / 16), np.log(6 / 16)],
    "rank_sum": [2.5, 6, 6, 5.5],
    "dense_rank_sum": [2, 5, 5, 5],
    "min_rank": [1, 2, 3, 1.5],
    "top_log": [-np.log(14 / 16), -np.log(3 / 16), -np.log(4 / 16), -np.log(3.5 / 16)],
    "product": [0.1, 1.0, 0.8, 0.8],
    # Duels: a-b lost, a-c lost, a-d lost (one tie), b-c even, b-d even, c-d even.
    "vote": [-3, 1, 1, 1],
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_rule_by_hand(rule):
    np.testing.assert_allclose(merge(VALUES, rule), BY_HAND[rule], rtol=1e-14)


def test_z_sum_by_hand():
    # Means 2 and 20, standard deviations sqrt(2/3) and sqrt(200/3), of the first three each.
    values = np.array([[1.0, 2.0, 3.0], [30.0, 10.0, 20.0]])
    np.testing.assert_allclose(merge(values, "z_sum"), np.array([0, -1, 1]) * 1.5**0.5, atol=1e-14)


def test_default_is_log_rank_sum():
    np.testing.assert_array_equal(merge(VALUES), merge(VALUES, "log_rank_sum"))


def test_ranks_are_those_of_scipy(rng):
    values = rng.integers(0, 9, (3, 40)).astype(float)  # many ties
    ranks = np.array([stats.rankdata(row, method="average") for row in values])
    np.testing.assert_allclose(merge(values, "rank_sum"), ranks.sum(0))
    np.testing.assert_allclose(merge(values, "log_rank_sum"), np.log(ranks / 40).sum(0))
    np.testing.assert_allclose(merge(values, "min_rank"), ranks.min(0))


@pytest.mark.parametrize("rule", ["log_rank_sum", "rank_sum", "min_rank", "top_log", "vote"])
def test_rank_rules_ignore_monotone_changes(rule, rng):
    values = rng.normal(size=(3, 20))
    changed = np.stack([np.exp(values[0]), values[1] ** 3, values[2] * 7 - 100])
    np.testing.assert_allclose(merge(changed, rule), merge(values, rule))


@pytest.mark.parametrize("rule", RULES)
def test_order_of_pool_and_proxies_does_not_matter(rule, rng):
    values = rng.uniform(1, 2, (3, 20))
    mixed = rng.permutation(20)
    expected = merge(values, rule)
    np.testing.assert_allclose(merge(values[:, mixed], rule), expected[mixed], rtol=1e-12)
    np.testing.assert_allclose(merge(values[[2, 0, 1]], rule), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_one_proxy_keeps_its_order(rule, rng):
    values = rng.uniform(1, 2, (1, 20))
    np.testing.assert_array_equal(np.argsort(merge(values, rule)), np.argsort(values[0]))


@pytest.mark.parametrize("rule", RULES)
def test_failures_share_the_worst_place(rule):
    values = np.array([[3.0, 1.0, -np.inf, -np.inf, 2.0], [3.0, 1.0, -np.inf, -np.inf, 2.0]])
    merged = merge(values, rule)
    assert not np.isnan(merged).any()
    assert merged[2] == merged[3] < merged[1] < merged[4] < merged[0]


@pytest.mark.parametrize("rule", ["z_sum", "product"])
def test_one_failure_comes_last_where_values_count(rule):
    merged = merge([[1.0, 2.0, 9.0], [1.0, 2.0, -np.inf]], rule)
    assert merged[2] == -np.inf < merged[0] < merged[1]


def test_ranks_of_a_pool_with_failures():
    np.testing.assert_array_equal(merge([[-np.inf, -np.inf, 5.0]], "rank_sum"), [1.5, 1.5, 3])


@pytest.mark.parametrize("rule", RULES)
def test_ends_of_the_range(rule):
    assert merge(np.zeros((2, 0)), rule).shape == (0,)
    assert np.isfinite(merge(np.ones((2, 1)), rule)).all()
    failed = merge(np.full((2, 3), -np.inf), rule)
    assert len(set(failed)) == 1


def test_constant_proxy_does_not_count_in_z_sum():
    np.testing.assert_allclose(merge([[1.0, 3.0], [7.0, 7.0]], "z_sum"), [-1, 1])


@pytest.mark.parametrize(
    ("values", "rule", "expected"),
    [
        (VALUES, "rank_sums", "unknown merge rule 'rank_sums', known are rank_sum, log_rank_sum,"),
        ([1.0, 2.0], "rank_sum", r"\[K, P\] with K >= 1, got \(2,\)"),
        (np.zeros((0, 3)), "rank_sum", r"got \(0, 3\)"),
        ([[1.0, np.nan]], "rank_sum", "got nan from proxy 0 for architecture 1"),
        ([[1.0], [np.inf]], "z_sum", "got inf from proxy 1 for architecture 0"),
        ([[1.0, -2.0]], "product", "positive values, got -2.0"),
    ],
)
def test_errors(values, rule, expected):
    with pytest.raises(ValueError, match=expected) as error:
        merge(values, rule)
    assert "\n" not in str(error.value)
