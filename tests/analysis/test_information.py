"""Discretisers and entropies: worked vectors, SciPy and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from lswag_jax.analysis.information import (
    conditional_entropy,
    discretise,
    entropy,
    gain_p_value,
    information_gain,
    num_bins,
)

LABELS = hnp.arrays(np.int64, (3, 40), elements=st.integers(-2, 3))


@pytest.mark.parametrize(
    ("n", "rule", "expected"),
    [
        (1000, "nbsz", 24),  # the paper's
        (500, "nbsz", 22),
        (491, "nbsz", 22),
        (1000, "cube_root", 6),
        (27 * 216, "cube_root", 12),  # 18 / 1.5, an exact cube
        (20, "cube_root", 4),
        (20, 7, 7),
    ],
)
def test_num_bins(n, rule, expected):
    assert num_bins(n, rule) == expected


def test_equal_width_is_numpys_histogram(rng):
    values = rng.normal(size=300)
    count = np.bincount(discretise(values, 22), minlength=23)[1:]
    np.testing.assert_array_equal(count, np.histogram(values, 22)[0])


def test_large_values_are_binned_as_small_ones(rng):
    values = rng.integers(0, 1000, 40)
    values[:2] = 0, 1000
    np.testing.assert_array_equal(discretise(values * 1e17, 7), discretise(values, 7))
    assert set(discretise([1e17, 1e17, 1e17 + 32], 3)) == {1, 3}


def test_one_fill_value_leaves_two_bins(rng):
    """The artefact that decides the published selection: a failure of -1e8 among small scores."""
    values = np.append(rng.normal(size=99), -1e8)
    assert len(set(discretise(values, 22))) == 2
    failed = np.where(values == -1e8, -np.inf, values)
    bins = discretise(failed, 22)
    assert (bins == bins[-1]).sum() == 1
    assert len(set(bins)) > 10


def test_equal_freq(rng):
    values = np.exp(9 * rng.normal(size=120))
    np.testing.assert_array_equal(np.bincount(discretise(values, 6, "equal_freq")), [20] * 6)
    ties = np.array([1.0, 1, 1, 5, 5, -np.inf])
    np.testing.assert_array_equal(discretise(ties, 3, "equal_freq"), [1, 1, 1, 2, 2, 0])


@given(LABELS)
def test_entropy_is_that_of_scipy(labels):
    cells = np.unique(labels, axis=1, return_counts=True)[1]
    ml = stats.entropy(cells / 40, base=2)
    assert entropy(*labels) == pytest.approx(ml, abs=1e-12)
    bias = (len(cells) - 1) / 80 / np.log(2)
    assert entropy(*labels, estimator="miller_madow") == pytest.approx(ml + bias, abs=1e-12)


@given(LABELS)
def test_vectors(labels):
    y, a, b = labels
    gain = information_gain(y, a, b)
    assert information_gain(y, a, a) == pytest.approx(0, abs=1e-12)  # (i)
    assert information_gain(y, a, np.full(40, 3)) == pytest.approx(0, abs=1e-12)  # (ii)
    assert information_gain(y, a, y) == pytest.approx(conditional_entropy(y, a))  # (iii)
    assert gain == pytest.approx(information_gain(b, a, y), abs=1e-12)  # (iv), symmetric
    assert gain >= -1e-12
    mutual = sum(  # I(y; b | a) from joint counts
        np.mean(part) * _mutual(y[part], b[part]) for part in (a == value for value in set(a))
    )
    assert gain == pytest.approx(mutual, abs=1e-12)


def _mutual(x, y):
    joint = stats.contingency.crosstab(x, y).count / len(x)
    independent = np.outer(joint.sum(1), joint.sum(0))
    return stats.entropy(joint.ravel(), independent.ravel(), base=2)


def test_permutation_null(rng):
    """Under the null p is uniform; a copy of y is never reached by chance."""
    first, y = rng.integers(0, 4, (2, 200))
    ps = [gain_p_value(y, first, rng.integers(0, 4, 200), seed=i) for i in range(40)]
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert gain_p_value(y, first, y, permutations=50) == 1 / 51
    # What the first determines is exhausted by it, however much it tells of y.
    assert gain_p_value(first % 2, first, first // 2) == 1


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: discretise([1.0, np.nan], 3), "must be finite, or -inf"),
        (lambda: discretise([1.0], 3, "equal"), r"one of \('equal_width', 'equal_freq'\)"),
        (lambda: num_bins(9, "sturges"), "got 'sturges'"),
        (lambda: num_bins(9, 1), "integer from 2 to [0-9]+, got 1"),
        (lambda: entropy([1], estimator="mm"), "estimator must be one of"),
        (lambda: gain_p_value([1], [1], [1], permutations=0), "permutations of gain_p_value must"),
    ],
)
def test_errors(call, expected):
    with pytest.raises(ValueError, match=expected) as error:
        call()
    assert "\n" not in str(error.value)
