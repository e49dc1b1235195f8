"""Figures of a statistic of many proxies on many data sets: a heat map, and bars of means."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lswag_jax.analysis.plots import style
from lswag_jax.analysis.plots.style import BLUE, PALE
from lswag_jax.extras import extra
from lswag_jax.options import Numbers, typed

_SLANTED = 4  # data sets, above which their names are slanted


@typed
def heat_map(
    proxies: Sequence[str],
    datasets: Sequence[str],
    values_KxD: Numbers,
    label: str = "rho",
    *,
    low_KxD: Numbers | None = None,
    high_KxD: Numbers | None = None,
    n_KxD: Numbers | None = None,
    title: str = "",
) -> Any:
    """A statistic of proxies (rows) on data sets or tasks (columns), as the paper's Figure 3.

    Colours go from the smallest value to the largest; where they have both signs, white is 0.

    Args:
        proxies, datasets: names, in order (`report.grid`).
        values_KxD: of the statistic; NaN is left grey.
        label: of the colours; `rho` and `tau` are written out.
        low_KxD, high_KxD: intervals, written below the values; NaN or None for none.
        n_KxD: networks of each; None tells none.
        title: of the figure.

    Raises:
        ValueError: values that are not one for each proxy and data set.

    Example:
        >>> heat_map(["lswag"], ["cifar10"], np.array([[0.8]])).axes[0].texts[0].get_text()
        '0.80'
    """
    given = {"values_KxD": values_KxD, "low_KxD": low_KxD, "high_KxD": high_KxD, "n_KxD": n_KxD}
    values_KxD, between_KxD = _checked(proxies, datasets, given)
    told = np.isfinite(between_KxD).any()
    width, height = (0.95, 0.42) if told else (0.6, 0.3)
    wide = max(4.2, 3 + width * len(datasets))
    figure = style.figure_of((wide, 1.7 + height * len(proxies)))
    axes = figure.subplots()
    axes.set_facecolor(PALE)
    cmap, norm = _colours(values_KxD)
    image = axes.imshow(values_KxD, cmap=cmap, norm=norm, aspect="auto")
    names = [_with_n(name, n_KxD, d) for d, name in enumerate(datasets)]
    slant = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        if len(datasets) > _SLANTED
        else {}
    )
    axes.set_xticks(np.arange(len(datasets)), names, fontsize=9, **slant)
    axes.set_yticks(np.arange(len(proxies)), proxies)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (k, d), value in np.ndenumerate(values_KxD):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        low, high = between_KxD[:, k, d]
        options = {"color": "white" if dark else "black", "ha": "center"}
        if np.isfinite((low, high)).all():
            between = f"[{_short(low)}, {_short(high)}]"
            axes.text(d, k - 0.06, _short(value), va="bottom", fontsize=8, **options)
            axes.text(d, k + 0.06, between, va="top", fontsize=6.5, **options)
        else:
            axes.text(d, k, _short(value), va="center", fontsize=8, **options)
    bar = figure.colorbar(image, label=style.statistic(label))
    if np.isfinite(values_KxD).any():  # of a scale around 0 only what is used
        bar.ax.set_ylim(*_range(values_KxD))
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _short(value: float) -> str:
    """Two digits behind the point; a zero has no sign."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def _range(values: np.ndarray) -> tuple[float, float]:
    """The smallest and largest value, a little apart where they are the same."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def _colours(values: np.ndarray) -> tuple[str, Any]:
    """A map of colours and what of it the values take."""
    with extra("analysis"):
        from matplotlib.colors import Normalize

    if not np.isfinite(values).any():
        return "YlGnBu", Normalize(0, 1)
    low, high = _range(values)
    if low < 0 < high:
        largest = max(-low, high)
        return "RdBu", Normalize(-largest, largest)
    return ("YlGnBu" if low >= 0 else "YlOrRd_r"), Normalize(low, high)


def _checked(
    proxies: Sequence[str], datasets: Sequence[str], arrays: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Values [K, D], and lower and upper ends [2, K, D], NaN where there is none.

    Raises:
        ValueError: an array has not a value for each proxy and data set.
    """
    shape = (len(proxies), len(datasets))
    if 0 in shape:
        raise ValueError("a figure needs at least one proxy and one data set.")
    for name, array in arrays.items():
        if array is not None and np.shape(array) != shape:
            raise ValueError(
                f"{name} must have a row for each of {shape[0]} proxies and a column for each of "
                f"{shape[1]} data sets, got shape {np.shape(array)}."
            )
    ends = [arrays[key] for key in ("low_KxD", "high_KxD")]
    ends = [np.full(shape, np.nan) if end is None else end for end in ends]
    return np.asarray(arrays["values_KxD"], np.float64), np.asarray(ends, np.float64)


def _with_n(name: str, n_KxD: np.ndarray | None, column: int) -> str:
    """A data set with its number of networks, from the smallest to the largest of the proxies."""
    if n_KxD is None:
        return name
    counts = np.asarray(n_KxD, np.float64)[:, column]
    counts = counts[np.isfinite(counts)]
    if not counts.size:
        return name
    low, high = int(counts.min()), int(counts.max())
    return f"{name}\nn = {high:,}" if low == high else f"{name}\nn = {low:,} to {high:,}"


@typed
def averages(
    proxies: Sequence[str],
    datasets: Sequence[str],
    values_KxD: Numbers,
    label: str = "rho",
    *,
    low_KxD: Numbers | None = None,
    high_KxD: Numbers | None = None,
    n_KxD: Numbers | None = None,
    title: str = "",
) -> Any:
    """Bars of each proxy's mean over data sets or tasks, with every one as a dot (Figure 4).

    Args:
        proxies, datasets, values_KxD: as of `heat_map`; NaN does not count, and is told.
        label: of the axis; `rho` and `tau` are written out.
        low_KxD, high_KxD: intervals, drawn at the dots; NaN or None for none.
        n_KxD: networks of each; None tells none.
        title: of the figure.

    Example:
        >>> figure = averages(["a", "b"], ["x", "y"], np.array([[0.2, 0.4], [0.1, np.nan]]))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['a', 'b (1 of 2)']
    """
    given = {"values_KxD": values_KxD, "low_KxD": low_KxD, "high_KxD": high_KxD, "n_KxD": n_KxD}
    values_KxD, between_KxD = _checked(proxies, datasets, given)
    told, whole = np.isfinite(between_KxD).any(), len(datasets)
    step = 0.3 if not told else 0.24 + 0.055 * min(whole, 8)
    figure = style.figure_of((6.4, 1.6 + step * len(proxies)))
    axes = figure.subplots()
    over = f" on {datasets[0]}" if whole == 1 else f" over {whole} data sets"
    style.dress(axes, ("" if whole == 1 else "mean ") + style.statistic(label) + over, "")
    counts, place = (~np.isnan(values_KxD)).sum(1), np.arange(len(proxies))
    mean = np.nansum(values_KxD, axis=1) / np.maximum(counts, 1)
    axes.barh(place, mean, color=BLUE, alpha=0.35)
    shifts = np.linspace(-0.27, 0.27, whole) if whole > 1 else np.zeros(1)
    for d, dataset in enumerate(datasets):
        color, marker = style.series(d)
        values, (low, high) = values_KxD[:, d], between_KxD[:, :, d]
        label = _with_n(dataset, n_KxD, d).replace("\n", ", ")
        at = place + shifts[d]
        options = {"color": color, "zorder": 3}
        axes.scatter(values, at, marker=marker, s=22, linewidths=0, label=label, **options)
        # An interval may lie to one side of its value, where resamples have more ties.
        axes.hlines(at, low, high, linewidth=1.2, **options)
    names = zip(proxies, counts, strict=True)
    axes.set_yticks(place, [n if c == whole else f"{n} ({c} of {whole})" for n, c in names])
    axes.set_ylim(len(proxies) - 0.45, -0.55)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    if title:
        figure.suptitle(title, fontsize=11)
    style.legend(figure, ncols=3)
    return figure
