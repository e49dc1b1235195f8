"""What ranks the vision transformers of the six tasks untrained: every proxy, task by task.

    python benchmarks/run.py --save rank_vit_tasks --data=../shared/data

The genotypes of `benchmarks/vit_tasks/` are scored at initialisation, on each task by one call of
`score` with 64 of its training images, and correlated with what is trained so far. Writes
`benchmarks/scores/vit_tasks.csv.gz`; a task that it has is not scored again.
"""

import argparse
import json
import pathlib

import numpy as np
import tables as result_tables
import vit_task_data
import vit_task_figures
import vit_tasks

from lswag_jax.analysis import report as correlation_report
from lswag_jax.analysis import tables
from lswag_jax.runs.archive import read_rows
from lswag_jax.scoring import population

PROVENANCE = "lswag_jax, seed 0, benchmarks/rank_vit_tasks.py"
IMAGES = 64


def score(work: vit_tasks.Work, texts: list[str]) -> list[tables.Records]:
    """Proxies of genotypes on a task."""
    space = vit_tasks.space_of(work.recipe, work.pools[0].num_classes)
    training = work.images[0]
    index = np.random.default_rng(0).permutation(len(training.labels))[:IMAGES]
    batch = training.batch(index)
    genotypes = [space.parse(text) for text in texts]
    table = population.score(
        space, genotypes, batch["image"] / 255, batch["label"], "all", gradient_batch=32
    )
    return [
        tables.Records(work.name, name, texts, np.round(table.values(name), 12), PROVENANCE)
        for name in table
    ]


def main() -> None:
    """Scores what is missing, and shows correlations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default=str(vit_tasks.FOLDER), help="of the trained networks")
    parser.add_argument(
        "--output", default=str(vit_tasks.FOLDER.parent / "scores" / "vit_tasks.csv.gz")
    )
    arguments = parser.parse_args()
    arguments.steps, arguments.batch_size = 1, 1  # nothing is trained here
    folder, output = pathlib.Path(arguments.workdir), pathlib.Path(arguments.output)
    config = json.loads((folder / "config.json").read_text())
    found = list(tables.read(output).records()) if output.is_file() else []
    for name, recipe in config["tasks"].items():
        if name in {record.dataset for record in found}:
            continue
        recipe = vit_task_data.Recipe(**recipe)
        default, *splits = vit_task_data.SOURCES[recipe.images]
        source = (default.format(data=arguments.data), *splits)
        found += score(vit_tasks.Work(name, recipe, source, arguments), config["genotypes"])
        tables.GroundTruth.from_records(found).write(output)
        print(f"{name} is scored", flush=True)
    correlate(tables.GroundTruth.from_records(found), read_rows(folder / vit_tasks.ROWS)[0])


def correlate(scores: tables.GroundTruth, rows: list[dict]) -> None:
    """Shows a table for each task that has ten networks or more."""
    for task in scores.datasets:
        accuracy = vit_task_figures.accuracies(rows, task)
        index = [i for i, text in enumerate(scores.genotypes) if text in accuracy]
        if len(index) < 10:
            print(f"{task}: only {len(index)} networks are trained.")
            continue
        mean = np.array([np.mean(accuracy[scores.genotypes[i]]) for i in index])
        values = {name: scores.values(task, name)[index] for name in scores.metrics(task)}
        summary = correlation_report.summary(values, mean, values["params"])
        shown = [result_tables.correlations(row) for row in summary]
        result_tables.show(task, shown, result_tables.INTERVAL, len(index))


if __name__ == "__main__":
    main()
