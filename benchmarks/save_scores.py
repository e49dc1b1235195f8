"""Our scores of one population as a table: the files of `benchmarks/scores/`.

    python benchmarks/run.py save_scores --dataset=cifar100 \
        --output=benchmarks/scores/vitbench.csv.gz results/vitbench/lswag results/vitbench/...

Each folder has the archive of a run that scored the same networks by other proxies; a file is a
table made before, some of whose proxies were scored again. Of a proxy that two of them have the
first counts. RESULTS.md has the commands of the runs.
"""

import argparse
import pathlib

import numpy as np

from lswag_jax import proxies
from lswag_jax.analysis import tables
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.runs.archive import read_rows
from lswag_jax.scoring.table import ScoreTable

PROVENANCE = "lswag_jax, seed 0, see benchmarks/RESULTS.md"
SIZES = ("params", "macs")


def records(source: str, dataset: str) -> list[Records]:
    """Scores of a table, or of an archive by the proxies of the registry at their defaults."""
    if pathlib.Path(source).is_file():
        return [r for r in tables.read(source).records() if r.dataset == dataset]
    rows, _ = read_rows(pathlib.Path(source) / "archive.jsonl")
    rows = [row for row in rows if "error" not in row]  # of a machine, not of a proxy
    names = [n for n in rows[0]["parts"] if n in proxies.PROXIES and n not in SIZES]
    table = ScoreTable(rows, proxies.resolve([*names, *SIZES]))
    return [
        Records(dataset, name, table.ids, np.round(table.values(name), 12), PROVENANCE)
        for name in table
    ]


def main() -> None:
    """Writes one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", help="folders of archives, or tables")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", required=True, help="a .csv, .csv.gz or .parquet")
    arguments = parser.parse_args()
    found: dict[str, Records] = {}
    for source in arguments.sources:
        for record in records(source, arguments.dataset):
            found.setdefault(record.metric, record)
    GroundTruth.from_records(found.values()).write(arguments.output)


if __name__ == "__main__":
    main()
