"""What a report says of how far scores can be trusted, without accuracies."""

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
