"""What ranks the vision transformers of the six tasks untrained: every proxy, task by task.

    python benchmarks/run.py --save rank_vit_tasks --data=../shared/data

The genotypes of `benchmarks/vit_tasks/` are scored at initialisation, on each task by one call of
`score` with 64 of its training images, and correlated with what is trained so far. LIBRA chooses on
three tasks and is judged on the others, beside merges without labels. Of the accuracies alone: how
tasks agree, and what the best network of one loses on another. Writes
`benchmarks/scores/vit_tasks.csv.gz`; a task that it has is not scored again.
"""

import argparse
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import tables as result_tables
import vit_task_data
import vit_task_figures
import vit_tasks

from lswag_jax.analysis import correlation, libra, plots, tables
from lswag_jax.analysis import report as correlation_report
from lswag_jax.runs.archive import read_rows
from lswag_jax.scoring import population
from lswag_jax.scoring.fitness import Fitness

PROVENANCE = "lswag_jax, seed 0, benchmarks/rank_vit_tasks.py"
IMAGES = 64


def score(work: vit_tasks.Work, texts: list[str], proxies: Any = "all") -> list[tables.Records]:
    """Proxies of genotypes on a task."""
    space = vit_tasks.space_of(work.recipe, work.pools[0].num_classes)
    training = work.images[0]
    index = np.random.default_rng(0).permutation(len(training.labels))[:IMAGES]
    batch = training.batch(index)
    genotypes = [space.parse(text) for text in texts]
    table = population.score(
        space, genotypes, batch["image"] / 255, batch["label"], proxies, gradient_batch=32
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
        work = vit_tasks.work_of(name, vit_task_data.Recipe(**recipe), arguments)
        found += score(work, config["genotypes"])
        tables.GroundTruth.from_records(found).write(output)
        print(f"{name} is scored", flush=True)
    trained = of_tasks(
        tables.GroundTruth.from_records(found), read_rows(folder / vit_tasks.ROWS)[0]
    )
    summaries = {
        task.name: correlation_report.summary(task.values, task.accuracy, task.values["params"])
        for task in trained
    }
    for task in trained:
        shown = [result_tables.correlations(row) for row in summaries[task.name]]
        result_tables.show(task.name, shown, result_tables.INTERVAL, len(task.accuracy))
    if len(trained) == len(config["tasks"]):
        n = len(trained[0].accuracy)
        for title, key in (("Spearman", "rho"), ("Spearman given #params", "partial_rho")):
            result_tables.show(f"{title}, all tasks", side_by_side(summaries, key), 2, n)
        picture = result_tables.RESULTS.parent.parent / "results" / "benchmarks" / "vit_tasks.pdf"
        picture.parent.mkdir(parents=True, exist_ok=True)
        heat_map(summaries, n).savefig(picture)
        result_tables.show("merges, Spearman", merges(trained), n=n)
        result_tables.show("Spearman of two tasks' accuracies", agreement(trained), 2, n)
        result_tables.show(
            "the best network of a task, points lost on another", lost(trained), 1, n
        )


def side_by_side(summaries: dict[str, list[dict]], key: str) -> list[dict]:
    """A statistic by proxy (rows) and task, those first that are highest on average."""
    found: dict[str, dict] = {}
    for task, rows in summaries.items():
        for row in rows:
            found.setdefault(row["proxy"], {"proxy": row["proxy"]})[task] = row[key]
    complete = [row for row in found.values() if len(row) == len(summaries) + 1]
    for row in complete:
        row["mean"] = float(np.mean([row[task] for task in summaries]))
    return sorted(complete, key=lambda row: -row["mean"])


def heat_map(summaries: dict[str, list[dict]], n: int) -> Any:
    """The paper's Figure 4 in small: every proxy on every task, with intervals."""
    keys = ("rho", "rho_low", "rho_high")
    grids = [side_by_side(summaries, key) for key in keys]
    names, tasks = [row["proxy"] for row in grids[0]], list(summaries)
    grids = [{row["proxy"]: [row[task] for task in tasks] for row in rows} for rows in grids]
    values, low, high = (np.array([grid[name] for name in names]) for grid in grids)
    title = f"{n} vision transformers trained on each task"
    return plots.heat_map(names, tasks, values, low_KxD=low, high_KxD=high, title=title)


class Trained(NamedTuple):
    """A task's accuracies [P] of the genotypes that all tasks have, and scores [P] by proxy."""

    name: str
    accuracy: np.ndarray
    values: dict[str, np.ndarray]


def of_tasks(scores: tables.GroundTruth, rows: list[dict]) -> list[Trained]:
    """Tasks that have ten networks or more, by those genotypes that all of them have."""
    rows = [row for row in rows if np.isfinite(float(row["accuracy"]))]  # not what diverged
    accuracy = {task: vit_task_figures.accuracies(rows, task) for task in scores.datasets}
    for task, found in accuracy.items():
        if len(found) < 10:
            print(f"{task}: only {len(found)} networks are trained.")
    accuracy = {task: found for task, found in accuracy.items() if len(found) >= 10}
    shared = set.intersection(*map(set, accuracy.values())) if accuracy else set()
    index = [i for i, text in enumerate(scores.genotypes) if text in shared]
    trained = []
    for task, found in accuracy.items():
        mean = np.array([np.mean(found[scores.genotypes[i]]) for i in index])
        values = {name: scores.values(task, name)[index] for name in scores.metrics(task)}
        # Not those that do not apply, or say the same of every network.
        known = {name: v for name, v in values.items() if len(set(v[np.isfinite(v)])) > 1}
        trained.append(Trained(task, mean, known))
    return trained


def merges(trained: list[Trained]) -> list[dict]:
    """Merges without labels, and LIBRA chosen on the three tasks that a row is not one of."""
    found = []
    for i, task in enumerate(trained):
        first = i < len(trained) // 2
        others = trained[len(trained) // 2 :] if first else trained[: len(trained) // 2]
        names = set.intersection(*(set(other.values) for other in trained))
        # One benchmark of three: mean ranks of a genotype's scores, and of its accuracies.
        ranks = {n: np.mean([_ranks(other.values[n]) for other in others], 0) for n in names}
        accuracy = np.mean([_ranks(other.accuracy) for other in others], 0)
        chosen = libra.select(ranks, accuracy, task.values["params"], libra.PRESETS["split_half"])
        rules = {
            "#params": Fitness("params"),
            "lswag": Fitness("lswag"),
            "universal (macs + nwot)": Fitness.parse("universal"),
            "lswag + macs": Fitness(("lswag", "macs")),
            "LIBRA of the other three": chosen.fitness,
        }
        row = {
            name: correlation.spearman(rule.merge(task.values), task.accuracy)
            for name, rule in rules.items()
        }
        found.append({"task": task.name} | row | {"LIBRA's": "+".join(chosen.proxies)})
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    return scipy.stats.rankdata(np.where(np.isnan(values), -np.inf, values))


def agreement(trained: list[Trained]) -> list[dict]:
    """Rank correlation of the accuracies of two tasks."""
    return [
        {"task": a.name} | {b.name: correlation.spearman(a.accuracy, b.accuracy) for b in trained}
        for a in trained
    ]


def lost(trained: list[Trained]) -> list[dict]:
    """Percentage points that the best network of a task (row) is below the best of another."""
    return [
        {"best of": a.name}
        | {b.name: 100 * (b.accuracy.max() - b.accuracy[a.accuracy.argmax()]) for b in trained}
        for a in trained
    ]


if __name__ == "__main__":
    main()
