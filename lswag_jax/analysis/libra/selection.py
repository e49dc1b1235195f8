"""LIBRA on the arrays of a benchmark: from scores and accuracies to the chosen proxies."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lswag_jax.analysis import correlation, information
from lswag_jax.analysis.libra.choice import Candidate, LibraOptions, choose
from lswag_jax.files import dump_row, write_atomically
from lswag_jax.options import Numbers, typed
from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.table import FILL


@dataclasses.dataclass(frozen=True)
class Selection:
    """The proxies that LIBRA chose, and why.

    Args:
        fitness: the chosen, z1 first, with their orientation and merge rule.
        candidates: every proxy, by name.
        accuracy_bias: correlation of the accuracy with #params.
        n: architectures that it was chosen on.
        options: of the choice.
    """

    fitness: Fitness
    candidates: tuple[Candidate, ...]
    accuracy_bias: float
    n: int
    options: LibraOptions

    @property
    def proxies(self) -> tuple[str, ...]:
        """z1, z2 and z3, as many as there are."""
        return tuple(dict.fromkeys(self.fitness.proxies))

    def to_json(self) -> dict[str, Any]:
        """Plain values: the fitness, and what it was chosen by."""
        content = {
            "fitness": self.fitness.to_json(),
            "n": self.n,
            "accuracy_bias": self.accuracy_bias,
            "candidates": [c._asdict() for c in self.candidates],
            "options": dataclasses.asdict(self.options),
        }
        return json.loads(dump_row(content))

    def save(self, path: str | os.PathLike, **about: Any) -> None:
        """Writes JSON that `--config.search.fitness` and `--config.score.fitness` take.

        Args:
            path: of the file.
            **about: further entries, such as the benchmark.
        """
        write_atomically(path, json.dumps(self.to_json() | about, indent=2) + "\n")


@typed
def select(
    scores: Mapping[str, Numbers],
    accuracy: Numbers,
    params: Numbers,
    options: LibraOptions | None = None,
) -> Selection:
    """Chooses proxies by Algorithm 1 (see the package).

    Args:
        scores: of each proxy [P], larger is predicted better; NaN, -inf and values of -1e8 and
            below are failures.
        accuracy: y [P], or another target, larger is better.
        params: number of parameters [P].
        options: None for the published algorithm.

    Raises:
        ValueError: no proxy, one that failed everywhere, shapes that differ, fewer than two
            architectures, or accuracies or parameters that are not finite or all the same.

    Example:
        >>> y = np.arange(8.0)
        >>> scores = {"good": y, "noisy": y[[0, 2, 1, 4, 3, 5, 7, 6]], "size": y[::-1]}
        >>> select(scores, y, np.sqrt(y)).proxies
        ('good', 'noisy')
    """
    options = options or LibraOptions()
    return choose_from(*checked(scores, accuracy, params, options.fill), options)


def checked(
    scores: Mapping[str, np.ndarray], accuracy: np.ndarray, params: np.ndarray, fill: str
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Scores with -inf for failures, accuracy and params of the architectures that count.

    Args:
        scores, accuracy, params: see `select`.
        fill: "drop" leaves out architectures that failed any proxy.

    Raises:
        ValueError: see `select`.
    """
    accuracy, params = np.asarray(accuracy, np.float64), np.asarray(params, np.float64)
    values = {name: np.asarray(scores[name], np.float64) for name in sorted(scores)}
    _check_shapes(values, accuracy, params)
    if not len(accuracy):
        raise ValueError("LIBRA needs at least 2 architectures, got 0.")
    failed = {name: ~np.isfinite(v) | (v <= FILL) for name, v in values.items()}
    for name, where in failed.items():
        if where.all():
            raise ValueError(f"proxy {name!r} has no value for any architecture, leave it out.")
        values[name] = np.where(where, -np.inf, values[name])
    if fill == "drop":
        kept = ~np.any(list(failed.values()), 0)
        values = {name: v[kept] for name, v in values.items()}
        accuracy, params = accuracy[kept], params[kept]
    if len(accuracy) < 2:
        raise ValueError(f"LIBRA needs at least 2 architectures, got {len(accuracy)}.")
    if (accuracy == accuracy[0]).all():
        raise ValueError(f"all {len(accuracy)} accuracies are {accuracy[0]:g}: nothing to rank by.")
    return values, accuracy, params


def _check_shapes(values: Mapping[str, np.ndarray], accuracy: Any, params: Any) -> None:
    if not values:
        raise ValueError("LIBRA needs at least one proxy to choose from.")
    shapes = {name: v.shape for name, v in {**values, "params": params}.items()}
    for name, shape in shapes.items():
        if shape != accuracy.shape or accuracy.ndim != 1:
            raise ValueError(f"{name} must be [P] as accuracy, got {shape} and {accuracy.shape}.")
    for name, v in {"accuracy": accuracy, "params": params}.items():
        if not np.isfinite(v).all():
            raise ValueError(f"{name} must be finite, got {v[~np.isfinite(v)][0]}.")


def choose_from(
    scores: Mapping[str, np.ndarray],
    accuracy: np.ndarray,
    params: np.ndarray,
    options: LibraOptions,
) -> Selection:
    """`select` for arrays that went through `checked`."""
    rhos = {name: correlation.spearman(v, accuracy) for name, v in scores.items()}
    flipped = {name: options.abs_rho and rho < 0 for name, rho in rhos.items()}
    oriented = {n: np.where(np.isneginf(v), v, -v) if flipped[n] else v for n, v in scores.items()}
    rhos = {name: correlation.spearman(v, accuracy) for name, v in oriented.items()}
    best = min(rhos, key=lambda name: (-rhos[name], name))
    gains = _gains(oriented, accuracy, best, options)
    biases = {name: _bias(v, params, options) for name, v in oriented.items()}
    candidates = [
        Candidate(name, rhos[name], gains[name][0], biases[name], flipped[name], gains[name][1])
        for name in scores
    ]
    accuracy_bias = _bias(accuracy, params, options)
    chosen = choose(candidates, accuracy_bias, options)
    fitness = Fitness(
        chosen[:1] * options.double_best + chosen,
        options.rule,
        tuple(name for name in chosen if flipped[name]),
    )
    return Selection(fitness, tuple(candidates), accuracy_bias, len(accuracy), options)


def _gains(
    scores: Mapping[str, np.ndarray], accuracy: np.ndarray, best: str, options: LibraOptions
) -> dict[str, tuple[float, float]]:
    """Information gain of each proxy given the best one, and its p-value."""
    n_bins = information.num_bins(len(accuracy), options.n_bins)

    def binned(values: np.ndarray) -> np.ndarray:
        return information.discretise(_filled(values, options), n_bins, options.bins)

    y, first, gains = binned(accuracy), binned(scores[best]), {}
    for name, values in scores.items():
        second, p_value = binned(values), np.nan
        if options.permutations:
            p_value = information.gain_p_value(
                y, first, second, options.estimator, options.permutations, options.seed
            )
        gains[name] = information.information_gain(y, first, second, options.estimator), p_value
    return gains


def _filled(values: np.ndarray, options: LibraOptions) -> np.ndarray:
    return np.where(np.isneginf(values), FILL, values) if options.fill == "-1e8" else values


def _bias(values: np.ndarray, params: np.ndarray, options: LibraOptions) -> float:
    """Correlation with #params; of raw values that have no fill, over those that are there."""
    if options.bias == "ranks":
        return correlation.spearman(values, params)
    values = _filled(values, options)
    there = np.isfinite(values)
    values, params = values[there], params[there]
    constant = not len(values) or np.ptp(values) == 0 or np.ptp(params) == 0
    return 0.0 if constant else float(np.corrcoef(values, params)[0, 1])
