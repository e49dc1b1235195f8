"""A figure of two objectives and the networks that no other one dominates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, GREY
from lswag_jax.options import typed
from lswag_jax.scoring.nsga2 import non_dominated
from lswag_jax.scoring.objectives import direction
from lswag_jax.scoring.table import ScoreTable

_COUNTS = ("params", "macs")  # in thousands or millions
_UNITS = {"latency": (1e-3, "ms"), "memory": (1e6, "MB")}  # of seconds and bytes, as in windows


@typed
def front(
    table: ScoreTable | Mapping[str, Sequence[float]],
    x: str,
    y: str,
    members: Sequence[int] | None = None,
    about: str = "",
) -> Any:
    """Two columns of a table against each other, with the networks that no other one dominates.

    Networks that failed in either are left out and counted.

    Args:
        table: of scores, or any columns by their names.
        x, y: proxies or columns. Params, macs, latency and memory are minimised and all others
            maximised, where no sign says (`+NAME`, `-NAME`; `scoring.objectives.direction`).
        members: indices of the front, where more than these two columns make it; None for theirs.
        about: space and data set, for the title.

    Raises:
        ValueError: the table lacks a column, its columns differ in length, or a member is none.

    Example:
        >>> columns = {"macs": [1, 2, 3], "accuracy": [70.0, 75.0, 72.0]}
        >>> front(columns, "macs", "accuracy").axes[0].get_title()
        'Front of 2 (n = 3)'
    """
    names, minimised = zip(*map(direction, (x, y)), strict=True)
    columns = [style.row_of(name, _column(table, name)) for name in names]
    values = np.stack([columns[0], style.row_of(names[1], columns[1], len(columns[0]))], 1)
    good = np.asarray(np.isfinite(values).all(1))
    if members is None:
        signs = np.where(minimised, -1, 1)
        chosen = np.flatnonzero(good)[non_dominated(signs * values[good])]
    else:
        for member in members:
            style.check_index("each of members", member, len(values))
        chosen = np.asarray(members, int)
    units = [style.unit(v[good]) if n in _COUNTS else _UNITS.get(n, (1.0, ""))
             for n, v in zip(names, values.T, strict=True)]  # fmt: skip
    values = values / [by for by, _ in units]
    labels = map(_label, names, (word for _, word in units), minimised)
    figure, axes = style.one_axes(*labels)
    options = {"color": GREY, "label": "each network"} | style.dots(good.sum())
    axes.scatter(*values[good].T, **options)
    chosen = chosen[np.lexsort(values[chosen].T[::-1])]
    # Between two of the front the value of the one that is no worse in x can be had.
    where = "post" if minimised[0] else "pre"
    line = {"linewidth": 1.5} if members is None else {"linewidth": 0}
    axes.step(*values[chosen].T, where=where, color=BLUE, marker="o", markersize=5,
              label="front", **line)  # fmt: skip
    style.legend(figure)
    axes.set_title(style.counted(f"Front of {len(chosen):,}", good, about), fontsize=11)
    return figure


def _label(name: str, word: str, minimised: bool) -> str:
    """A column, its unit and whether smaller is better."""
    more = ", ".join(filter(None, (word, "smaller is better" if minimised else "")))
    return f"{name} ({more})" if more else name


def _column(table: ScoreTable | Mapping[str, Sequence[float]], name: str) -> np.ndarray:
    """A proxy's values, failures being -inf, or a column, as floats [P]."""
    if isinstance(table, ScoreTable) and name not in table and name in _COUNTS:
        return table.column(name).astype(np.float64)
    if name not in table:
        raise ValueError(f"the table has no column {name!r}, it has {', '.join(table)}.")
    values = table.values(name) if isinstance(table, ScoreTable) else table[name]
    return np.asarray(values, np.float64)
