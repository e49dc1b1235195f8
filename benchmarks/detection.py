"""Vision transformers trained to detect, on a CPU, and what ranks them untrained: every proxy.

    python benchmarks/run.py --save detection --data=../shared/data       # killed, it resumes
    python benchmarks/run.py detection --source=tfds:coco/2017 --workdir=results/coco

The first genotypes of `vit_tasks`, with an output for each of 64 patches (`lswag_jax.detection`),
are trained from scratch on Fashion-MNIST's items pasted on CIFAR-10's images, a synthetic
composition (`data.detection.pasted`), or on a data set of one's own that has boxes, and scored at
initialisation. `--workdir` receives `config.json`, `rows.jsonl` (a row a trained network, on the
disk before the next one), `truth.csv`, the rows as a table, and `scores.csv`, what proxies say.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import tables as result_tables
import vit_task_data
import vit_tasks

from lswag_jax import data, proxies, spaces
from lswag_jax.analysis import report, tables
from lswag_jax.data import Pool
from lswag_jax.data import detection as boxes
from lswag_jax.detection import average_precision, detect
from lswag_jax.files import write_csv
from lswag_jax.runs import Archive
from lswag_jax.scoring import population
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import make_optimizer, make_schedule
from lswag_jax.training.step import Problem, StepOptions, init_state, make_train_step

FOLDER = vit_tasks.FOLDER / "detection"
SIZE, PATCH, SIDES = 64, 8, (20, 40)  # of images, patches and items, in pixels
COLUMNS = ("genotype", "map", "map50", "untrained_map50", "train_loss", "seconds", "params", "macs")
DATA, SCORES, SOURCE = "detection", "scores.csv", "lswag_jax, seed 0, benchmarks/detection.py"
AT_ONCE = 250  # images validated
PROXIES, SCORED = "all", 64  # images, of half of which gradients are taken


class Images(NamedTuple):
    """Images in memory: uint8 [N, H, W, 3], boxes [N, K, 5]."""

    pixels: np.ndarray
    boxes: np.ndarray


def pools_of(arguments: argparse.Namespace) -> tuple[Pool, Pool]:
    """Training and validation images: of the source, or pasted."""
    sizes = arguments.training, arguments.validation
    if arguments.source:
        splits = ("train", "validation")
        found = [data.open_pool(arguments.source, s, label_key="objects") for s in splits]
        training, validation = (data.some(p, n) for p, n in zip(found, sizes, strict=True))
        return training, validation

    def opened(name: str, split: str) -> Pool:
        source, *_ = vit_task_data.SOURCES[name]
        return vit_task_data.open_split(source.format(data=arguments.data), split)

    training, validation = (
        boxes.pasted(
            opened("fashion_mnist", split),
            opened("cifar10", split),
            n,
            seed,
            size=SIZE,
            sides=SIDES,
        )
        for seed, (split, n) in enumerate(zip(("train", "test"), sizes, strict=True))
    )
    return training, validation


class Work:
    """Networks trained on one data set, and scored on it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments

    @functools.cached_property
    def pools(self) -> tuple[Pool, Pool]:
        """Training and validation images."""
        return pools_of(self._arguments)

    @functools.cached_property
    def images(self) -> tuple[Images, Images]:
        """The same in memory."""
        training, validation = (Images(*boxes.arrays(pool, SIZE)) for pool in self.pools)
        return training, validation

    @functools.cached_property
    def space(self) -> spaces.AutoFormer:
        """The space of the networks."""
        sizes = {"image_size": SIZE, "patch_size": PATCH, "num_classes": self.pools[0].num_classes}
        return spaces.get(vit_tasks.SPACE, **vit_tasks.CHOICES, **sizes, head="detection")

    @functools.cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel, for pixels in [0, 1]."""
        sample = self.images[0].pixels[:1000] / np.float32(255)
        return sample.mean((0, 1, 2)), sample.std((0, 1, 2))

    def train(self, text: str) -> dict[str, Any]:
        """The row of a genotype trained from scratch; `seconds` of CPU, after the first step."""
        space, steps = self.space, self._arguments.steps
        g, (training, _), (mean, std) = space.parse(text), self.images, self.statistics
        problem = Problem(
            space.build(g), space.num_classes, tuple(mean), tuple(std), loss=space.task.loss
        )
        optimizer = make_optimizer(
            vit_tasks.OPTIMIZER, make_schedule(vit_tasks.OPTIMIZER, steps, steps)
        )
        make = make_train_step(problem, optimizer, AugmentOptions(), StepOptions())
        step = jax.jit(make, donate_argnums=0)
        predict = jax.jit(
            lambda variables, images: problem.apply(
                variables, problem.normalise(images), None, train=False
            )
        )
        variables, key = vit_tasks.elastic(space, 0)
        state = init_state(space.extract(variables, g), optimizer, StepOptions())
        untrained, losses, start = self._validate(predict, state.variables), [], 0.0
        rng, num = np.random.default_rng(0), len(training.boxes)
        for number in range(steps):
            index = rng.integers(num, size=self._arguments.batch_size)
            batch = {"image": training.pixels[index], "label": training.boxes[index]}
            state, metrics = step(state, batch, key)
            losses.append(metrics["loss"])
            if not number:
                jax.block_until_ready(state)
                start = time.process_time()
        last = float(np.mean(jax.device_get(losses[-50:])))
        seconds = round(time.process_time() - start, 2)
        return {
            "id": text,
            "genotype": text,
            **self._validate(predict, state.variables),
            "untrained_map50": untrained["map50"],
            "train_loss": last,
            "seconds": seconds,
            "params": space.num_params(g),
            "macs": space.macs(g),
        }

    def _validate(self, predict: Any, variables: Any) -> dict[str, float]:
        """Mean average precision on the validation images."""
        pixels, truth = self.images[1]
        parts = [
            detect(predict(variables, pixels[first : first + AT_ONCE]))
            for first in range(0, len(pixels), AT_ONCE)
        ]
        found = type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))
        return average_precision(found, truth)

    def score(self, texts: list[str], path: pathlib.Path) -> tables.GroundTruth:
        """What every proxy says of untrained networks; those that the file has are not scored."""
        if path.is_file() and set(texts) <= set(tables.read(path).genotypes):
            return tables.read(path)
        training, (mean, std) = self.images[0], self.statistics
        pixels = (training.pixels[:SCORED] / np.float32(255) - mean) / std
        genotypes = [self.space.parse(text) for text in texts]
        truth = training.boxes[:SCORED]
        table = population.score(
            self.space, genotypes, pixels, truth, PROXIES, gradient_batch=len(truth) // 2
        )
        columns = {name: np.round(table.values(name), 12) for name in table}
        found = tables.GroundTruth.from_records(
            tables.Records(DATA, name, texts, values, SOURCE) for name, values in columns.items()
        )
        found.write(path)
        return found


def make(work: Work, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Trains what is missing and returns the rows; ValueError where the folder is of other work."""
    texts, folder = vit_tasks.draw(arguments.num, arguments.seed), pathlib.Path(arguments.workdir)
    config = {
        "images": [{"where": pool.where, "size": pool.size} for pool in work.pools],
        "space": work.space.describe(),
        "training": {"steps": arguments.steps, "batch_size": arguments.batch_size}
        | dataclasses.asdict(vit_tasks.OPTIMIZER),
    }
    with Archive(folder, config, name=vit_tasks.ROWS) as archive:
        done = {row["id"] for row in archive}
        for text in texts:
            if text not in done:
                archive.append(work.train(text))
                print(time.strftime("%H:%M"), len(archive), archive[-1], flush=True)
        rows = [row for row in archive if row["id"] in texts]
    write_csv(folder / vit_tasks.TRUTH, {k: [row[k] for row in rows] for k in COLUMNS})
    return rows


def show(rows: list[dict[str, Any]], scores: tables.GroundTruth) -> None:
    """Shows what the networks reach, what ranks them, and which proxies say nothing of them."""
    columns = {name: np.array([row[name] for row in rows]) for name in COLUMNS[1:]}
    result_tables.show("networks", [{k: row[k] for k in COLUMNS} for row in rows], n=len(rows))
    index = [scores.genotypes.index(row["genotype"]) for row in rows]
    values = {name: scores.values(DATA, name)[index] for name in scores.metrics(DATA)}
    ranked = report.summary(
        {k: v for k, v in values.items() if len(set(v[np.isfinite(v)])) > 1},
        columns["map"],
        columns["params"],
    )
    shown = [result_tables.correlations(row) for row in ranked]
    result_tables.show("mAP", shown, result_tables.INTERVAL, len(rows))
    silent = [name for name, v in values.items() if not np.isfinite(v).any()]
    needs = [{"proxy": name, "needs": proxies.get(name).networks} for name in silent]
    if needs:
        result_tables.show("without a number", needs, n=len(rows))


def parse() -> argparse.Namespace:
    """The arguments; a mistake is a sentence and ends the process with 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", default="../shared/data", help="folder of images/")
    add("--source", default="", help="tfds:NAME with the feature objects; empty for pasted items")
    add("--workdir", default=str(FOLDER), help="folder of the rows")
    add("--num", type=int, default=12, help="genotypes")
    add("--seed", type=int, default=0, help="of the draw of genotypes")
    add("--training", type=int, default=8000, help="images")
    add("--validation", type=int, default=1000, help="images")
    add("--batch_size", type=int, default=32)
    add("--steps", type=int, default=2000, help="of a training")
    arguments = parser.parse_args()
    for name in ("num", "training", "validation", "batch_size", "steps"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def main() -> None:
    """Trains, scores, and shows what has finished."""
    arguments = parse()
    work = Work(arguments)
    try:
        rows = make(work, arguments)
        path = pathlib.Path(arguments.workdir) / SCORES
        show(rows, work.score([row["genotype"] for row in rows], path))
    except (ValueError, OSError) as error:
        print(f"detection: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
