"""Vision transformers trained on six tasks here, on a CPU; on more where their images are at hand.

    python benchmarks/run.py vit_tasks --data=../shared/data          # the six; killed, it resumes
    python benchmarks/run.py vit_tasks --tasks=cifar100,svhn --source=cifar100=tfds:cifar100 \
        --source=svhn=tfds:svhn_cropped --workdir=results/more        # a user's own data
    python benchmarks/run.py vit_tasks --list                         # what each task stands for

Genotypes of `autoformer_mini` are trained from scratch, with each seed one after the other on every
task, so that wherever the work is cut, all tasks have the same genotypes and the first seed comes
first (after a pilot of twelve on two tasks). `--workdir` receives `config.json` (the recipe),
`rows.jsonl` (a row a trained network, on the disk before the next one), `truth.csv`, the rows as a
table, and `images.json`, how many there are of each class. `--publish` writes finished rows into
the package, for `analysis.tables.load("vit_tasks")`.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import tables as result_tables
import vit_task_figures
from vit_task_data import RECIPES, SOURCES, TASKS, Recipe, arrays, classes, pools_of

from lswag_jax import data, spaces
from lswag_jax.analysis import tables
from lswag_jax.data import Pool
from lswag_jax.files import write_atomically, write_csv
from lswag_jax.runs import Archive
from lswag_jax.runs.archive import read_rows
from lswag_jax.spaces import initial
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.optimizer import OptimizerOptions, make_optimizer, make_schedule
from lswag_jax.training.step import (
    Problem,
    StepOptions,
    init_state,
    make_eval_step,
    make_train_step,
)

FOLDER = pathlib.Path(__file__).resolve().parent / "vit_tasks"
PUBLISHED = FOLDER.parent.parent / "lswag_jax" / "assets" / "vit_tasks.csv"
SPACE, CHOICES = "autoformer_mini", {}  # choices to change
ROWS, TRUTH, IMAGES = "rows.jsonl", "truth.csv", "images.json"
COLUMNS = (
    "genotype", "task", "seed", "accuracy", "loss", "train_loss", "epochs", "seconds", "params",
    "macs",
)  # fmt: skip
# A training counts as one epoch.
OPTIMIZER = OptimizerOptions(3e-3, warmup_epochs=0.1, clip_norm=1.0)
VALIDATED = 500  # images at once
PILOT = 12  # genotypes


def space_of(recipe: Recipe, num_classes: int) -> spaces.AutoFormer:
    """The space of a task's networks."""
    sizes = {"image_size": recipe.size, "patch_size": recipe.patch, "channels": recipe.channels}
    return spaces.get(SPACE, **CHOICES, **sizes, num_classes=num_classes)


def draw(num: int, seed: int) -> list[str]:
    """Texts of distinct genotypes, the same for all tasks."""
    space = spaces.get(SPACE, **CHOICES)
    drawn = map(space.format, space.sample(np.random.default_rng(seed), 10 * num + 100))
    found = list(itertools.islice(dict.fromkeys(drawn), num))
    if len(found) < num:
        raise ValueError(f"{num} draws of distinct genotypes gave {len(found)}: ask for fewer.")
    return found


def row_id(text: str, task: str, seed: int) -> str:
    """What names a training."""
    return f"{text} on {task}, seed {seed}"


@functools.lru_cache(maxsize=8)
def programs(space: spaces.AutoFormer, text: str, steps: int) -> tuple[Any, Any, Any]:
    """Optimizer, training step and validation step of a genotype's own network.

    Tasks whose images have one shape share them: images come normalised, times 255.
    """
    module, channels = space.build(space.parse(text)), space.channels
    problem = Problem(module, space.num_classes, (0.0,) * channels, (1.0,) * channels)
    optimizer = make_optimizer(OPTIMIZER, make_schedule(OPTIMIZER, steps, steps))
    train = make_train_step(problem, optimizer, AugmentOptions(), StepOptions())
    return optimizer, jax.jit(train, donate_argnums=0), jax.jit(make_eval_step(problem))


@functools.lru_cache(maxsize=8)
def elastic(space: spaces.AutoFormer, seed: int) -> tuple[Any, jax.Array]:
    """Initial variables that those of all genotypes are cut from, and the key of a training."""
    init_key, key = jax.random.split(jax.random.key(seed))
    return jax.device_get(initial.jitted(space.init)(init_key)), key  # a step donates its state


class Images(NamedTuple):
    """Images in memory as a network sees them.

    Attributes:
        pixels: float32 [N, H, W, C], normalised, times 255.
        labels: int32 [N].
    """

    pixels: np.ndarray
    labels: np.ndarray

    def batch(self, index: np.ndarray, mirrored: np.ndarray | None = None) -> dict[str, Any]:
        """Those at `index` [B], some of them `mirrored` [B]."""
        pixels = self.pixels[index]
        if mirrored is not None:
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return {"image": pixels, "label": self.labels[index]}

    def all_once(self) -> Iterator[dict[str, Any]]:
        """Batches of one size to validate on; the last is filled up by a weight of 0."""
        num = len(self.labels)
        for first in range(0, num, VALIDATED):
            index = np.arange(first, first + VALIDATED)
            weight = (index < num).astype(np.float32)
            yield self.batch(np.minimum(index, num - 1)) | {"weight": weight}


class Work:
    """A task to train; its images are made when they are first needed."""

    def __init__(self, name: str, recipe: Recipe, source: tuple, arguments) -> None:
        self.name, self.recipe, self._source = name, recipe, source
        self._steps, self._batch_size = arguments.steps, arguments.batch_size

    @functools.cached_property
    def pools(self) -> tuple[Pool, Pool]:
        """Training and validation images."""
        return pools_of(self.recipe, self._source)

    @functools.cached_property
    def images(self) -> tuple[Images, ...]:
        """The same in memory, normalised alike."""
        channels = self.recipe.channels
        statistics = data.statistics(self.pools[0], channels=channels, image_size=self.recipe.size)
        mean, std = (np.asarray(x, np.float32) for x in statistics)
        training, validation = map(arrays, self.pools)
        return tuple(Images((x - 255 * mean) / std, y) for x, y in (training, validation))

    def about(self) -> dict[str, Any]:
        """Sizes, images a class and a checksum of the labels, of training and validation."""
        names = ("training", "validation")
        return {name: classes(pool) for name, pool in zip(names, self.pools, strict=True)}

    def train(self, text: str, seed: int) -> dict[str, Any]:
        """The row of a genotype, trained from scratch; `seconds` are of CPU, after the first step.

        Order and flips of the images and the initial weights depend on the seed alone.
        """
        space = space_of(self.recipe, self.pools[0].num_classes)
        g = space.parse(text)
        optimizer, step, _ = programs(space, text, self._steps)
        variables, key = elastic(space, seed)
        state = init_state(space.extract(variables, g), optimizer, StepOptions())
        losses, start = [], 0.0
        for number, batch in enumerate(self.batches(seed)):
            state, metrics = step(state, batch, key)
            losses.append(metrics["loss"])
            if not number:
                jax.block_until_ready(state)
                start = time.process_time()
        last = np.mean(jax.device_get(losses[-50:]))
        seconds = time.process_time() - start
        accuracy, loss = self._validate(space, text, state.variables)
        diverged = not np.isfinite(last)
        return {
            "id": row_id(text, self.name, seed),
            "genotype": text,
            "task": self.name,
            "seed": seed,
            "accuracy": math.nan if diverged else accuracy,
            "loss": math.nan if diverged else loss,
            "train_loss": float(last),
            "epochs": round(self._steps * self._batch_size / len(self.images[0].labels), 2),
            "seconds": round(seconds, 2),
            "params": space.num_params(g),
            "macs": space.macs(g),
        }

    def batches(self, seed: int) -> Iterator[dict[str, Any]]:
        """The batches of a training: whole passes over the images, each in an order of its own."""
        rng, images = np.random.default_rng(seed), self.images[0]
        num, size = len(images.labels), self._batch_size
        passes = -(-self._steps * size // num)
        order = np.concatenate([rng.permutation(num) for _ in range(passes)])
        for first in range(0, self._steps * size, size):
            mirrored = rng.random(size) < 0.5
            yield images.batch(order[first : first + size], mirrored if self.recipe.flip else None)

    def _validate(self, space: spaces.AutoFormer, text: str, variables: Any) -> tuple[float, float]:
        """Accuracy and loss on the validation images."""
        _, _, validate = programs(space, text, self._steps)
        totals = [jax.device_get(validate(variables, b)) for b in self.images[1].all_once()]
        sums = {k: sum(float(t[k]) for t in totals) for k in ("count", "top1", "loss")}
        return sums["top1"] / sums["count"], sums["loss"] / sums["count"]


def work_of(name: str, recipe: Recipe, arguments, sources: Mapping[str, str] = {}) -> Work:
    """A task with its images, of a source of one's own or of `--data`."""
    default, *splits = SOURCES[recipe.images]
    where = sources.get(recipe.images, default).format(data=arguments.data)
    return Work(name, recipe, (where, *splits), arguments)


def make(arguments) -> list[dict[str, Any]]:
    """Trains what is missing, and returns the rows.

    Raises:
        ValueError: the folder holds other work, or images do not fit.
    """
    recipes = {name: smaller(RECIPES[name], arguments.images) for name in arguments.tasks}
    texts = draw(arguments.num, arguments.seed)
    config = {
        "tasks": {name: dataclasses.asdict(recipe) for name, recipe in recipes.items()},
        "space": spaces.get(SPACE, **CHOICES).describe(),
        "genotypes": texts,
        "training": {"steps": arguments.steps, "batch_size": arguments.batch_size}
        | dataclasses.asdict(OPTIMIZER),
    }
    folder, works = pathlib.Path(arguments.workdir), {}
    for name, recipe in recipes.items():
        works[name] = work_of(name, recipe, arguments, arguments.source)
    with Archive(folder, config, name=ROWS) as archive:
        report = Progress(len(archive), arguments.seeds * len(texts) * len(works))
        done = {row["id"] for row in archive}
        for seed, text, name in order(texts, list(works), arguments.seeds):
            if row_id(text, name, seed) in done:
                continue
            archive.append(works[name].train(text, seed))
            report(len(archive), archive[-1])
            write_truth(folder / TRUTH, list(archive))
            write_images(folder / IMAGES, works)
        return list(archive)


def order(texts: list[str], names: list[str], seeds: int) -> Iterator[tuple[int, str, str]]:
    """Seed, genotype and task of each training, in turn.

    First the pilot that judges the space: a few genotypes on two tasks. Then, wherever it stops,
    all tasks have the same genotypes, and the first seed comes first.
    """
    pilot = itertools.product((0,), texts[:PILOT], names[:2])
    whole = itertools.product(range(seeds), texts, names)
    yield from dict.fromkeys(itertools.chain(pilot, whole))


def smaller(recipe: Recipe, images: int) -> Recipe:
    """A recipe of at most so many images; 0 for as many as it says."""
    if not images:
        return recipe
    few = {key: min(images, getattr(recipe, key)) for key in ("training", "validation")}
    return dataclasses.replace(recipe, **few, per_class=min(recipe.per_class, images // 10))


class Progress:
    """Says what was trained, and how many an hour."""

    def __init__(self, done: int, total: int) -> None:
        self._first, self._total, self._start = done, total, time.perf_counter()

    def __call__(self, done: int, row: dict[str, Any]) -> None:
        """Prints a line."""
        rate = 3600 * (done - self._first) / (time.perf_counter() - self._start)
        print(
            f"{time.strftime('%m-%d %H:%M')} {done} of {self._total}: {row['id']}: "
            f"{row['accuracy']:.4f} in {row['seconds']:.0f} s; {rate:.1f} an hour",
            flush=True,
        )


def write_truth(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """The rows as a table."""
    write_csv(path, {name: [row[name] for row in rows] for name in COLUMNS})


def write_images(path: pathlib.Path, works: dict[str, Work]) -> None:
    """Sizes and classes of the images of the tasks that were trained in this process."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    ready = [name for name, work in works.items() if "pools" in work.__dict__]
    if not known.keys() >= set(ready):
        new = {name: works[name].about() for name in ready}
        write_atomically(path, json.dumps(known | new, indent=1) + "\n")


def show(rows: list[dict[str, Any]]) -> None:
    """Prints and keeps the summary."""
    for title, found in zip(
        ("spread", "share of the variance"), vit_task_figures.summary(rows), strict=True
    ):
        result_tables.show(title, found)


def publish(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the rows of a folder as a table of ground truth."""
    rows, _ = read_rows(folder / ROWS)
    config = json.loads((folder / "config.json").read_text())
    tasks, texts = list(config["tasks"]), config["genotypes"]
    source = f"lswag_jax, benchmarks/vit_tasks: {len(rows)} networks trained"
    found = []
    for task, text in itertools.product(tasks, texts):
        own = [row for row in rows if (row["task"], row["genotype"]) == (task, text)]
        if not own:
            continue
        values = {
            "accuracy": _mean(row["accuracy"] for row in own),
            **{f"accuracy_seed{row['seed']}": _mean([row["accuracy"]]) for row in own},
            "loss": _mean(row["loss"] for row in own),
            "seeds": len(own),
            "params": own[0]["params"],
            "macs": own[0]["macs"],
        }
        found += [tables.Records(task, k, [text], np.array([v]), source) for k, v in values.items()]
    tables.GroundTruth.from_records(found).write(path)


def _mean(values: Iterable) -> float:
    """Of numbers as a row has them; -inf, a failure, where a training diverged."""
    mean = float(np.mean([float(value) for value in values]))
    return mean if np.isfinite(mean) else -np.inf


def parse() -> argparse.Namespace:
    """The arguments; a mistake is a sentence and ends the process with 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", default="../shared/data", help="folder of images/")
    add("--workdir", default=str(FOLDER), help="folder of the rows")
    add("--tasks", default=",".join(TASKS), help="names, with commas between")
    add(
        "--source",
        action="append",
        default=[],
        help="DATA_SET=SOURCE, such as svhn=tfds:svhn_cropped",
    )
    add("--num", type=int, default=40, help="genotypes")
    add("--seeds", type=int, default=2)
    add("--seed", type=int, default=0, help="of the draw of genotypes")
    add("--batch_size", type=int, default=64)
    add("--images", type=int, default=0, help="at most, of a task; 0 for the recipe's")
    add("--steps", type=int, default=620, help="of a training")
    add("--compile_cache", default="", help="folder that keeps compiled programs")
    add("--list", action="store_true", help="say what each task stands for")
    add("--publish", action="store_true", help="only write the table of the package")
    add("--report", action="store_true", help="only show what has finished")
    arguments = parser.parse_args()
    arguments.tasks = arguments.tasks.split(",")
    for name in arguments.tasks:
        if name not in RECIPES:
            parser.error(f"unknown task {name!r}, known are {', '.join(RECIPES)}.")
    for text in arguments.source:
        if text.partition("=")[0] not in SOURCES or not text.partition("=")[2]:
            parser.error(f"--source is {', '.join(SOURCES)} = a source, got {text!r}.")
    arguments.source = dict(text.split("=", 1) for text in arguments.source)
    for name in ("num", "seeds", "steps", "batch_size"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def main() -> None:
    """Trains, and writes what has finished."""
    arguments = parse()
    if arguments.list:
        for name, recipe in RECIPES.items():
            print(f"{name:18} {recipe.stands_for}")
        return
    if arguments.compile_cache:
        jax.config.update("jax_compilation_cache_dir", arguments.compile_cache)
    if arguments.publish:
        publish(pathlib.Path(arguments.workdir), PUBLISHED)
        return
    if arguments.report:
        show(read_rows(pathlib.Path(arguments.workdir) / ROWS)[0])
        return
    try:
        show(make(arguments))
    except (ValueError, OSError) as error:
        print(f"vit_tasks: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
