"""A super-network for each of the six tasks: what 500 of its sub-networks reach with its weights.

    python benchmarks/run.py --save vit_supernets --data=../shared/data

On each task of `benchmarks/vit_tasks/` one super-network of `autoformer_mini` is trained by weight
entanglement, a random genotype a step (AutoFormer, Chen et al., ICCV 2021), with the optimizer and
the images of the trainings from scratch. Then 500 seeded genotypes, and those trained from scratch,
are validated with its weights. Shown: how inherited and trained accuracies rank alike, and what
ranks the 500. Writes `benchmarks/vit_tasks/inherited.csv.gz`, where a task is not trained again.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

import jax
import numpy as np
import tables as result_tables
import vit_task_data
import vit_task_figures
import vit_tasks

from lswag_jax.analysis import correlation, tables
from lswag_jax.runs.archive import read_rows
from lswag_jax.spaces import AutoFormer
from lswag_jax.training import supernet, supernet_step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import make_optimizer, make_schedule
from lswag_jax.training.step import (
    Problem,
    StepOptions,
    init_state,
    make_eval_step,
)

OUTPUT = "inherited.csv.gz"
METRIC = "inherited_accuracy"
SEED = 0


def train(space: AutoFormer, problem: Problem, work: vit_tasks.Work, arguments) -> dict:
    """Variables of a super-network, each step of which trains a genotype of its own."""
    options, optimizer_options = StepOptions(), vit_tasks.OPTIMIZER
    schedule = make_schedule(optimizer_options, arguments.steps, arguments.steps)
    optimizer = make_optimizer(optimizer_options, schedule)
    step = supernet_step.train_step(
        space, problem, optimizer, AugmentOptions(), options, arguments.steps
    )
    variables, key = vit_tasks.elastic(space, SEED)
    state = init_state(variables, optimizer, options)

    def batches(_):
        return work.batches(SEED)

    for batch in supernet.with_genotypes(batches, space, 1, SEED)(0):
        state, _ = step(state, batch, key)
    return jax.block_until_ready(state.variables)


def inherited(
    space: AutoFormer, problem: Problem, variables: dict, images: vit_tasks.Images, texts: list[str]
) -> np.ndarray:
    """Accuracy [P] of genotypes with these weights."""
    validate = jax.jit(make_eval_step(problem))
    found = []
    for text in texts:
        encoded = {k: v[0] for k, v in supernet.encode(space, [space.parse(text)]).items()}
        sums = [
            jax.device_get(validate(variables, batch | {"encoded": encoded}))
            for batch in images.all_once()
        ]
        found.append(sum(float(s["top1"]) for s in sums) / sum(float(s["count"]) for s in sums))
    return np.array(found)


def make(work: vit_tasks.Work, texts: list[str], arguments) -> tables.Records:
    """Trains the super-network of a task, and validates genotypes with its weights."""
    space = vit_tasks.space_of(work.recipe, work.pools[0].num_classes)
    channels = space.channels
    problem = Problem(space.network(), space.num_classes, (0.0,) * channels, (1.0,) * channels)
    start = time.perf_counter()
    variables = train(space, problem, work, arguments)
    trained = time.perf_counter()
    accuracy = inherited(space, problem, variables, work.images[1], texts)
    print(
        f"{work.name}: trained in {trained - start:.0f} s, {len(texts)} genotypes validated in "
        f"{time.perf_counter() - trained:.0f} s: {accuracy.min():.3f} to {accuracy.max():.3f}",
        flush=True,
    )
    source = f"lswag_jax, a super-network of {arguments.steps} steps, benchmarks/vit_supernets.py"
    return tables.Records(work.name, METRIC, texts, np.round(accuracy, 5), source)


def compared(found: tables.GroundTruth, rows: Sequence[dict]) -> list[dict]:
    """How inherited accuracies rank beside those of trainings from scratch, and what ranks them."""
    shown = []
    for task in found.datasets:
        values = dict(zip(found.genotypes, found.values(task, METRIC), strict=True))
        scratch = {k: np.mean(v) for k, v in vit_task_figures.accuracies(rows, task).items()}
        both = [text for text in scratch if np.isfinite(values.get(text, np.nan))]
        pair = np.array([[values[text], scratch[text]] for text in both]).T
        interval = correlation.bootstrap(correlation.spearman, *pair)
        space = vit_tasks.space_of(vit_task_data.RECIPES[task], 10)
        texts = [text for text in values if text not in scratch]
        drawn = np.array([values[text] for text in texts])
        params, macs = (
            np.array([size(space.parse(text)) for text in texts], float)
            for size in (space.num_params, space.macs)
        )
        shown.append(
            {
                "task": task,
                "networks in both": len(both),
                "Spearman with from scratch": correlation.spearman(*pair),
                "95 % interval": interval,
                "sub-networks": len(texts),
                "lowest": drawn.min(),
                "highest": drawn.max(),
                "#params": correlation.spearman(params, drawn),
                "MACs": correlation.spearman(macs, drawn),
            }
        )
    return shown


def main() -> None:
    """Trains what is missing, and shows how the two truths agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default=str(vit_tasks.FOLDER), help="of the trained networks")
    parser.add_argument("--num", type=int, default=500, help="sub-networks beside the trained")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--tasks", default="", help="names, with commas between; all")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.workdir)
    config, output = json.loads((folder / "config.json").read_text()), folder / OUTPUT
    found = list(tables.read(output).records()) if output.is_file() else []
    trained = config["genotypes"]
    drawn = vit_tasks.draw(arguments.num + len(trained), SEED + 1)
    texts = list(dict.fromkeys([*trained, *drawn]))[: arguments.num + len(trained)]
    for name in arguments.tasks.split(",") if arguments.tasks else config["tasks"]:
        if name in {record.dataset for record in found}:
            continue
        recipe = vit_task_data.Recipe(**config["tasks"][name])
        found.append(make(vit_tasks.work_of(name, recipe, arguments), texts, arguments))
        tables.GroundTruth.from_records(found).write(output)
    rows = [
        row for row in read_rows(folder / vit_tasks.ROWS)[0] if np.isfinite(float(row["accuracy"]))
    ]
    shown = compared(tables.GroundTruth.from_records(found), rows)
    result_tables.show("inherited and from scratch", shown, result_tables.INTERVAL)


if __name__ == "__main__":
    main()
