"""A report as one HTML page: facts, pictures and tables in a single file that needs nothing else.

Tables are sorted by a click on a column's name, without a server. All text is escaped, and the page
forbids itself to load anything from elsewhere.
"""

import base64
import html
import math
import pathlib
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from lswag_jax.analysis.plots.style import as_bytes

_LONG = 24  # characters, above which a text is broken into lines


class Table(NamedTuple):
    """A table of the page.

    Attributes:
        title: above it.
        columns: by name, of equal length; numbers, texts, truth values or None.
        note: a sentence below the title.
    """

    title: str
    columns: Mapping[str, Sequence[Any]]
    note: str = ""


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        figure: a Matplotlib figure, or the path of one that was written as PNG or SVG.
        caption: what it shows, also for those who cannot see it.
    """

    figure: Any
    caption: str


def render(
    title: str,
    facts: Sequence[str],
    pictures: Sequence[Picture] = (),
    tables: Sequence[Table] = (),
) -> str:
    """Makes the page, as HTML.

    Args:
        title: of the page.
        facts: sentences at its top.
        pictures: below them, as SVG within the page.
        tables: below those.

    Raises:
        ValueError: columns of a table differ in length.

    Example:
        >>> page = render("a < b", ["3 networks"], tables=[Table("Scores", {"swap": [2.5, None]})])
        >>> "a &lt; b" in page, '<td class="number" data-v="2.5">2.5</td>' in page
        (True, True)
    """
    template = resources.files("lswag_jax") / "assets" / "report.html"
    body = [_pictures(pictures)] if pictures else []
    body += [_table(table) for table in tables]
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        facts="\n".join(f"<li>{html.escape(fact)}</li>" for fact in facts),
        body="\n".join(body),
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    """All pictures, beside each other where the window is wide."""
    return f'<section class="pictures">\n{"".join(map(_picture, pictures))}</section>'


def _picture(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    kind, figure = "svg+xml", picture.figure
    if isinstance(figure, pathlib.Path):
        kind = {".png": "png"}.get(figure.suffix, kind)
        written = figure.read_bytes()
    else:
        written = as_bytes(figure, "svg")
    data = base64.b64encode(written).decode()
    image = f'<img alt="{caption}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>\n"


def _table(table: Table) -> str:
    """A table whose heads are buttons that sort it."""
    rows = list(zip(*table.columns.values(), strict=True))
    heads = "".join(
        f'<th scope="col"{_kind(values)}><button type="button">{html.escape(name)}</button></th>'
        for name, values in table.columns.items()
    )
    lines = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    note = f'\n<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f"<section>\n<h2>{html.escape(table.title)}</h2>{note}\n"
        f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table></div>\n</section>"
    )


def _kind(values: Sequence[Any]) -> str:
    """Where a column's head stands: over numbers at the right."""
    numbers = [_is_number(value) for value in values if value is not None]
    return ' class="number"' if numbers and all(numbers) else ""


def _cell(value: Any) -> str:
    """A number with its full value for sorting, or a text."""
    if value is None:
        return '<td class="number" data-v="NaN"></td>'
    if not _is_number(value):
        kind = ' class="long"' if len(str(value)) > _LONG else ""
        return f"<td{kind}>{html.escape(str(value))}</td>"
    number = float(value)
    # As JavaScript writes them.
    full = repr(number) if math.isfinite(number) else str(number).replace("inf", "Infinity")
    shown = f"{value:,}" if isinstance(value, int | np.integer) else f"{number:.6g}"
    return f'<td class="number" data-v="{full.replace("nan", "NaN")}">{shown}</td>'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
