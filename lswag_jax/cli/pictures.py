"""The plots of scored networks that several binaries make, and the formats they are written in."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from lswag_jax.cli import loading


def formats(text: str, key: str = "plots.format") -> tuple[str, ...]:
    """The formats that a key or flag names.

    Args:
        text: one or several of png, pdf and svg, separated by commas.
        key: for the message.

    Raises:
        ValueError: none, or another one.

    Example:
        >>> formats("png, pdf")
        ('png', 'pdf')
    """
    from lswag_jax.analysis.plots import FORMATS

    found = tuple(dict.fromkeys(loading.split(str(text).lower())))
    unknown = [kind for kind in found if kind not in FORMATS]
    if unknown or not found:
        given = unknown[0] if unknown else text
        raise ValueError(f"{key} must be one or several of {', '.join(FORMATS)}, got {given!r}.")
    return found


def save(figures: Mapping[str, Any], folder: pathlib.Path, kinds: Sequence[str]) -> None:
    """Writes each figure in each format.

    Args:
        figures: by the names of their files, without endings.
        folder: receives the files.
        kinds: formats.
    """
    from lswag_jax.analysis import plots

    for name, figure in figures.items():
        for kind in kinds:
            plots.save(figure, folder / f"{name}.{kind}")


def about(space: str, source: str | None) -> str:
    """Where scores are from, for titles: the space, and the data set or the end of its path.

    Example:
        >>> about("darts", "/data/cifar10.npz")
        'darts on cifar10.npz'
    """
    return f"{space} on {pathlib.PurePath(source).name or source}" if source else space


def of_search(result: Any, fitness: Any, where: str = "", space: Any = None) -> dict[str, Any]:
    """Figures of how a search went, its networks by size, and the best one's layers.

    Args:
        result: of the search (`lswag_jax.search.SearchResult`).
        fitness: that it ranks by; of several objectives the front is plotted, in the first of them
            against each other one.
        where: space and data set, for the titles.
        space: of the networks, so that attention and MLPs are told apart; None tells none.

    Returns:
        The figures by the names of their files.
    """
    from lswag_jax.analysis import plots

    table, found = result.table, {}
    if result.objectives:
        first, *others = result.objectives.names
        if len(others) == 1:
            found["front"] = plots.front(table, others[0], first, about=where)
            others = []
        for other in others:  # each a view of one front of them all
            figure = plots.front(table, other, first, result.front, where)
            found[f"front_{other.lstrip('+-')}"] = figure
    elif len(table) > 1:
        generations = [row.get("generation", -1) for row in table.rows]
        generations = generations if min(generations) >= 0 else ()
        found["best_so_far"] = plots.best_so_far(result.fitness, fitness.name, generations, where)
    if len(table) > 1:
        found["score_against_params"] = plots.score_against_params(
            table, fitness.proxies[0], result.best, where
        )
    parts = table.parts.get("lswag", {})
    if "lambda_l" in parts:
        kinds = _kinds(table, result.best, space)
        title = f"best of {len(table):,} by {fitness.name}" + f", {where}" * bool(where)
        found["best_layers"] = plots.layer_factors(parts, result.best, kinds, title)
    return found


def _kinds(table: Any, index: int, space: Any) -> tuple[str, ...]:
    """What each layer of a network is that L-SWAG measured; nothing where it cannot be told."""
    from lswag_jax.analysis.layer_kinds import layer_kinds

    row, proxy = table.rows[index], next(p for p in table.proxies if p.key == "lswag")
    if space is None:
        return ()
    found = layer_kinds(space, space.from_json(row["genotype"]), proxy.window, proxy.bins)
    # A variant with terms of biases and norms has more of them than layers.
    return found if len(found) == len(table.parts["lswag"]["lambda_l"][index]) else ()
