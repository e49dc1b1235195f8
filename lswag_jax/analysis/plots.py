"""Figures of scores, searches, layer profiles and correlations.

Each function returns a `matplotlib.figure.Figure` made without pyplot: nothing global is touched
and no display is needed. Matplotlib is imported where a figure is made. Colours are of the
Okabe-Ito palette, which colour-blind readers can tell apart.
"""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis import correlation
from lswag_jax.analysis.layer_profile import Profile
from lswag_jax.analysis.libra import Selection
from lswag_jax.extras import extra
from lswag_jax.files import write_atomically
from lswag_jax.scoring.nsga2 import non_dominated
from lswag_jax.scoring.objectives import direction
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces.depth import NUM_BINS, Window

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"
_DOTS = {"s": 22, "alpha": 0.6, "linewidths": 0}
_STATISTIC_LABELS = {
    "mean_log_sigma": r"mean of $\log\,\sigma$ over weights",
    "log_mean_sigma": r"log of mean $\sigma$ over weights",
    "log_sum_sigma": r"log of summed $\sigma$ over weights",
    "lambda_l": r"$\lambda$ = log of summed $1/\sigma$ over weights",
}


def score_against_params(table: ScoreTable, proxy: str, best: int | None = None) -> Any:
    """Score of each architecture over its parameter count; failed ones are left out and counted.

    Args:
        table: of scores.
        proxy: in the table.
        best: index of an architecture to mark; None marks none.

    Raises:
        ValueError: the table lacks the proxy.

    Example:
        >>> from lswag_jax import proxies
        >>> table = ScoreTable([], proxies.resolve("params"))
        >>> score_against_params(table, "params").axes[0].get_xlabel()
        'parameters (millions)'
    """
    figure, axes = _axes("parameters (millions)", f"{proxy} score")
    params, scores = table.column("params") / 1e6, table.values(proxy)
    good = np.isfinite(scores)
    axes.scatter(params[good], scores[good], color=BLUE, **_DOTS)
    if best is not None and good[best]:
        _mark(axes, params[best], scores[best], "best")
        _legend(axes)
    axes.set_title(_counted(f"{proxy} against size", good))
    return figure


def best_so_far(fitness: Sequence[float], name: str = "fitness") -> Any:
    """Fitness by evaluation and the best one until then; failures (-inf, NaN) are left out.

    Args:
        fitness: [E], in order of evaluation, larger is better.
        name: of the vertical axis.

    Example:
        >>> best_so_far([1.0, 3.0, 2.0]).axes[0].get_title()
        'Search progress (n = 3)'
    """
    figure, axes = _axes("evaluations", name)
    values = np.asarray(fitness, np.float64)
    good, number = np.isfinite(values), np.arange(1, len(values) + 1)
    axes.scatter(number[good], values[good], color=GREY, label="each architecture", **_DOTS)
    best = np.fmax.accumulate(np.where(good, values, np.nan)) if len(values) else values
    axes.step(number, best, where="post", color=BLUE, linewidth=2, label="best so far")
    if good.any():
        winner = int(np.nanargmax(np.where(good, values, np.nan)))
        _mark(axes, number[winner], values[winner], f"best, evaluation {winner + 1}")
        _legend(axes, "lower right")
    axes.set_title(_counted("Search progress", good))
    return figure


def front(
    table: ScoreTable | Mapping[str, Sequence[float]],
    x: str,
    y: str,
    members: Sequence[int] | None = None,
) -> Any:
    """Two columns of a table against each other, with the networks that no other one dominates.

    Networks that failed in either are left out and counted.

    Args:
        table: of scores, or any columns by their names.
        x, y: proxies or columns. Params, macs, latency and memory are minimised and all others
            maximised, where no sign says (`+NAME`, `-NAME`; `scoring.objectives.direction`).
        members: indices of the front, where more than these two columns make it; None for theirs.

    Raises:
        ValueError: the table lacks a column.

    Example:
        >>> columns = {"macs": [1, 2, 3], "accuracy": [70.0, 75.0, 72.0]}
        >>> front(columns, "macs", "accuracy").axes[0].get_title()
        'Front of 2 (n = 3)'
    """
    names, minimised = zip(*map(direction, (x, y)), strict=True)
    values = np.stack([_column(table, name) for name in names], 1)
    good = np.asarray(np.isfinite(values).all(1))
    if members is None:
        signs = np.where(minimised, -1, 1)
        chosen = np.flatnonzero(good)[non_dominated(signs * values[good])]
    else:
        chosen = np.asarray(members, int)
    better = (f"{n} (smaller is better)" if m else n for n, m in zip(names, minimised, strict=True))
    figure, axes = _axes(*better)
    axes.scatter(*values[good].T, color=GREY, label="each network", **_DOTS)
    chosen = chosen[np.lexsort(values[chosen].T[::-1])]
    # Between two of the front the value of the one that is no worse in x can be had.
    where = "post" if minimised[0] else "pre"
    line = {"linewidth": 1.5} if members is None else {"linewidth": 0}
    axes.step(*values[chosen].T, where=where, color=BLUE, marker="o", label="front", **line)
    _legend(axes)
    axes.set_title(_counted(f"Front of {len(chosen)}", good))
    return figure


def _column(table: ScoreTable | Mapping[str, Sequence[float]], name: str) -> np.ndarray:
    """A proxy's values, failures being -inf, or a column, as floats [P]."""
    if isinstance(table, ScoreTable) and name not in table and name in ("params", "macs"):
        return table.column(name).astype(np.float64)
    if name not in table:
        raise ValueError(f"the table has no column {name!r}, it has {', '.join(table)}.")
    values = table.values(name) if isinstance(table, ScoreTable) else table[name]
    return np.asarray(values, np.float64)


def training(train: Sequence[Mapping[str, Any]], eval: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Loss and accuracy of a training by epoch.

    Args:
        train, eval: rows of its metrics, `epoch` and `loss` each, those of validation also `top1`.

    Example:
        >>> training([{"epoch": 1, "loss": 2.0}], [{"epoch": 1, "loss": 1.9, "top1": 0.4}]).axes[
        ...     1].get_ylabel()
        'top-1 of validation'
    """
    figure = _figure((6.4, 5))
    upper, lower = figure.subplots(2, sharex=True)
    _style(upper, "", "loss")
    _style(lower, "epoch", "top-1 of validation")
    for rows, name, colour in ((train, "training", BLUE), (eval, "validation", ORANGE)):
        epochs = [row["epoch"] for row in rows]
        upper.plot(epochs, [row["loss"] for row in rows], color=colour, label=name, marker=".")
    _legend(upper)
    epochs = [row["epoch"] for row in eval]
    lower.plot(epochs, [row.get("top1", np.nan) for row in eval], color=ORANGE, marker=".")
    return figure


def layer_factors(parts: Mapping[str, np.ndarray], index: int = 0) -> Any:
    """Both factors of L-SWAG layer by layer, for one architecture.

    Args:
        parts: of the proxy `lswag`, for example `table.parts["lswag"]`: `lambda_l`, `bins` and
            `in_window` [P, n] of weight layers, `psi` [P], and `psi_l` [P, A] of activation layers.
        index: of the architecture.

    Raises:
        ValueError: a part is missing.

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
    own = {key: np.asarray(parts[key][index]) for key in needed}
    figure = _figure((6.4, 6))
    upper, lower = figure.subplots(2)
    _lambda_bars(upper, own["lambda_l"], own["bins"], own["in_window"] > 0)
    _style(lower, "activation layers in order", "distinct patterns")
    psi_A = own["psi_l"][own["psi_l"] > 0]
    lower.bar(np.arange(1, len(psi_A) + 1), psi_A, color=GREEN, width=0.8)
    lower.xaxis.get_major_locator().set_params(integer=True)
    lower.set_title(rf"$\Psi$ = {float(own['psi']):.6g}; bars: each layer by itself", loc="left")
    for axes in (upper, lower):
        axes.grid(visible=False, axis="x")
    return figure


def _lambda_bars(axes: Any, lambda_n: np.ndarray, bins: np.ndarray, used: np.ndarray) -> None:
    """Draws lambda of each present layer and highlights the window."""
    there = bins >= 0
    lambda_n, bins, used = lambda_n[there], bins[there].astype(int), used[there]
    _style(
        axes,
        "weight layers in order; ticks: depth percentile",
        r"$\lambda = \log\,\sum 1/\sigma$ (nats)",
    )
    place = np.arange(len(bins))
    for mask, color, label in ((used, BLUE, "in the window"), (~used, GREY, "outside")):
        axes.bar(place[mask], lambda_n[mask], color=color, label=label, width=0.8)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    axes.set_xticks(starts, [f"{b * 100 // NUM_BINS} %" for b in bins[starts]])
    title = rf"$\Lambda$ = {lambda_n[used].sum():.4g} over {used.sum()} layers"
    axes.set_title(title, loc="left")
    if not used.all():
        _legend(axes, "lower right", bbox_to_anchor=(1, 1), ncols=2)


def profile(profile: Profile, window: Window | None = None) -> Any:
    """Mean and standard deviation of the statistic by depth percentile, the window shaded.

    Args:
        profile: of random networks.
        window: first and last bin; None shades nothing, for all layers.

    Example:
        >>> values = np.arange(10.0)
        >>> from_random = Profile(values, values / 10, np.ones(10), 4, "lambda_l")
        >>> profile(from_random, (3, 7)).axes[0].get_title()
        'Layer profile (n = 4 networks)'
    """
    label = _STATISTIC_LABELS[profile.statistic]
    figure, axes = _axes("depth percentile (%)", label)
    width = 100 / NUM_BINS
    known = np.flatnonzero(profile.count > 0)
    center, mean, std = (known + 0.5) * width, profile.mean[known], profile.std[known]
    if window is not None:
        span = window[0] * width, (window[1] + 1) * width
        name = f"window, bins {window[0]} to {window[1]}"
        axes.axvspan(*span, color=ORANGE, alpha=0.15, linewidth=0, label=name)
    axes.fill_between(center, mean - std, mean + std, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(center, mean, color=BLUE, marker="o", linewidth=2, label=r"mean $\pm$ std")
    axes.set_xlim(0, len(profile.mean) * width)
    axes.set_xticks(np.arange(len(profile.mean) + 1) * width)
    title = f"Layer profile (n = {profile.networks} networks)"
    axes.set_title(title + ", no window" * (window is None))
    _legend(axes)
    return figure


def ranks(
    scores: Sequence[float],
    truth: Sequence[float],
    name: str = "score",
    truth_name: str = "accuracy",
) -> Any:
    """Rank by score against rank by truth, 1 is best, with Spearman's rho and Kendall's tau.

    Args:
        scores: [P], larger is predicted better; failures -inf, or NaN to leave them out.
        truth: [P], larger is better.
        name, truth_name: of the two.

    Example:
        >>> ranks([1.0, 2.0, 3.0], [0.1, 0.3, 0.2], "lswag").axes[0].get_xlabel()
        'rank by lswag (1 is best)'
    """
    from scipy import stats

    found, true = np.asarray(scores, np.float64), np.asarray(truth, np.float64)
    kept = ~np.isnan(found)
    found, true = found[kept], true[kept]
    labels = (f"rank by {of} (1 is best)" for of in (name, truth_name))
    figure, axes = _axes(*labels, inches=(5, 5))
    axes.axline((1, 1), slope=1, color=GREY, linewidth=1, linestyle="--", zorder=1)
    x, y, failed = stats.rankdata(-found), stats.rankdata(-true), np.isneginf(found)
    axes.scatter(x[~failed], y[~failed], color=BLUE, **_DOTS)
    if failed.any():
        axes.scatter(x[failed], y[failed], color=ORANGE, marker="x", s=30, label="failed")
        _legend(axes, "upper left")
    rho, tau = correlation.spearman(found, true), correlation.kendall(found, true)
    axes.set_title(rf"Spearman $\rho$ = {rho:.3f}, Kendall $\tau$ = {tau:.3f}, n = {len(true)}")
    axes.set_aspect("equal")
    return figure


def candidates(selection: Selection) -> Any:
    """What LIBRA chose by: rho, information gain and bias of each candidate, best rho first.

    Args:
        selection: of `lswag_jax.analysis.libra.select`.

    Example:
        >>> from lswag_jax.analysis import libra
        >>> y = np.arange(9.0)
        >>> figure = candidates(libra.select({"good": y, "poor": y % 4}, y, y))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['good', 'poor']
    """
    rows = sorted(selection.candidates, key=lambda c: -c.rho)
    colors = [BLUE if c.name in selection.proxies else GREY for c in rows]
    figure = _figure((8, 1.2 + 0.25 * len(rows)))
    panels = figure.subplots(1, 3, sharey=True)
    kinds = {"rho": "Spearman with accuracy", "ig": "information gain (bits)", "bias": "bias"}
    for axes, (field, label) in zip(panels, kinds.items(), strict=True):
        _style(axes, label, "")
        axes.grid(visible=False, axis="y")
        axes.barh(range(len(rows)), [getattr(c, field) for c in rows], color=colors)
    panels[2].axvline(selection.accuracy_bias, color=ORANGE, label="of the accuracy")
    panels[0].set_yticks(range(len(rows)), [c.name for c in rows])
    panels[0].invert_yaxis()
    panels[0].set_title(f"chosen: {', '.join(selection.proxies)} (n = {selection.n})", loc="left")
    _legend(panels[2])
    return figure


def heat_map(
    proxies: Sequence[str], datasets: Sequence[str], values_KxD: np.ndarray, label: str = "rho"
) -> Any:
    """A statistic of proxies (rows) on data sets or tasks (columns), as the paper's Figure 3.

    Args:
        proxies, datasets: names, in order (`correlation_report.grid`).
        values_KxD: in [-1, 1]; NaN is left grey.
        label: of the colours.

    Example:
        >>> heat_map(["lswag"], ["cifar10"], np.array([[0.8]])).axes[0].texts[0].get_text()
        '0.80'
    """
    values_KxD = np.asarray(values_KxD, np.float64)
    figure = _figure((2.5 + 0.6 * len(datasets), 1.5 + 0.3 * len(proxies)))
    axes = figure.subplots()
    axes.set_facecolor(GREY)
    image = axes.imshow(values_KxD, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(np.arange(len(datasets)), datasets, rotation=45, ha="right")
    axes.set_yticks(np.arange(len(proxies)), proxies)
    for (k, d), value in np.ndenumerate(values_KxD):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 else "black"
            axes.text(d, k, f"{value:.2f}", color=color, ha="center", va="center", fontsize=7)
    figure.colorbar(image, label=label)
    return figure


def averages(
    proxies: Sequence[str], datasets: Sequence[str], values_KxD: np.ndarray, label: str = "rho"
) -> Any:
    """Bars of each proxy's mean over data sets or tasks, with every one as a dot (Figure 4).

    Args:
        proxies, datasets, values_KxD: as of `heat_map`; NaN does not count, and is told.
        label: of the axis.

    Example:
        >>> figure = averages(["a", "b"], ["x", "y"], np.array([[0.2, 0.4], [0.1, np.nan]]))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['a', 'b (1 of 2)']
    """
    values_KxD = np.asarray(values_KxD, np.float64)
    figure = _figure((6.4, 1.2 + 0.3 * len(proxies)))
    axes = figure.subplots()
    _style(axes, f"mean {label} over {len(datasets)} data set{'s' * (len(datasets) > 1)}", "")
    counts, place = (~np.isnan(values_KxD)).sum(1), np.arange(len(proxies))
    mean = np.nansum(values_KxD, axis=1) / np.maximum(counts, 1)
    axes.barh(place, mean, color=BLUE, alpha=0.6)
    for k, values in enumerate(values_KxD):
        axes.scatter(values, np.full(len(values), k), color=ORANGE, zorder=3, **_DOTS)
    names = zip(proxies, counts, strict=True)
    whole = len(datasets)
    axes.set_yticks(place, [n if c == whole else f"{n} ({c} of {whole})" for n, c in names])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    return figure


def save(figure: Any, path: str | os.PathLike) -> None:
    """Writes a figure as PNG, replacing the file as a whole.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(best_so_far([1.0, 2.0]), os.path.join(folder, "best.png"))
        ...     os.listdir(folder)
        ['best.png']
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())


def _figure(inches: tuple[float, float] = (6.4, 4)) -> Any:
    with extra("analysis"):
        from matplotlib.figure import Figure

    return Figure(figsize=inches, layout="constrained")


def _axes(xlabel: str, ylabel: str, **options: Any) -> tuple[Any, Any]:
    """A figure with one set of axes."""
    figure = _figure(**options)
    axes = figure.subplots()
    _style(axes, xlabel, ylabel)
    return figure, axes


def _style(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _mark(axes: Any, x: float, y: float, label: str) -> None:
    axes.scatter([x], [y], color=ORANGE, marker="*", s=160, zorder=3, label=label)


def _legend(axes: Any, loc: str = "best", **options: Any) -> None:
    axes.legend(loc=loc, framealpha=0.85, edgecolor="none", **options)


def _counted(title: str, good: np.ndarray) -> str:
    """A title with the number of architectures and of those that failed."""
    failed = f", {(~good).sum()} failed" if not good.all() else ""
    return f"{title} (n = {len(good)}{failed})"
