"""What a report says of how far scores can be trusted, and of accuracies that were not measured."""

import pathlib
from typing import Any

from lswag_jax.scoring import ScoreTable


def summary(table: ScoreTable, again: str, target: pathlib.Path) -> list[str]:
    """Lines of the summary, Markdown; all figures are written as `diagnosis.csv`.

    Args:
        table: of the run.
        again: folder of a run that measured the same networks once more; empty for none.
        target: folder of the report.

    Raises:
        ValueError: the other run has none of the networks, or lacks a proxy.
        FileNotFoundError: there is no such run.
    """
    from lswag_jax.files import write_csv
    from lswag_jax.runs.reading import read_run

    other = ScoreTable(read_run(again).rows, table.proxies) if again else None
    found = table.diagnose(other)
    figures = [diagnosis.to_json() for diagnosis in found.values()]
    write_csv(target / "diagnosis.csv", {key: [f[key] for f in figures] for key in figures[0]})
    rows = [
        "| proxy | failed | tied | stable over seeds | over runs | rho with #params | with MACs |",
        "|---|---|---|---|---|---|---|",
        *(_row(d) for d in found.values()),
    ]
    sentences = [f"- {d.sentence}" for d in found.values()]
    return ["", "Can it be trusted here? (without accuracies)", "", *sentences, "", *rows]


def _row(found: Any) -> str:
    rhos = (found.over_seeds, found.over_tables, found.with_params, found.with_macs)
    cells = ["" if rho is None else f"{rho:.3f}" for rho in rhos]
    return f"| {found.proxy} | {found.failed:.0%} | {found.tied:.0%} | {' | '.join(cells)} |"


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
    found = calibrate(result.fitness, read_trained(trained, ids))
    columns = {"id": ids, "fitness": result.fitness.tolist(), "trained": found.trained.tolist()}
    columns |= {name: getattr(found, name).tolist() for name in ("predicted", "low", "high")}
    write_csv(target / "predicted.csv", columns)
    k, level = int(found.trained.sum()), f"{found.level:.0%}"
    lines = ["", f"Accuracies predicted from {k} trained networks, with intervals of {level}:", ""]
    if found.next is None:
        return [*lines, "- all networks are trained"]
    i = found.next
    figures = f"predicted {found.predicted[i]:.6g}, {found.low[i]:.6g} to {found.high[i]:.6g}"
    return [*lines, f"- train next: `{ids[i]}` ({figures})"]
