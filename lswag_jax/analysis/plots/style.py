"""What all figures share: colours, axes, dots, labels, legends and files."""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lswag_jax.extras import extra
from lswag_jax.files import write_atomically
from lswag_jax.options import typed

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"
PALE, DARK = "#D9D9D9", "#4D4D4D"
# A brown in place of the palette's yellow, which is lost on white.
_SERIES = (
    (ORANGE, "o"), (BLUE, "s"), (GREEN, "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"), (DARK, "X"), ("#7F4F24", "*"),
)  # fmt: skip
FORMATS = ("png", "pdf", "svg")
STATISTICS = {"rho": r"Spearman $\rho$", "tau": r"Kendall $\tau$"}
_MANY = 2000  # dots, above which a vector file holds them as an image
# Texts of a PDF stay texts, and equal figures are equal files.
_FILES: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "lswag_jax"}
_METADATA: dict[str, dict[str, None]] = {
    "png": {},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


@typed
def save(figure: Any, path: str | os.PathLike) -> None:
    """Writes a figure as PNG, PDF or SVG, as its file is called, replacing the file as a whole.

    Raises:
        ValueError: the name ends otherwise.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(figure_of((4, 3)), os.path.join(folder, "best.pdf"))
        ...     os.listdir(folder)
        ['best.pdf']
    """
    if not hasattr(figure, "savefig"):
        raise ValueError(f"figure of save must be a Matplotlib figure, got {figure!r}.")
    kind = pathlib.Path(path).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"a figure is written as .png, .pdf or .svg, got {os.fspath(path)!r}.")
    write_atomically(path, as_bytes(figure, kind))


def as_bytes(figure: Any, kind: str) -> bytes:
    """The content of a figure's file of one of `FORMATS`."""
    with extra("analysis"):
        import matplotlib

    buffer = io.BytesIO()
    dpi = 150 if kind == "png" else 300  # of a vector file's dots where there are many
    with matplotlib.rc_context(_FILES):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=_METADATA[kind])
    return buffer.getvalue()


def row_of(name: str, values: Any, length: int | None = None) -> np.ndarray:
    """Numbers as floats [n]; ValueError where they are not a row, or not `length` of them.

    Example:
        >>> row_of("truth", [1, 2], 3)
        Traceback (most recent call last):
        ValueError: truth must have 3 values, one for each network, got shape (2,).
    """
    row = np.asarray(values, np.float64)
    if row.ndim != 1 or length not in (None, len(row)):
        of = "be a row of values" if length is None else f"have {length} values"
        more = "" if length is None else ", one for each network"
        raise ValueError(f"{name} must {of}{more}, got shape {row.shape}.")
    return row


def check_index(name: str, index: int | None, length: int) -> None:
    """Raise ValueError for an index that no network has."""
    if index is not None and not 0 <= index < length:
        raise ValueError(f"{name} must be an index below {length}, got {index}.")


def figure_of(inches: tuple[float, float] = (6.4, 4), square: bool = False) -> Any:
    """An empty figure that lays itself out, also around axes that are square."""
    with extra("analysis"):
        from matplotlib.figure import Figure

    return Figure(figsize=inches, layout="compressed" if square else "constrained")


def one_axes(xlabel: str, ylabel: str, **options: Any) -> tuple[Any, Any]:
    """A figure with one set of axes."""
    figure = figure_of(**options)
    axes = figure.subplots()
    dress(axes, xlabel, ylabel)
    return figure, axes


def dress(axes: Any, xlabel: str, ylabel: str) -> None:
    """Gives axes their labels, a light grid behind and no frame."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def series(number: int) -> tuple[str, str]:
    """A colour and a marker for one of several things; of 64 no two have both in common.

    Example:
        >>> series(0)[0] == series(8)[0], series(0)[1] == series(8)[1]
        (True, False)
    """
    turn, place = divmod(number, len(_SERIES))
    return _SERIES[place][0], _SERIES[(place + turn) % len(_SERIES)][1]


def dots(number: int) -> dict[str, Any]:
    """Options of a scatter of so many points: the more, the smaller and fainter.

    Example:
        >>> round(dots(100)["s"], 1), round(dots(3000)["s"], 1)
        (22.0, 4.3)
    """
    size = float(np.clip(22 * (200 / max(number, 1)) ** 0.6, 2.5, 22))
    alpha = 0.6 if number <= 500 else 0.45 if number <= 5000 else 0.3
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": number > _MANY}


def mark(axes: Any, x: float, y: float, label: str) -> None:
    """A star at one point."""
    axes.scatter([x], [y], color=ORANGE, marker="*", s=160, zorder=3, label=label,
                 edgecolors="white", linewidths=0.6)  # fmt: skip


def legend(figure: Any, axes: Any = None, ncols: int = 4) -> None:
    """The labels of one or several axes below them, each once; nothing where there is none."""
    found: dict[str, Any] = {}
    for each in figure.axes if axes is None else axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        # A column is as wide as the longest text and its handle, in inches.
        wide = 0.075 * max(map(len, found)) + 0.6
        columns = min(ncols, max(1, int(figure.get_figwidth() / wide)), len(found))
        rows = -(-len(found) // columns)
        figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))  # not at the axes' cost
        where = {"loc": "outside lower center", "ncols": columns}
        shown = figure.legend(found.values(), found.keys(), frameon=False, fontsize=9, **where)
        for handle in shown.legend_handles:
            if hasattr(handle, "get_sizes") and handle.get_sizes()[0] < 22:
                handle.set_sizes([22])  # of dots that are too small to show their colour


def counted(title: str, good: np.ndarray, about: str = "", more: str = "") -> str:
    """A title with the number of architectures and of those that failed.

    Args:
        title: of the figure.
        good: which architectures have a value, bool [P].
        about: the space and data set, on a second line.
        more: what else to tell beside the numbers.

    Example:
        >>> counted("Scores", np.array([True, False]), "darts on cifar10")
        'Scores (n = 2, 1 failed)\\ndarts on cifar10'
    """
    failed = f", {(~good).sum():,} failed" if not good.all() else ""
    more = f", {more}" if more else ""
    return second_line(f"{title} (n = {len(good):,}{failed}{more})", about)


def second_line(title: str, about: str) -> str:
    """A title and, where there is something to add, a line below."""
    return f"{title}\n{about}" if about else title


def unit(values: Sequence[float] | np.ndarray) -> tuple[float, str]:
    """What to divide counts by to make them easy to read, and its word.

    Example:
        >>> unit([73_306, 1_531_546]), unit([900, 65_000]), unit([12])
        ((1000000.0, 'millions'), (1000.0, 'thousands'), (1.0, ''))
    """
    largest = max((abs(float(value)) for value in values), default=0.0)
    if largest >= 1e6:
        return 1e6, "millions"
    return (1e3, "thousands") if largest >= 1e3 else (1.0, "")


def statistic(label: str) -> str:
    """A statistic as figures write it.

    Example:
        >>> statistic("tau"), statistic("regret")
        ('Kendall $\\\\tau$', 'regret')
    """
    return STATISTICS.get(label, label)
