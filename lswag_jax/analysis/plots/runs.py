"""Figures of a run: scores by size, the progress of a search, the curves of a training."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis import correlation
from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, GREY, ORANGE
from lswag_jax.options import Numbers, typed
from lswag_jax.scoring.table import ScoreTable

_LABELS = 12  # generations that are named above the axes


@typed
def score_against_params(
    table: ScoreTable, proxy: str, best: int | None = None, about: str = ""
) -> Any:
    """Score of each architecture over its parameter count; failed ones are left out and counted.

    Args:
        table: of scores.
        proxy: in the table.
        best: index of an architecture to mark; None marks none.
        about: space and data set, for the title.

    Raises:
        ValueError: the table lacks the proxy.

    Example:
        >>> from lswag_jax import proxies
        >>> row = {"id": "a", "genotype": {}, "params": 7_000, "macs": 9, "seconds": 0.0}
        >>> table = ScoreTable([row], proxies.resolve("params"))
        >>> score_against_params(table, "params").axes[0].get_xlabel()
        'parameters (thousands)'
    """
    scores = table.values(proxy)
    params = np.asarray(table.column("params"), np.float64)
    by, word = style.unit(params)
    good = np.isfinite(scores)
    style.check_index("best", best, len(scores))
    rule = " (product of ranks)" if table.rules.get(proxy) == "rank_product" else " score"
    figure, axes = style.one_axes(f"parameters ({word})" if word else "parameters", proxy + rule)
    axes.scatter(params[good] / by, scores[good], color=BLUE, **style.dots(good.sum()))
    if best is not None and good[best]:
        style.mark(axes, params[best] / by, scores[best], "best")
        style.legend(figure)
    more = ""
    if good.sum() > 2 and np.ptp(params[good]) and np.ptp(scores[good]) and proxy != "params":
        rho = correlation.spearman(scores[good], params[good])
        more = rf"Spearman $\rho$ with size = {rho:.2f}"
    axes.set_title(style.counted(f"{proxy} against size", good, about, more), fontsize=11)
    return figure


@typed
def best_so_far(
    fitness: Numbers,
    name: str = "fitness",
    generations: Sequence[int] = (),
    about: str = "",
) -> Any:
    """Fitness by evaluation and the best one until then; failures (-inf, NaN) are left out.

    Args:
        fitness: [E], in order of evaluation, larger is better.
        name: of the vertical axis.
        generations: [E], of which generation each is, in order; empty marks none.
        about: space and data set, for the title.

    Raises:
        ValueError: not a generation for each evaluation.

    Example:
        >>> best_so_far([1.0, 3.0, 2.0]).axes[0].get_title()
        'Search progress (n = 3)'
    """
    values = style.row_of("fitness", fitness)
    figure, axes = style.one_axes("evaluations", name)
    good, number = np.isfinite(values), np.arange(1, len(values) + 1)
    _mark_generations(axes, generations, len(values))
    options = {"color": GREY, "label": "each architecture"} | style.dots(good.sum())
    axes.scatter(number[good], values[good], **options)
    best = np.fmax.accumulate(np.where(good, values, np.nan)) if len(values) else values
    axes.step(number, best, where="post", color=BLUE, linewidth=2, label="best so far")
    if good.any():
        winner = int(np.nanargmax(np.where(good, values, np.nan)))
        style.mark(axes, number[winner], values[winner], f"best, evaluation {winner + 1:,}")
        style.legend(figure)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(style.counted("Search progress", good, about), fontsize=11)
    return figure


def _mark_generations(axes: Any, generations: Sequence[int], number: int) -> None:
    """Every second generation shaded, their numbers above the axes."""
    if not len(generations):
        return
    if len(generations) != number:
        raise ValueError(f"there are {number} evaluations, but {len(generations)} generations.")
    starts = np.flatnonzero(np.diff(generations, prepend=generations[0] - 1))
    edges = np.append(starts, number) + 0.5
    names = np.asarray(generations)[starts].tolist()
    for left, right in list(itertools.pairwise(edges))[1::2]:
        axes.axvspan(left, right, color="0.95", linewidth=0, zorder=0)
    axes.set_xlim(0.5 - 0.01 * number, number + 0.5 + 0.01 * number)
    every = -(-len(names) // _LABELS)
    above = axes.secondary_xaxis("top")
    above.set_xticks(((edges[:-1] + edges[1:]) / 2)[::every], names[::every])
    above.tick_params(length=0, labelsize=8)
    above.spines["top"].set_visible(False)
    above.set_xlabel("generation", fontsize=9)


@typed
def training(
    train: Sequence[Mapping[str, Any]], eval: Sequence[Mapping[str, Any]] = (), about: str = ""
) -> Any:
    """Loss and accuracy of a training by epoch.

    Args:
        train, eval: rows of its metrics, `epoch` and `loss` each, those of validation also `top1`.
        about: network and data set, for the title.

    Raises:
        ValueError: a row without its epoch or loss.

    Example:
        >>> training([{"epoch": 1, "loss": 2.0}], [{"epoch": 1, "loss": 1.9, "top1": 0.4}]).axes[
        ...     1].get_ylabel()
        'top-1 of validation'
    """
    for name, rows in (("train", train), ("eval", eval)):
        for row in rows:
            if lacking := {"epoch", "loss"} - set(row):
                raise ValueError(f"a row of {name} lacks {', '.join(sorted(lacking))}.")
    figure = style.figure_of((6.4, 5))
    upper, lower = figure.subplots(2, sharex=True)
    style.dress(upper, "", "loss")
    style.dress(lower, "epoch", "top-1 of validation")
    for rows, name, colour in ((train, "training", BLUE), (eval, "validation", ORANGE)):
        marker = "." if len(rows) <= 100 else ""
        epochs = [row["epoch"] for row in rows]
        if rows:
            losses = [row["loss"] for row in rows]
            upper.plot(epochs, losses, color=colour, label=name, marker=marker)
    epochs, top1 = [row["epoch"] for row in eval], [row.get("top1", np.nan) for row in eval]
    lower.plot(epochs, top1, color=ORANGE, marker="." if len(eval) <= 100 else "")
    if np.isfinite(top1).any():
        best = int(np.nanargmax(top1))
        style.mark(lower, epochs[best], top1[best], f"best, {top1[best]:.4f}")
    upper.set_title(style.second_line("Training", about), fontsize=11)
    style.legend(figure)
    return figure
