"""The plots of scored networks that several binaries make."""

import pathlib
from typing import Any


def save_all(result: Any, fitness: Any, folder: pathlib.Path) -> None:
    """Plots how a search went, its networks by size, and the best one's layers.

    Args:
        result: of the search (`lswag_jax.search.SearchResult`).
        fitness: that it ranks by.
        folder: receives the files.
    """
    from lswag_jax.analysis import plots

    if len(result.table) > 1:
        plots.save(plots.best_so_far(result.fitness, fitness.name), folder / "best_so_far.png")
        figure = plots.score_against_params(result.table, fitness.proxies[0], result.best)
        plots.save(figure, folder / "score_against_params.png")
    parts = result.table.parts.get("lswag", {})
    if "lambda_l" in parts:
        plots.save(plots.layer_factors(parts, result.best), folder / "best_layers.png")
