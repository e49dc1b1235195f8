"""What lswag-correlate and lswag-libra left in a folder, for a report: their tables and plots."""

import json
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lswag_jax.analysis.page import Table

CORRELATION, SELECTION = "correlation.csv", "selection.json"
CAPTIONS = {
    "heat_map": "Rank correlation of each proxy with the truth on each data set.",
    "averages": "Means of the rank correlations over data sets.",
    "ranks": "Ranks by the best proxy of each data set against those of the truth.",
    "candidates": "Correlation, information gain and bias of the candidates of LIBRA.",
}
MAIN = ("dataset", "proxy", "rho", "tau", "n")  # columns of the summary


class Report(NamedTuple):
    """What there is to tell of a run.

    Attributes:
        config: of the run.
        facts: sentences.
        figures: by the names of their files; those that were written before as paths.
        tables: of the page.
        lines: further ones of the summary, Markdown.
    """

    config: dict[str, Any]
    facts: list[str]
    figures: dict[str, Any]
    tables: "list[Table]"
    lines: list[str]


def are_in(folder: pathlib.Path) -> bool:
    """Whether a folder is of lswag-correlate or lswag-libra."""
    return any((folder / name).is_file() for name in (CORRELATION, SELECTION))


def read(folder: pathlib.Path) -> Report:
    """What is in the folder of lswag-correlate, of lswag-libra, or of both.

    Raises:
        ValueError: a file of theirs is damaged; the message names it.
    """
    found = Report({}, [], {}, [], [])
    if (folder / CORRELATION).is_file():
        _add_correlation(found, folder)
    if (folder / SELECTION).is_file():
        _add_selection(found, folder)
    for name in CAPTIONS:
        written = (folder / f"{name}.{kind}" for kind in ("svg", "png"))
        if file := next(filter(pathlib.Path.is_file, written), None):
            found.figures[name] = file
    return found


def _add_correlation(found: Report, folder: pathlib.Path) -> None:
    from lswag_jax.analysis.page import Table

    columns = _columns(folder / CORRELATION, MAIN)
    proxies, datasets = (dict.fromkeys(columns[key]) for key in ("proxy", "dataset"))
    found.facts.append(f"correlation of {len(proxies)} proxies on {len(datasets)} data sets")
    rows = list(zip(*(columns[key] for key in MAIN), strict=True))
    for dataset in datasets:
        known = [row for row in rows if row[0] == dataset and row[2] is not None]
        if known:
            best = max(known, key=lambda row: row[2])
            found.facts.append(f"best on {dataset}: {best[1]}, rho {best[2]:.3f}")
    note = "docs/outputs.md says what the columns are. Click one to sort by it."
    found.tables.append(Table("Rank correlation with the truth", columns, note))
    found.lines.extend(_markdown(MAIN, rows))


def _add_selection(found: Report, folder: pathlib.Path) -> None:
    from lswag_jax.analysis.page import Table

    path = folder / SELECTION
    try:
        selection = json.loads(path.read_text(encoding="utf-8"))
        chosen, benchmark = selection["fitness"]["proxies"], selection["benchmark"]
        of = f"{benchmark['metric']} on {benchmark['dataset']}"
        found.facts.append(f"LIBRA chose {', '.join(chosen)} by {of}")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is not a selection that lswag-libra wrote.") from None
    names = {"report.csv": "What the choice is worth", "candidates.csv": "Candidates of LIBRA"}
    for name, title in names.items():
        if (folder / name).is_file():
            found.tables.append(Table(title, _columns(folder / name, ("name",))))
    if (folder / "report.csv").is_file():
        main = ("name", "proxies", "in_sample", "split_half", "split_half_std")
        columns = _columns(folder / "report.csv", main)
        rows = list(zip(*(columns[key] for key in main), strict=True))
        found.lines.extend(_markdown(main, rows))


def _columns(path: pathlib.Path, needed: tuple[str, ...]) -> dict[str, list[Any]]:
    """The columns of a CSV file; None where empty."""
    from lswag_jax.analysis.table_files import read_wide

    columns = {key: values.tolist() for key, values in read_wide(path, needed).items()}
    return {k: [None if v != v else v for v in values] for k, values in columns.items()}


def _markdown(head: tuple[str, ...], rows: list[tuple]) -> list[str]:
    texts = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    lines = ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(v.replace('|', '/') for v in row)} |" for row in texts]
