"""What a report says of how far scores can be trusted, and of accuracies that were not measured."""

import pathlib
from typing import TYPE_CHECKING, Any

from lswag_jax.scoring import ScoreTable

if TYPE_CHECKING:
    from lswag_jax.analysis.page import Table


def diagnose(table: ScoreTable, again: str, target: pathlib.Path) -> "tuple[list[str], Table]":
    """Lines of the summary, Markdown, and a table of the page; `diagnosis.csv` has all figures.

    Args:
        table: of the run.
        again: folder of a run that measured the same networks once more; empty for none.
        target: folder of the report.

    Raises:
        ValueError: the other run has none of the networks, or lacks a proxy.
        FileNotFoundError: there is no such run.
    """
    from lswag_jax.analysis.page import Table
    from lswag_jax.files import write_csv
    from lswag_jax.runs.reading import read_run

    other = None
    try:
        if again:
            other = ScoreTable(read_run(again).rows, table.proxies)
        found = table.diagnose(other)
    except ValueError as error:
        if not again:
            raise
        raise ValueError(f"--again={again} is no second run of the same: {error}") from error
    figures = [diagnosis.to_json() for diagnosis in found.values()]
    columns = {key: [figure[key] for figure in figures] for key in figures[0]}
    write_csv(target / "diagnosis.csv", columns)
    title = "Can it be trusted here? (without accuracies)"
    sentences = [f"- {diagnosis.sentence}" for diagnosis in found.values()]
    known = {key: v for key, v in columns.items() if any(x is not None for x in v)}
    first = {"proxy": columns["proxy"], "sentence": columns["sentence"]}  # seen without scrolling
    return ["", title, "", *sentences], Table(title, first | known)


def predictions(result: Any, trained: str, target: pathlib.Path) -> list[str]:
    """Lines of the summary, Markdown; every network's prediction is written as `predicted.csv`.

    Args:
        result: the ranked networks (`lswag_jax.search.SearchResult`).
        trained: CSV file of accuracies, `id` and `accuracy`; empty for none.
        target: folder of the report.

    Raises:
        ValueError: what the file has is not of these networks, or too little.
        OSError: the file cannot be read.
    """
    if not trained:
        return []
    from lswag_jax.analysis.calibration import calibrate, read_trained
    from lswag_jax.files import write_csv

    ids = result.table.ids
    found = calibrate(result.preference, read_trained(trained, ids))
    columns = {
        "id": ids,
        "preference": result.preference.tolist(),
        "trained": found.trained.tolist(),
    }
    columns |= {name: getattr(found, name).tolist() for name in ("predicted", "low", "high")}
    write_csv(target / "predicted.csv", columns)
    k, level = int(found.trained.sum()), f"{found.level:.0%}"
    lines = ["", f"Accuracies predicted from {k} trained networks, with intervals of {level}:", ""]
    if found.next is None:
        return [*lines, "- all networks are trained"]
    i = found.next
    figures = f"predicted {found.predicted[i]:.6g}, {found.low[i]:.6g} to {found.high[i]:.6g}"
    return [*lines, f"- train next: `{ids[i]}` ({figures})"]
