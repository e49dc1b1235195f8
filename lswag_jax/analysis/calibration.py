"""From rank to accuracy: what a few trained networks say of all others that a score has ranked.

Accuracy is taken to be a monotone function of the rank, found by isotonic regression. Intervals are
of the jackknife+ (Barber, Candes, Ramdas and Tibshirani, Predictive inference with the jackknife+,
Annals of Statistics 2021): with 5 networks none can be set aside to calibrate on, and leaving out
one at a time covers at least 2 level - 1 of new networks, in practice about the level, whatever the
distribution, where the trained ones were drawn at random.
"""

import csv
import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from lswag_jax.options import Numbers, typed


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Accuracies of all networks of a pool, as far as known.

    Attributes:
        predicted: [P]; of a trained network its own accuracy.
        low, high: [P], ends of the interval of each; of a trained network its own accuracy.
        trained: bool [P].
        level: probability that an interval holds the accuracy.
        next: index of the network to train next, the one whose interval reaches highest, of equals
            the one with the best score; None where all are trained.
    """

    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    trained: np.ndarray
    level: float
    next: int | None


@typed
def fewest(level: float) -> int:
    """How many trained networks the jackknife+ needs to bound an interval of a level.

    Raises:
        ValueError: a level that is not between 0 and 1.

    Example:
        >>> fewest(0.8), fewest(0.95)
        (4, 19)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}.")
    return math.ceil(round(level / (1 - level), 9))


@typed
def calibrate(scores: Numbers, accuracies: Numbers, level: float = 0.8) -> Calibration:
    """Predicts the accuracy of every network of a pool from those that were trained.

    Args:
        scores: [P], larger is predicted better; -inf (a failure) is the worst rank.
        accuracies: [P], of what was trained; NaN of all others.
        level: of the intervals, in (0, 1).

    Raises:
        ValueError: shapes that differ, a NaN score, or too few trained networks for the level.

    Example:
        >>> scores = np.arange(8.0)
        >>> accuracies = np.array([60, np.nan, 64, np.nan, 63, 70, 72, np.nan])
        >>> found = calibrate(scores, accuracies)
        >>> found.predicted[[1, 3]].tolist(), found.next
        ([61.75, 63.5], 7)
        >>> found.low[3].item(), found.high[3].item()
        (59.75, 71.0)
    """
    scores, accuracies = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    if scores.shape != accuracies.shape or scores.ndim != 1:
        raise ValueError(
            "scores and accuracies must have one value a network, got shapes "
            f"{scores.shape} and {accuracies.shape}."
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores must not be NaN, got {np.isnan(scores).sum()}: give them -inf.")
    if np.isinf(accuracies).any():
        raise ValueError("accuracies must be finite, or NaN of networks that are not trained.")
    needed = fewest(level)  # checks the level
    ranks, trained = stats.rankdata(scores), ~np.isnan(accuracies)
    k = int(trained.sum())
    if k < needed:
        raise ValueError(
            f"intervals of {level:.0%} need at least {needed} trained networks, got {k}."
        )
    x_K, y_K = ranks[trained], accuracies[trained]
    order = np.argsort(x_K, kind="stable")
    x_K, y_K = x_K[order], y_K[order]
    predicted = _fitted(x_K, y_K, ranks)
    low, high = np.empty((2, k, len(ranks)))
    for i in range(k):  # without network i: what it is off by is what another may be off by
        x, y = np.delete(x_K, i), np.delete(y_K, i)
        others_P = _fitted(x, y, ranks)
        off = abs(y_K[i] - _fitted(x, y, x_K[i : i + 1])[0])
        low[i], high[i] = others_P - off, others_P + off
    at = math.ceil(round(level * (k + 1), 9)) - 1
    low, high = np.sort(low, 0)[k - 1 - at], np.sort(high, 0)[at]
    predicted, low, high = (np.where(trained, accuracies, v) for v in (predicted, low, high))
    # np.lexsort sorts by its last key first.
    best_first = np.lexsort((-ranks, -high))
    left = best_first[~trained[best_first]]
    return Calibration(predicted, low, high, trained, level, int(left[0]) if left.size else None)


def _fitted(x_K: np.ndarray, y_K: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Isotonic regression of y on x, which is sorted; at x, linear in between, constant outside.

    Equal ranks count as one network with their mean accuracy.
    """
    at, inverse, counts = np.unique(x_K, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, y_K) / counts
    return np.interp(x, at, optimize.isotonic_regression(means, weights=counts).x)


@typed
def read_trained(path: str | os.PathLike, ids: Sequence[str]) -> np.ndarray:
    """Accuracies [P] of the trained networks of a CSV file with the columns `id` and `accuracy`.

    Args:
        path: the file.
        ids: of the pool.

    Returns:
        NaN of networks that the file does not have.

    Raises:
        ValueError: a column is missing, a network is not of the pool or there twice, or its
            accuracy is no number.
        OSError: the file cannot be read.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            names, rows = reader.fieldnames or (), list(reader)
        except (UnicodeDecodeError, csv.Error):
            raise ValueError(f"{path} cannot be read as a table: it is no CSV text.") from None
    missing = [name for name in ("id", "accuracy") if name not in names]
    if missing:
        raise ValueError(f"{path} needs the columns id and accuracy, it lacks {missing[0]}.")
    place = {text: i for i, text in enumerate(ids)}
    accuracies = np.full(len(ids), np.nan)
    for row in rows:
        text, value = row["id"], row["accuracy"]
        if text not in place:
            raise ValueError(f"{path} has {text!r}, which is not among the {len(ids)} networks.")
        if not np.isnan(accuracies[place[text]]):
            raise ValueError(f"{path} has {text!r} twice.")
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"the accuracy of {text!r} in {path} must be a number, got {value!r}.")
        accuracies[place[text]] = number
    return accuracies
