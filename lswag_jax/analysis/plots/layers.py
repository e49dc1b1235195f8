"""Figures of layers: both factors of L-SWAG, and the layer profile."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis.layer_profile import Profile
from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, DARK, GREEN, GREY, ORANGE
from lswag_jax.options import Natural, typed
from lswag_jax.spaces.depth import NUM_BINS, Window

_STATISTIC_LABELS = {
    "mean_log_sigma": r"mean of $\log\,\sigma$ over weights",
    "log_mean_sigma": r"log of mean $\sigma$ over weights",
    "log_sum_sigma": r"log of summed $\sigma$ over weights",
    "lambda_l": r"$\lambda$ = log of summed $1/\sigma$ over weights",
}
_KINDS = {"attention": (BLUE, "o"), "MLP": (GREEN, "s"), "other": (DARK, "^")}


@typed
def layer_factors(
    parts: Mapping[str, np.ndarray], index: Natural = 0, kinds: Sequence[str] = (), about: str = ""
) -> Any:
    """Both factors of L-SWAG layer by layer, for one architecture.

    Args:
        parts: of the proxy `lswag`, for example `table.parts["lswag"]`: `lambda_l`, `bins` and
            `in_window` [P, n] of weight layers, `psi` [P], and `psi_l` [P, A] of activation layers.
        index: of the architecture.
        kinds: [n], of each weight layer "attention", "MLP" or "other" (`layer_kinds`); empty tells
            none apart.
        about: the architecture, for the title.

    Raises:
        ValueError: a part is missing, or there is not a kind for each layer.

    Example:
        >>> parts = {"lambda_l": [[2.0, 3.0]], "bins": [[0, 5]], "in_window": [[0, 1]],
        ...          "psi_l": [[4]], "psi": [4]}
        >>> layer_factors(parts).axes[1].get_title(loc="left").split(";")[1]
        ' bars: each layer by itself'
    """
    needed = ("lambda_l", "bins", "in_window", "psi_l", "psi")
    missing = [key for key in needed if key not in parts]
    if missing:
        raise ValueError(f"layer factors need the parts {needed} of lswag, missing are {missing}.")
    style.check_index("index of layer_factors", index, min(len(parts[key]) for key in needed))
    own = {key: np.asarray(parts[key][index]) for key in needed}
    if len(kinds) not in (0, len(own["bins"])):
        raise ValueError(f"there are {len(own['bins'])} weight layers, but {len(kinds)} kinds.")
    figure = style.figure_of((6.4, 6))
    upper, lower = figure.subplots(2)
    _lambda_bars(upper, own["lambda_l"], own["bins"], own["in_window"] > 0, kinds)
    style.dress(lower, "activation layers in order", "distinct patterns")
    psi_A = own["psi_l"][own["psi_l"] > 0]
    lower.bar(np.arange(1, len(psi_A) + 1), psi_A, color=ORANGE, width=0.8)
    lower.xaxis.get_major_locator().set_params(integer=True)
    lower.set_title(rf"$\Psi$ = {float(own['psi']):.6g}; bars: each layer by itself", loc="left")
    for axes in (upper, lower):
        axes.grid(visible=False, axis="x")
    if about:
        figure.suptitle(about, fontsize=11)
    style.legend(figure)
    return figure


def _lambda_bars(
    axes: Any, lambda_n: np.ndarray, bins: np.ndarray, used: np.ndarray, kinds: Sequence[str]
) -> None:
    """Draws lambda of each present layer, those outside of the window pale."""
    there = bins >= 0
    kinds_n = np.asarray(kinds if len(kinds) else [""] * len(bins), object)[there]
    lambda_n, bins, used = lambda_n[there], bins[there].astype(int), used[there]
    style.dress(
        axes,
        "weight layers in order; ticks: depth percentile",
        r"$\lambda = \log\,\sum 1/\sigma$ (nats)",
    )
    place = np.arange(len(bins))
    if len(kinds):
        for kind, (color, _) in _KINDS.items():
            of_kind = kinds_n == kind
            if of_kind.any():
                axes.bar([0], [0], color=color, label=kind)  # an entry of the legend alone
            for mask, alpha in ((used, 1.0), (~used, 0.3)):
                mask = mask & of_kind
                axes.bar(place[mask], lambda_n[mask], color=color, alpha=alpha, width=0.8)
        if not used.all():
            axes.bar([0], [0], color=GREY, alpha=0.3, label="pale: outside the window")
    else:
        groups = ((used, BLUE, "in the window"), (~used, GREY, "outside"))
        for mask, color, label in groups:
            label = None if used.all() else label
            axes.bar(place[mask], lambda_n[mask], color=color, label=label, width=0.8)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    axes.set_xticks(starts, [f"{b * 100 // NUM_BINS} %" for b in bins[starts]])
    title = rf"$\Lambda$ = {lambda_n[used].sum():.4g} over {used.sum()} layers"
    axes.set_title(title, loc="left")


@typed
def profile(profile: Profile, window: Window | None = None, about: str = "") -> Any:
    """Mean and standard deviation of the statistic by depth percentile, the window shaded.

    The means of attention's layers and of the MLPs' stand beside, where the profile has them.

    Args:
        profile: of random networks.
        window: first and last bin; None shades nothing, for all layers.
        about: space and data set, for the title.

    Raises:
        ValueError: a window that is none of the profile's bins.

    Example:
        >>> values = np.arange(10.0)
        >>> from_random = Profile(values, values / 10, np.ones(10), 4, "lambda_l")
        >>> profile(from_random, (3, 7)).axes[0].get_title()
        'Layer profile (n = 4 networks)'
    """
    label = _STATISTIC_LABELS[profile.statistic]
    figure, axes = style.one_axes("depth percentile (%)", label)
    width = 100 / NUM_BINS
    center = (np.arange(len(profile.mean)) + 0.5) * width
    if window is not None:
        if not 0 <= window[0] <= window[1] < len(profile.mean):
            last = len(profile.mean) - 1
            raise ValueError(f"window must hold bins 0 <= first <= last <= {last}, got {window}.")
        span = window[0] * width, (window[1] + 1) * width
        name = f"window, bins {window[0]} to {window[1]}"
        axes.axvspan(*span, color=ORANGE, alpha=0.15, linewidth=0, label=name)
    known = np.flatnonzero(profile.count > 0)
    mean, std, at = profile.mean[known], profile.std[known], center[known]
    axes.fill_between(at, mean - std, mean + std, color="black", alpha=0.12, linewidth=0)
    name = r"mean $\pm$ std" + " of all layers" * bool(profile.kinds)
    axes.plot(at, mean, color="black", marker="o", linewidth=2, label=name)
    for kind, values in profile.kinds.items():
        color, marker = _KINDS[kind]
        there = np.isfinite(values)
        options = {"color": color, "marker": marker, "linewidth": 1.2, "linestyle": "--"}
        axes.plot(center[there], values[there], markersize=5, label=f"mean of {kind}", **options)
    axes.set_xlim(0, len(profile.mean) * width)
    axes.set_xticks(np.arange(len(profile.mean) + 1) * width)
    title = f"Layer profile (n = {profile.networks} networks)" + ", no window" * (window is None)
    axes.set_title(style.second_line(title, about), fontsize=11)
    style.legend(figure, ncols=3)
    return figure
