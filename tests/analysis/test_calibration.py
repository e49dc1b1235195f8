"""From rank to accuracy: the fit is monotone, the interval covers, the files are checked."""

import numpy as np
import pytest

from lswag_jax.analysis.calibration import calibrate, fewest, read_trained


def pool(rng, noise: float, size: int = 200):
    scores = rng.normal(size=size)
    return scores, 70 + 10 * np.tanh(scores) + noise * rng.normal(size=size)


def some(rng, truth, k: int):
    accuracies = np.full(len(truth), np.nan)
    chosen = rng.choice(len(truth), k, replace=False)
    accuracies[chosen] = truth[chosen]
    return accuracies


@pytest.mark.parametrize("k", [5, 20])
def test_intervals_cover(rng, k):
    """Over 40 draws of the trained networks; the mean's standard error is about 0.02."""
    covered = []
    for _ in range(40):
        scores, truth = pool(rng, 2.0)
        found = calibrate(scores, some(rng, truth, k))
        rest = ~found.trained
        covered.append(((found.low <= truth) & (truth <= found.high))[rest].mean())
    assert 0.73 < np.mean(covered) < 0.93


def test_predictions_are_monotone_and_near(rng):
    scores, truth = pool(rng, 0.5)
    found = calibrate(scores, some(rng, truth, 40))
    order = np.argsort(scores)
    rest = order[~found.trained[order]]
    assert (np.diff(found.predicted[rest]) >= 0).all()
    assert np.abs(found.predicted - truth)[rest].mean() < 1.5
    assert (found.low <= found.predicted + 1e-9)[rest].all()
    np.testing.assert_array_equal(found.low[found.trained], truth[found.trained])


def test_only_the_order_of_scores_counts(rng):
    scores, truth = pool(rng, 2.0)
    accuracies = some(rng, truth, 10)
    a, b = calibrate(scores, accuracies), calibrate(np.exp(3 * scores), accuracies)
    np.testing.assert_array_equal(a.high, b.high)
    assert a.next == b.next


def test_a_score_that_ranks_the_wrong_way_predicts_the_mean(rng):
    scores = np.arange(30.0)
    truth = 90 - scores
    found = calibrate(scores, some(rng, truth, 10))
    rest = ~found.trained
    np.testing.assert_allclose(found.predicted[rest], np.mean(truth[found.trained]))


def test_next_is_the_best_that_is_left():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -np.inf, -np.inf])
    accuracies = np.array([1.0, 2.0, 3.0, 4.0, np.nan, np.nan, 0.0, np.nan])
    assert calibrate(scores, accuracies).next == 5
    assert calibrate(scores[:4], accuracies[:4]).next is None


def test_equal_scores_share_a_prediction():
    scores = np.array([1.0, 1.0, 2.0, 2.0, 1.0, 2.0])
    found = calibrate(scores, np.array([10.0, 20.0, 30.0, 50.0, np.nan, np.nan]))
    assert found.predicted[4:].tolist() == [15.0, 40.0]


MISTAKES = {
    "shapes": (([1.0, 2.0], [1.0]), {}, "must have one value a network"),
    "NaN": (([np.nan, 1.0], [1.0, 2.0]), {}, "scores must not be NaN, got 1"),
    "level": (([1.0, 2.0], [1.0, 2.0]), {"level": 1.0}, "level must be in"),
    "few": (([1.0, 2.0], [1.0, np.nan]), {}, "80% need at least 4 trained networks, got 1"),
    "few for the level": (
        (np.arange(9.0), np.arange(9.0)),
        {"level": 0.95},
        f"95% need at least {fewest(0.95)}",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    arrays, keywords, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        calibrate(*arrays, **keywords)


FILES = {
    "column": ("id,top1\na,1\n", "lacks accuracy"),
    "empty": ("", "lacks id"),
    "stranger": ("id,accuracy\nz,1\n", "has 'z', which is not among the 2 networks"),
    "twice": ("id,accuracy\na,1\na,2\n", "has 'a' twice"),
    "text": ("id,accuracy\na,good\n", "must be a number, got 'good'"),
    "nothing": ("id,accuracy\na\n", "must be a number, got None"),
    "nan": ("id,accuracy\na,nan\n", "must be a number, got 'nan'"),
}


@pytest.mark.parametrize("name", FILES)
def test_mistakes_in_a_file(name, tmp_path):
    text, message = FILES[name]
    path = tmp_path / "trained.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trained(path, ["a", "b"])


def test_read_trained(tmp_path):
    path = tmp_path / "trained.csv"
    path.write_text('accuracy,id\n70.5,"b,c"\n')
    np.testing.assert_array_equal(read_trained(path, ["a", "b,c"]), [np.nan, 70.5])


def test_infinite_accuracies_are_refused():
    accuracies = [1.0, np.inf, 2.0, 3.0, 4.0, np.nan]
    with pytest.raises(ValueError, match="accuracies must be finite, or NaN"):
        calibrate(np.arange(6.0), accuracies)


def test_a_byte_order_mark_before_the_header(tmp_path):
    path = tmp_path / "trained.csv"
    path.write_text("id,accuracy\na,90\n", encoding="utf-8-sig")
    assert read_trained(path, ["a", "b"])[0] == 90
