"""A figure of what LIBRA chose, and by what."""

from typing import Any

from lswag_jax.analysis.libra import Selection
from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, GREEN, GREY, ORANGE, PALE
from lswag_jax.options import typed


@typed
def candidates(selection: Selection, about: str = "") -> Any:
    """What LIBRA chose by: rho, information gain and bias of each candidate, best rho first.

    The chosen are named z1, z2 and z3, and have a colour each; candidates outside of the window
    below the best rho are pale.

    Args:
        selection: of `lswag_jax.analysis.libra.select`.
        about: benchmark and data set, for the title.

    Example:
        >>> import numpy as np
        >>> from lswag_jax.analysis import libra
        >>> y = np.arange(9.0)
        >>> figure = candidates(libra.select({"good": y, "poor": y % 4}, y, y))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['z1: good', 'poor']
    """
    rows = sorted(selection.candidates, key=lambda c: (-c.rho, c.name))
    window, best = selection.options.window, rows[0].rho
    places = {name: f"z{i}" for i, name in enumerate(selection.proxies, start=1)}
    chosen = dict(zip(selection.proxies, (BLUE, ORANGE, GREEN), strict=False))
    colors = [chosen.get(c.name, GREY if c.rho > best - window else PALE) for c in rows]
    figure = style.figure_of((8.4, 1.9 + 0.25 * len(rows)))
    panels = figure.subplots(1, 3, sharey=True)
    kinds = {
        "rho": r"Spearman $\rho$ with accuracy",
        "ig": f"information gain\ngiven {rows[0].name} (bits)",
        "bias": r"bias: Spearman $\rho$" + "\nwith parameters",
    }
    if selection.options.bias == "raw":
        kinds["bias"] = "bias: Pearson $r$\nwith parameters"
    for axes, (field, label) in zip(panels, kinds.items(), strict=True):
        style.dress(axes, label, "")
        axes.grid(visible=False, axis="y")
        axes.barh(range(len(rows)), [getattr(c, field) for c in rows], color=colors)
        axes.axvline(0, color="black", linewidth=0.8)
    panels[0].axvspan(
        best - window, best, color="#E69F00", alpha=0.2, linewidth=0, zorder=0,
        label=rf"window: $\rho$ within {window:g} of the best",
    )  # fmt: skip
    options = {"color": "black", "linestyle": "--", "linewidth": 1.2}
    panels[2].axvline(selection.accuracy_bias, label="bias of the accuracy", **options)
    prefixes = [f"{places[c.name]}: " if c.name in places else "" for c in rows]
    names = [p + c.name + " (reversed)" * c.flipped for p, c in zip(prefixes, rows, strict=True)]
    panels[0].set_yticks(range(len(rows)), names)
    for text, c in zip(panels[0].get_yticklabels(), rows, strict=True):
        if c.name in chosen:
            text.set(color=chosen[c.name], fontweight="bold")
    panels[0].invert_yaxis()
    together = ", ".join(f"{place} {name}" for name, place in places.items())
    title = f"LIBRA: {together} (n = {selection.n:,})"
    figure.suptitle(style.second_line(title, about), fontsize=11)
    style.legend(figure)
    return figure
