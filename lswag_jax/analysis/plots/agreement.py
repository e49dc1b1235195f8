"""Figures of a proxy's ranks against those of the truth, one panel a data set."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis import correlation
from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, GREY, ORANGE
from lswag_jax.options import Numbers, typed

_COLUMNS = 3


@typed
def ranks(
    scores: Numbers,
    truth: Numbers,
    name: str = "score",
    truth_name: str = "accuracy",
    dataset: str = "",
    interval: tuple[float, float] | None = None,
) -> Any:
    """Rank by score against rank by truth, 1 is best, with Spearman's rho and Kendall's tau.

    Args:
        scores: [P], larger is predicted better; failures -inf, or NaN to leave them out.
        truth: [P], larger is better.
        name, truth_name: of the two.
        dataset: that they are of, for the title.
        interval: of rho, as `report.summary` has it; None tells none.

    Raises:
        ValueError: scores and truth that differ in length, or a truth that is NaN.

    Example:
        >>> ranks([1.0, 2.0, 3.0], [0.1, 0.3, 0.2], "lswag").axes[0].get_xlabel()
        'rank by lswag (1 is best)'
    """
    figure = style.figure_of((5, 5.4), square=True)
    _draw(figure.subplots(), scores, truth, name, truth_name, dataset, interval)
    style.legend(figure)
    return figure


@typed
def rank_panels(panels: Sequence[Mapping[str, Any]], truth_name: str = "accuracy") -> Any:
    """`ranks` of several data sets beside each other.

    Args:
        panels: the arguments `scores`, `truth`, `name`, `dataset` and `interval` of each.
        truth_name: of the truth of all.

    Raises:
        ValueError: no panel.

    Example:
        >>> panel = {"scores": [1.0, 2.0], "truth": [0.1, 0.2], "name": "nwot"}
        >>> figure = rank_panels([panel | {"dataset": of} for of in ("cifar10", "cifar100")])
        >>> [axes.get_title().splitlines()[0] for axes in figure.axes]
        ['nwot on cifar10', 'nwot on cifar100']
    """
    if not panels:
        raise ValueError("ranks need at least one data set.")
    known = inspect.signature(_draw).parameters
    for panel in panels:
        if not {"scores", "truth"} <= set(panel) <= set(known):
            raise ValueError(
                "a panel has scores, truth, name, dataset and interval, got "
                f"{', '.join(map(str, panel)) or 'nothing'}."
            )
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = style.figure_of((3.5 * columns + 0.2, 4.1 * rows + 0.5), square=True)
    figure.get_layout_engine().set(h_pad=0.1)  # titles of three lines below the labels above
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw(axes, **panel, truth_name=truth_name, title_size=9)
    for axes in places[len(panels) :]:
        axes.remove()
    for i, axes in enumerate(places[: len(panels)]):
        if i % columns:
            axes.set_ylabel("")
    style.legend(figure)
    return figure


def _draw(
    axes: Any,
    scores: Numbers,
    truth: Numbers,
    name: str = "score",
    truth_name: str = "accuracy",
    dataset: str = "",
    interval: tuple[float, float] | None = None,
    title_size: float = 11,
) -> None:
    """One panel."""
    from scipy import stats

    found = style.row_of("scores", scores)
    true = style.row_of("truth", truth, len(found))
    kept = ~np.isnan(found)
    found, true = found[kept], true[kept]
    style.dress(axes, *(f"rank by {of} (1 is best)" for of in (name, truth_name)))
    axes.axline((1, 1), slope=1, color=GREY, linewidth=1, linestyle="--", zorder=1)
    x, y, failed = stats.rankdata(-found), stats.rankdata(-true), np.isneginf(found)
    axes.scatter(x[~failed], y[~failed], color=BLUE, **style.dots(len(true)))
    if failed.any():
        options = {"color": ORANGE, "marker": "x", "s": 30, "linewidths": 1.2, "zorder": 3}
        axes.scatter(x[failed], y[failed], label="failed, ranked last", **options)
    rho, tau = correlation.spearman(found, true), correlation.kendall(found, true)
    between = "" if interval is None or np.isnan(np.asarray(interval, float)).any() else (
        f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    )  # fmt: skip
    parts = [rf"Spearman $\rho$ = {rho:.3f}{between}", rf"Kendall $\tau$ = {tau:.3f}"]
    parts.append(f"n = {len(true):,}")
    title = ", ".join(parts)
    if dataset:
        first, *rest = parts
        title = f"{name} on {dataset}\n{first}\n{', '.join(rest)}"
    axes.set_title(title, fontsize=title_size)
    axes.locator_params(nbins=5)
    ends = 1 - 0.04 * len(true), 1.04 * len(true)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
