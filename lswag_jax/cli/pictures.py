"""The plots of scored networks that several binaries make."""

import pathlib
from typing import Any


def save_all(result: Any, fitness: Any, folder: pathlib.Path) -> None:
    """Plots how a search went, its networks by size, and the best one's layers.

    Args:
        result: of the search (`lswag_jax.search.SearchResult`).
        fitness: that it ranks by; of several objectives the front is plotted, in the first of them
            against each other one.
        folder: receives the files.
    """
    from lswag_jax.analysis import plots

    if result.objectives:
        first, *others = result.objectives.names
        if len(others) == 1:
            plots.save(plots.front(result.table, others[0], first), folder / "front.png")
            others = []
        for other in others:  # each a view of one front of them all
            figure = plots.front(result.table, other, first, result.front)
            plots.save(figure, folder / f"front_{other.lstrip('+-')}.png")
    elif len(result.table) > 1:
        plots.save(plots.best_so_far(result.fitness, fitness.name), folder / "best_so_far.png")
    if len(result.table) > 1:
        figure = plots.score_against_params(result.table, fitness.proxies[0], result.best)
        plots.save(figure, folder / "score_against_params.png")
    parts = result.table.parts.get("lswag", {})
    if "lambda_l" in parts:
        plots.save(plots.layer_factors(parts, result.best), folder / "best_layers.png")
