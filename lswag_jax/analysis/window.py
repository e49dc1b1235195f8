"""The layer window of L-SWAG: pickers that read it off a layer profile, and its file.

A window (first, last) names depth percentile bins, both included; None stands for all layers.
Source: section 3.2 of the L-SWAG paper (arXiv 2505.07300), which reads windows off a plot; the
pickers and the file are ours.
"""

import itertools
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lswag_jax.analysis import correlation
from lswag_jax.analysis.layer_profile import Profile
from lswag_jax.files import write_atomically
from lswag_jax.options import NonNegative, Numbers, typed
from lswag_jax.proxies.lswag import check_window
from lswag_jax.proxies.lswag_variant import Combine, LSwagVariant
from lswag_jax.spaces.depth import NUM_BINS, BinRule, Window

_MAD_TO_STD = 1.4826  # of a normal distribution
_PAIR = re.compile(r"(?:manual:)?\s*(\d+)\s*,\s*(\d+)\s*")


@typed
def pick(mean: Sequence[float], tau: NonNegative = 1.0, hull: bool = False) -> Window | None:
    """The window of the peaks of a profile.

        z_b = (m_b - median(m)) / (1.4826 MAD(m) + 1e-12)
        P   = {b : z_b > tau}, or the bin of the largest mean where there is none

    The window goes from the first to the last bin of the longest run of P: the most bins of P with
    gaps of at most one bin; of equals the one with the larger sum of z, then the first.

    Args:
        mean: of each bin; NaN marks bins without a layer, which cannot be peaks.
        tau: how far above the median a peak is, in robust standard deviations.
        hull: from the first to the last bin of all of P.

    Returns:
        The window, or None (all layers) where it would hold every bin that has a layer.

    Raises:
        ValueError: every bin is NaN.

    Example:
        >>> pick([0, 0, 1, 9, 0, 8, 0, 0, 7, 1])
        (3, 5)
    """
    found, known = _known(mean)
    center = np.median(found[known])
    spread = np.median(np.abs(found[known] - center))
    z = (found - center) / (_MAD_TO_STD * spread + 1e-12)
    with np.errstate(invalid="ignore"):
        peaks = np.flatnonzero(z > tau)
    if not peaks.size:
        peaks = np.array([np.nanargmax(found)])
    if not hull:
        runs = np.split(peaks, np.flatnonzero(np.diff(peaks) > 2) + 1)
        peaks = max(runs, key=lambda run: (len(run), z[run].sum()))
    return _unless_all(int(peaks[0]), int(peaks[-1]), known)


@typed
def pick_steep(mean: Sequence[float]) -> Window | None:
    """The window from the first to the last bin b with |m_{b+1} - m_b| > mean + std of these.

    Args:
        mean: of each bin; NaN marks bins without a layer, which are passed over.

    Returns:
        The window, or None (all layers) where it would hold every bin that has a layer.

    Raises:
        ValueError: every bin is NaN.

    Example:
        >>> pick_steep([0, 0, 5, 5, 5, 5, 0, 0, 0, 0])
        (1, 5)
    """
    found, known = _known(mean)
    if len(known) == 1:
        return None
    steps = np.abs(np.diff(found[known]))
    steep = np.flatnonzero(steps > steps.mean() + steps.std())
    if not steep.size:
        steep = np.array([steps.argmax()])
    return _unless_all(int(known[steep[0]]), int(known[steep[-1]]), known)


def _known(mean: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Means, and the bins that have one."""
    found = np.asarray(mean, np.float64)
    known = np.flatnonzero(np.isfinite(found))
    if not known.size:
        raise ValueError("no window can be picked: no bin of the profile has a finite mean.")
    return found, known


def _unless_all(lo: int, hi: int, known: np.ndarray) -> Window | None:
    return None if lo <= known[0] and hi >= known[-1] else (lo, hi)


class Oracle(NamedTuple):
    """The best window in hindsight; it uses labels, so report it apart from picked windows.

    Attributes:
        window: first and last bin.
        rho: its Spearman correlation with the truth.
        rho_all: that of all layers, for comparison.
    """

    window: Window
    rho: float
    rho_all: float


@typed
def oracle(
    lambda_l: Numbers,
    bins: Numbers,
    psi: Numbers,
    truth: Numbers,
    combine: Combine = "product",
) -> Oracle:
    """The interval, out of 55, whose L-SWAG has the largest Spearman correlation with the truth.

    Args:
        lambda_l, bins: [P, n], parts of an L-SWAG score over all layers.
        psi: [P] of all layers; or [P, 10] of windows that end at each bin, since Psi counts the
            activations up to the window's end.
        truth: accuracies [P], larger is better.
        combine: how factors are combined, see `LSwagVariant`.

    Returns:
        The window, of equals the first, and the correlations.

    Raises:
        ValueError: NaN in `truth`, or shapes that do not fit.

    Example:
        >>> lambda_l = np.array([[1.0, 9], [2, 8], [3, 4]])
        >>> oracle(lambda_l, np.array([[0, 5]] * 3), np.ones(3), np.arange(3)).window
        (0, 0)
    """
    lambda_PxN, bins_PxN, psi = (np.asarray(a, np.float64) for a in (lambda_l, bins, psi))
    shape = lambda_PxN.shape
    if bins_PxN.shape != shape or psi.shape not in ((shape[0],), (shape[0], NUM_BINS)):
        raise ValueError(
            "the oracle wants lambda_l and bins [P, n] and psi [P] or [P, 10], got shapes "
            f"{shape}, {bins_PxN.shape} and {psi.shape}."
        )
    psi_PxB = np.broadcast_to(psi.reshape(shape[0], -1), (shape[0], NUM_BINS))
    rhos = {}
    for lo, hi in itertools.combinations_with_replacement(range(NUM_BINS), 2):
        # A term of exactly 0 is one without a weight that counts.
        used = (bins_PxN >= lo) & (bins_PxN <= hi) & (lambda_PxN != 0)
        parts = {
            "lambda": np.where(used, lambda_PxN, 0).sum(1),
            "psi": psi_PxB[:, hi],
            "n_layers": used.sum(1),
        }
        scores, status, _ = LSwagVariant(combine=combine).pool(parts)
        failed = ~np.isin(status, ("ok", "negative_lambda"))
        rhos[lo, hi] = correlation.spearman(np.where(failed, -np.inf, scores), truth)
    window = max(rhos, key=rhos.__getitem__)
    return Oracle(window, rhos[window], rhos[0, NUM_BINS - 1])


@typed
def save(
    path: str | os.PathLike, window: Window | None, profile: Profile | None = None, **about: Any
) -> None:
    """Writes a window as JSON, with the profile it was picked from.

    Args:
        path: of the file.
        window: bins, or None for all layers.
        profile: the picker's input.
        **about: further entries, such as the space, the seed or the picker's settings.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "window.json")
        ...     save(path, (3, 7), seed=0)
        ...     load(path)
        (3, 7)
    """
    content = {"window": None if window is None else list(window)} | about
    if profile is not None:
        content["profile"] = profile.to_json()
    write_atomically(path, json.dumps(content, indent=2) + "\n")


@typed
def load(path: str | os.PathLike, rule: BinRule = "zero_based") -> Window | None:
    """The window of a file that `save` wrote.

    Args:
        path: of the file.
        rule: of the bins, as `LSwagVariant.bins`; "literal" knows an eleventh.

    Raises:
        ValueError: no such file, no JSON, or no window in it.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable JSON file of a window: {error}.") from None
    if not isinstance(content, Mapping) or "window" not in content:
        raise ValueError(f"{path} holds no window: it must be an object with the key 'window'.")
    try:
        return check_window(content["window"], rule)
    except ValueError as error:
        raise ValueError(f"{path} holds a bad window: {error}") from None


@typed
def parse(spec: str | Sequence[int] | None, rule: BinRule = "zero_based") -> Window | None:
    """A window from a config's entry.

    Args:
        spec: "all" or None; "3,7", "manual:3,7" or a pair of bins; or a file that `save` wrote.
        rule: of the bins, as `LSwagVariant.bins`.

    Raises:
        ValueError: another text, or a bad window or file.

    Example:
        >>> parse("all"), parse("3,7"), parse("manual:3,7"), parse((3, 7))
        (None, (3, 7), (3, 7), (3, 7))
    """
    if not isinstance(spec, str):
        return check_window(spec, rule)
    if spec == "all":
        return None
    pair = _PAIR.fullmatch(spec)
    if pair:
        return check_window(pair.groups(), rule)
    if spec.endswith(".json") and not pathlib.Path(spec).is_file():
        raise ValueError(f"there is no window file {spec}.")
    if spec.startswith("manual:") or not pathlib.Path(spec).is_file():
        raise ValueError(
            "window must be 'all', two bins such as '3,7', or the path of a JSON file, got "
            f"{spec!r}."
        )
    return load(spec, rule)
