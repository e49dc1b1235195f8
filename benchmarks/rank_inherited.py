"""What ranks 500 sub-networks of each of the six tasks' super-networks: a few proxies.

    python benchmarks/run.py --save rank_inherited --data=../shared/data

The truth is `benchmarks/vit_tasks/inherited.csv.gz` (`vit_supernets`), without the genotypes that
are trained from scratch, too. Networks are scored at initialisation, with 64 training images of the
task, 32 of them for gradients. Writes `benchmarks/scores/vit_inherited.csv.gz`; a task that it has
is not scored again.
"""

import argparse
import json

import numpy as np
import rank_vit_tasks
import tables as result_tables
import vit_supernets
import vit_task_data
import vit_tasks

from lswag_jax.analysis import report, tables

PROXIES = ("lswag", "zico", "swap", "nwot", "dss", "autoprox_a", "synflow", "params", "macs")
OUTPUT = vit_tasks.FOLDER.parent / "scores" / "vit_inherited.csv.gz"


def main() -> None:
    """Scores what is missing, and shows correlations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    arguments = parser.parse_args()
    arguments.steps, arguments.batch_size = 1, 1  # nothing is trained here
    config = json.loads((vit_tasks.FOLDER / "config.json").read_text())
    truth = tables.read(vit_tasks.FOLDER / vit_supernets.OUTPUT)
    texts = [text for text in truth.genotypes if text not in config["genotypes"]]
    found = list(tables.read(OUTPUT).records()) if OUTPUT.is_file() else []
    for name in truth.datasets:
        if name in {record.dataset for record in found}:
            continue
        recipe = vit_task_data.Recipe(**config["tasks"][name])
        work = vit_tasks.work_of(name, recipe, arguments)
        found += rank_vit_tasks.score(work, texts, PROXIES)
        tables.GroundTruth.from_records(found).write(OUTPUT)
        print(f"{name} is scored", flush=True)
    scores = tables.GroundTruth.from_records(found)
    accuracy = {
        name: dict(zip(truth.genotypes, truth.values(name, vit_supernets.METRIC), strict=True))
        for name in truth.datasets
    }
    summaries = {
        name: report.summary(
            {proxy: scores.values(name, proxy) for proxy in PROXIES},
            np.array([accuracy[name][text] for text in scores.genotypes]),
            scores.values(name, "params"),
        )
        for name in truth.datasets
    }
    for title, key in (("Spearman", "rho"), ("Spearman given #params", "partial_rho")):
        rows = rank_vit_tasks.side_by_side(summaries, key)
        result_tables.show(title, rows, 2, len(scores.genotypes))


if __name__ == "__main__":
    main()
