"""Vision transformers trained on six tasks here, on a CPU; on more where their images are at hand.

    python benchmarks/run.py vit_tasks --data=../shared/data          # the six; killed, it goes on
    python benchmarks/run.py vit_tasks --tasks=cifar100,svhn --source=cifar100=tfds:cifar100 \
        --source=svhn=tfds:svhn_cropped --workdir=results/more        # a user's own data
    python benchmarks/run.py vit_tasks --list                         # what each task stands for

Genotypes of `autoformer_mini` are trained from scratch: with each seed a group of genotypes after
the other on every task, so that wherever the work is cut, all tasks have the same genotypes and the
first seed comes first. `--workdir` receives `config.json` (the recipe), `rows.jsonl` (a row a
trained network, on the disk before the next one) and `truth.csv`, the rows as a table.
`--publish` writes what is there into the package, for `analysis.tables.load("vit_tasks")`.
"""

import argparse
import dataclasses
import functools
import io
import itertools
import json
import pathlib
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from lswag_jax import data, spaces
from lswag_jax.analysis import tables
from lswag_jax.data import Pool, pretext, sphere
from lswag_jax.data.decode import decode_image
from lswag_jax.files import write_atomically, write_csv
from lswag_jax.runs import Archive
from lswag_jax.runs.archive import read_rows
from lswag_jax.training.augment import AugmentOptions, to_bytes
from lswag_jax.training.benchmark import Together
from lswag_jax.training.optimizer import OptimizerOptions
from lswag_jax.training.runner import TrainOptions

FOLDER = pathlib.Path(__file__).resolve().parent / "vit_tasks"
PUBLISHED = FOLDER.parent.parent / "lswag_jax" / "assets" / "vit_tasks.csv"
ROWS, TRUTH, IMAGES = "rows.jsonl", "truth.csv", "images.json"
COLUMNS = ("genotype", "task", "seed", "accuracy", "loss", "epochs", "seconds", "params", "macs")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a task is made and trained.

    Attributes:
        stands_for: why it is here.
        images: data set, a key of `SOURCES`.
        change: what is done to the pools, a key of `CHANGES`.
        size, patch, channels: of the network's images, in pixels.
        training, validation: images drawn.
        per_class: training images of each class instead; 0 for `training`.
        epochs: over the training images.
        flip: mirror half of the training images.
    """

    stands_for: str
    images: str
    change: str = ""
    size: int = 32
    patch: int = 8
    channels: int = 3
    training: int = 8000
    validation: int = 3000
    per_class: int = 0
    epochs: int = 5
    flip: bool = True


FASHION = {"images": "fashion_mnist", "size": 28, "patch": 7, "channels": 1}
# `training` and `epochs` are chosen for about as many steps of each task.
TASKS = {
    "fashion": Recipe("recognition, easy and clean", **FASHION),
    "cifar10": Recipe("recognition of natural images", "cifar10"),
    "cifar10_sphere": Recipe(
        "another geometry: the paper's Spherical-CIFAR-100", "cifar10", "sphere", flip=False
    ),
    "cifar10_few": Recipe("few labels, 250 a class", "cifar10", per_class=250, epochs=16),
    "cifar10_jigsaw": Recipe(
        "TransNAS-Bench-101's jigsaw: parts and their places, no labels", "cifar10", "jigsaw",
        size=24, patch=4, training=40000, epochs=1, flip=False,
    ),
    "fashion_rotation": Recipe(
        "self-supervision by which way is up", change="rotation", training=20000, epochs=2,
        flip=False, **FASHION,
    ),
}  # fmt: skip
# Where a user has the images; the figures of the repository have none of these.
OWN_TASKS = {
    "cifar100": Recipe("the paper's CIFAR-100: many classes", "cifar100", training=50000),
    "cifar100_sphere": Recipe("the paper's Spherical-CIFAR-100", "cifar100", "sphere", flip=False),
    "pets": Recipe("the paper's Oxford-IIIT Pets: fine classes, few images", "pets", epochs=20),
    "svhn": Recipe("the paper's SVHN: digits in the street", "svhn", training=50000, flip=False),
    "imagenet": Recipe(
        "the paper's ImageNet", "imagenet", size=64, training=10**7, validation=10**5
    ),
}
RECIPES = TASKS | OWN_TASKS

# Source, and names of the training and the validation split.
SOURCES = {
    "fashion_mnist": ("{data}/images/fashion_mnist_full.npz", "train", "test"),
    "cifar10": ("{data}/images/cifar10_jpeg.npz", "train", "test"),
    "cifar100": ("tfds:cifar100", "train", "test"),
    "pets": ("tfds:oxford_iiit_pet", "train", "test"),
    "svhn": ("tfds:svhn_cropped", "train", "test"),
    "imagenet": ("tfds:imagenet2012", "train", "validation"),
}
ORDERS = 30  # of a jigsaw's tiles


CHANGES = {
    "": lambda pool, seed: pool,
    "sphere": sphere.on_sphere,
    "jigsaw": lambda pool, seed: pretext.puzzles(pool, ORDERS, seed),
    "rotation": pretext.rotated,
}


def space_of(recipe: Recipe, num_classes: int) -> spaces.AutoFormer:
    """The space of a task's networks."""
    return spaces.get(
        "autoformer_mini", image_size=recipe.size, patch_size=recipe.patch,
        channels=recipe.channels, num_classes=num_classes,
    )  # fmt: skip


def draw(num: int, seed: int) -> list[str]:
    """Texts of distinct genotypes, the same for all tasks."""
    space = spaces.get("autoformer_mini")
    drawn = map(space.format, space.sample(np.random.default_rng(seed), 10 * num + 100))
    return list(itertools.islice(dict.fromkeys(drawn), num))


def options_of(recipe: Recipe, arguments) -> TrainOptions:
    """The training of a task; only its last epoch is validated."""
    epochs = arguments.epochs or recipe.epochs
    return TrainOptions(
        epochs=epochs,
        batch_size=arguments.batch_size,
        eval_every=epochs,
        optimizer=OptimizerOptions(3e-3, warmup_epochs=epochs / 10, clip_norm=1.0),
        augment=AugmentOptions(flip=recipe.flip),
    )


# Images ------------------------------------------------------------------------------------------


@functools.cache
def _jpeg_arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def jpeg_pool(path: str, split: str) -> Pool:
    """CIFAR-10 as JPEG files in one array: `jpeg`, `offset`, `label`, `is_test`, `classes`."""
    held = _jpeg_arrays(path)
    index = np.flatnonzero(held["is_test"] == (split == "test"))

    def image(i: int) -> np.ndarray:
        first, last = held["offset"][index[i] : index[i] + 2]
        return decode_image(io.BytesIO(held["jpeg"][first:last].tobytes()), f"{path}, {index[i]}")

    classes = held["classes"].tolist()
    return Pool(
        name="cifar10",
        where=f"{path} split {split!r}",
        size=len(index),
        label=lambda i: int(held["label"][index[i]]),
        image=image,
        num_classes=len(classes),
        classes=classes,
    )


def open_split(source: str, split: str) -> Pool:
    """A split of a source."""
    path = pathlib.Path(source)
    is_jpeg = path.name == "cifar10_jpeg.npz" and path.is_file()
    return jpeg_pool(source, split) if is_jpeg else data.open_pool(source, split)


def in_memory(pool: Pool, size: int, channels: int) -> Pool:
    """The images of a pool as bytes of a network's size."""
    shape = (pool.size, size, size, channels)
    images, labels = np.empty(shape, np.uint8), np.empty(pool.size, np.int32)
    for i in range(pool.size):
        images[i] = to_bytes(pool.image(i), pool.where, channels, size)
        labels[i] = data.label_of(pool, i)
    return data.array_pool(images, labels, pool.name, pool.where, pool.num_classes, pool.classes)


def pools_of(recipe: Recipe, source: tuple[str, str, str]) -> tuple[Pool, Pool]:
    """Training and validation images of a task."""
    where, *splits = source
    training, validation = (open_split(where, split) for split in splits)
    if recipe.per_class:
        training = data.per_class(training, recipe.per_class)
    else:
        training = data.some(training, recipe.training)
    held = data.some(validation, recipe.validation)
    change, size = CHANGES[recipe.change], (recipe.size, recipe.channels)
    return in_memory(change(training, 0), *size), in_memory(change(held, 1), *size)


def classes(pool: Pool) -> dict[str, Any]:
    """Its size, images a class, largest over smallest class, and a checksum of the labels."""
    labels = np.array([pool.label(i) for i in range(pool.size)], np.int32)
    counts = np.bincount(labels, minlength=pool.num_classes)
    return {
        "size": pool.size,
        "a_class": counts.tolist(),
        "imbalance": round(float(counts.max() / max(counts.min(), 1)), 3),
        "labels_crc32": zlib.crc32(labels.tobytes()),
    }


# Training ----------------------------------------------------------------------------------------


def row_id(text: str, task: str, seed: int) -> str:
    """What names a training."""
    return f"{text} on {task}, seed {seed}"


class Work:
    """A task to train; its images and programs are made when they are first needed."""

    def __init__(self, name: str, recipe: Recipe, source: tuple, arguments) -> None:
        self.name, self.recipe, self._source, self._arguments = name, recipe, source, arguments

    @functools.cached_property
    def pools(self) -> tuple[Pool, Pool]:
        """Training and validation images."""
        return pools_of(self.recipe, self._source)

    @property
    def images(self) -> dict[str, Any]:
        """Sizes, images a class and a checksum of the labels, of training and validation."""
        names = ("training", "validation")
        return {name: classes(pool) for name, pool in zip(names, self.pools, strict=True)}

    @functools.cached_property
    def train(self) -> Together:
        """Trains genotypes of the task's space."""
        options = options_of(self.recipe, self._arguments)
        space = space_of(self.recipe, self.pools[0].num_classes)
        return Together(space, self.pools, options, self._arguments.at_once)

    def rows(self, texts: list[str], seed: int) -> Iterator[dict[str, Any]]:
        """Trains genotypes."""
        space = self.train.space
        for g, found in self.train([space.parse(text) for text in texts], seed):
            text = space.format(g)
            yield {
                "id": row_id(text, self.name, seed),
                "genotype": text,
                "task": self.name,
                "seed": seed,
                "accuracy": found["accuracy"][-1],
                "loss": found["loss"][-1],
                "epochs": found["epochs"][-1],
                "seconds": round(found["seconds"], 2),
                "params": space.num_params(g),
                "macs": space.macs(g),
            }


def make(arguments) -> list[dict[str, Any]]:
    """Trains what is missing, and returns the rows.

    Raises:
        ValueError: the folder holds other work, or images do not fit.
    """
    recipes = {name: smaller(RECIPES[name], arguments.images) for name in arguments.tasks}
    texts = draw(arguments.num, arguments.seed)
    config = {
        "tasks": {name: dataclasses.asdict(recipe) for name, recipe in recipes.items()},
        "space": spaces.get("autoformer_mini").describe(),
        "genotypes": texts,
        "training": dataclasses.asdict(options_of(Recipe("", ""), arguments)),
    }
    folder, works = pathlib.Path(arguments.workdir), {}
    for name, recipe in recipes.items():
        default, *splits = SOURCES[recipe.images]
        where = arguments.source.get(recipe.images, default).format(data=arguments.data)
        works[name] = Work(name, recipe, (where, *splits), arguments)
    with Archive(folder, config, name=ROWS) as archive:
        report = Progress(len(archive), arguments.seeds * len(texts) * len(works))
        for seed, group, name in order(texts, list(works), arguments.seeds, arguments.at_once):
            done = {row["id"] for row in archive}
            missing = [text for text in group if row_id(text, name, seed) not in done]
            for row in works[name].rows(missing, seed) if missing else ():
                archive.append(row)
                report(len(archive), row)
            write_truth(folder / TRUTH, list(archive))
            write_images(folder / IMAGES, works)
        return list(archive)


def order(
    texts: list[str], names: list[str], seeds: int, at_once: int
) -> Iterator[tuple[int, list[str], str]]:
    """What is trained when: a seed, a group of genotypes, a task.

    Example:
        >>> [(seed, *group, name) for seed, group, name in order(["g", "h"], ["a", "b"], 1, 1)]
        [(0, 'g', 'a'), (0, 'g', 'b'), (0, 'h', 'a'), (0, 'h', 'b')]
    """
    groups = [texts[i : i + at_once] for i in range(0, len(texts), at_once)]
    yield from itertools.product(range(seeds), groups, names)


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
    new = {name: work.images for name, work in works.items() if "pools" in work.__dict__}
    if not new.keys() <= known.keys():
        write_atomically(path, json.dumps(known | new, indent=1) + "\n")


# The table --------------------------------------------------------------------------------------


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
            "accuracy": np.mean([float(row["accuracy"]) for row in own]),
            **{f"accuracy_seed{row['seed']}": float(row["accuracy"]) for row in own},
            "loss": np.mean([float(row["loss"]) for row in own]),
            "seeds": len(own),
            "params": own[0]["params"],
            "macs": own[0]["macs"],
        }
        found += [tables.Records(task, k, [text], np.array([v]), source) for k, v in values.items()]
    tables.GroundTruth.from_records(found).write(path)


# The command line -------------------------------------------------------------------------------


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
    add("--at_once", type=int, default=5, help="networks of one program")
    add("--batch_size", type=int, default=64)
    add("--images", type=int, default=0, help="at most, of a task; 0 for the recipe's")
    add("--epochs", type=int, default=0, help="0 for the recipe's")
    add("--compile_cache", default="", help="folder that keeps compiled programs")
    add("--list", action="store_true", help="say what each task stands for")
    add("--publish", action="store_true", help="only write the table of the package")
    arguments = parser.parse_args()
    arguments.tasks = arguments.tasks.split(",")
    for name in arguments.tasks:
        if name not in RECIPES:
            parser.error(f"unknown task {name!r}, known are {', '.join(RECIPES)}.")
    for text in arguments.source:
        if text.partition("=")[0] not in SOURCES or not text.partition("=")[2]:
            parser.error(f"--source is {', '.join(SOURCES)} = a source, got {text!r}.")
    arguments.source = dict(text.split("=", 1) for text in arguments.source)
    for name in ("num", "seeds", "at_once", "batch_size"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def main() -> None:
    """Trains, and writes what is there."""
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
    try:
        make(arguments)
    except (ValueError, OSError) as error:
        print(f"vit_tasks: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
