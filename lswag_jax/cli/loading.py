"""What a config asks for: its space, proxies, truth, batch, options, and the rows of its run."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import progress

if TYPE_CHECKING:
    from lswag_jax.scoring.rows import Row


def load_space(config: ConfigDict) -> Any:
    """The search space of a config."""
    from lswag_jax import spaces

    # Choices that are left empty, and no classes, are the space's own.
    given = {key: value for key, value in config.space.items() if value != ()}
    if given.get("num_classes") == 0:
        del given["num_classes"]
    return spaces.get(**given)


def load_proxies(config: ConfigDict, more: Sequence[str] = ()) -> tuple:
    """The configured proxies of a config.

    Args:
        config: of the run.
        more: names of proxies that are needed too.
    """
    from lswag_jax import proxies
    from lswag_jax.analysis import window

    names = [str(name) for name in proxies.expand(map(proxies.named, split(config.proxies)))]
    names += [name for name in dict.fromkeys(more) if name not in names]
    # All that are configured, so that a bad option is told even where it is not asked for.
    configured = {}
    for name in dict.fromkeys((*names, *config.options)):
        options = dict(config.options.get(name, {}))
        configured[name] = proxies.get(name, **options)
        if name == "lswag":
            picked = window.parse(config.window, options["bins"])
            configured[name] = proxies.get(name, window=picked, **options)
    return proxies.resolve([configured[name] for name in names])


def load_truth(text: str, space: Any) -> Any:
    """A table of ground truth from its file, or from that of a benchmark as KIND:file."""
    from lswag_jax.analysis import converters as table_converters
    from lswag_jax.analysis import tables

    kind, _, path = text.rpartition(":")
    return table_converters.convert(kind, path, space) if kind else tables.read(path, space)


def scores_file(path: str) -> pathlib.Path:
    """The file of scores of a workdir, or the file itself."""
    folder = pathlib.Path(path)
    return folder / "scores.parquet" if folder.is_dir() else folder


def load_data(config: ConfigDict, space: Any) -> Any:
    """The input batch of a config, in the shape of its space."""
    from lswag_jax.data import load_batch

    data = config.data
    if space.channels not in (1, 3):
        raise ValueError(f"space.channels must be 1 or 3 for images, got {space.channels}.")
    with in_section("data", data):
        batch = load_batch(
            data.source,
            data.batch_size,
            split=data.split,
            seed=config.seed,
            balanced=data.balanced,
            image_size=space.image_size,
            channels=space.channels,
            normalize=data.normalize,
            label_key=data.label_key,
            data_dir=data.data_dir or None,
            download=data.download,
        )
    logging.info("data: %s", batch.source)
    return _for_task(batch, space.task, config)


def _for_task(batch: Any, task: Any, config: ConfigDict) -> Any:
    """The batch with the labels of a task: its own, or made from the images, or synthetic."""
    from lswag_jax.tasks import synthetic_targets

    if task.makes_labels:
        images, labels = task.from_images(batch.images, config.seed)
        return dataclasses.replace(batch, images=images, labels=labels)
    if config.data.synthetic_targets:
        labels = synthetic_targets(task, batch.images, config.seed)
        return dataclasses.replace(batch, labels=labels)
    if task.target not in ("class", "probabilities"):
        raise ValueError(
            f"data sets have class labels, which {task.name} cannot use: set "
            "--config.data.synthetic_targets for random ones, or call lswag_jax.score with yours."
        )
    if batch.num_classes < task.outputs:
        logging.warning(
            "the data set has %d classes, but space.num_classes is %d: logits of the others never "
            "meet a label of theirs; set --config.space.num_classes=%d",
            *(batch.num_classes, task.outputs, batch.num_classes),
        )
    if batch.num_classes > task.outputs:
        raise ValueError(
            f"the data set has {batch.num_classes} classes, but space.num_classes is "
            f"{task.outputs}: set --config.space.num_classes={batch.num_classes}."
        )
    return batch


def score_options(config: ConfigDict) -> Any:
    """How a config scores.

    Raises:
        ValueError: a value that is not allowed, named by its key.
    """
    from lswag_jax.scoring import ScoreOptions

    if config.data.gradient_batch > config.data.batch_size:
        raise ValueError(
            f"data.gradient_batch must be at most data.batch_size {config.data.batch_size}, got "
            f"{config.data.gradient_batch}."
        )
    return load_options(
        ScoreOptions,
        config,
        "score",
        seed=config.seed,
        gradient_batch=config.data.gradient_batch,
        batch_size=config.score.chunk or None,
    )


def check_options(cls: type, section: ConfigDict, name: str, leave: Sequence[str] = ()) -> None:
    """Raises ValueError for a key of a section that the options of a class do not allow.

    Args:
        cls: dataclass of the options.
        section: of a config.
        name: of the section, for messages.
        leave: keys that mean something else in a config.
    """
    from lswag_jax.options import check

    names = {field.name for field in dataclasses.fields(cls)} - set(leave)
    with in_section(name, section):
        check(cls, {key: value for key, value in section.items() if key in names})


def load_options(cls: type, config: ConfigDict, section: str, **more: Any) -> Any:
    """The options that a section of a config holds; messages name its keys in full.

    Args:
        cls: dataclass of the options (`lswag_jax.options.Checked`).
        config: of the run.
        section: its key; keys of it that are no options are left to others.
        **more: options that come from elsewhere.

    Raises:
        ValueError: a value that is not allowed.
    """
    with in_section(section, config[section]):
        return cls.of(config[section], **more)


@contextlib.contextmanager
def in_section(name: str, keys: Container[str]) -> Iterator[None]:
    """Lets a message that begins with a key of a section name it in full."""
    try:
        yield
    except ValueError as error:
        if str(error).partition(" ")[0] not in keys:
            raise
        raise ValueError(f"{name}.{error}") from None


def identity(config: ConfigDict, space: Any, proxies: Sequence[Any], **more: Any) -> dict[str, Any]:
    """What decides the rows of a run: a workdir of another one is refused.

    Args:
        config: of the run.
        space, proxies: as loaded, so that a window's file counts by what it holds.
        **more: further entries.
    """
    from lswag_jax.runs.identity import describe

    return describe(space, proxies, score_options(config), data=plain(config.data), **more)


def score_archive(
    title: str,
    workdir: str,
    identity: Mapping[str, Any],
    space: Any,
    genotypes: Sequence[Any],
    batch: Any,
    proxies: Sequence[Any],
    options: Any,
    timing: dict[str, float],
) -> "list[Row]":
    """Rows of the genotypes, scored into the archive of a workdir as they come.

    Args:
        title: of the progress bar.
        workdir: folder of the run, which resumes where it stopped.
        identity: what the run is.
        space, genotypes, batch, proxies, options: what to score and how, see `scoring.stream`.
        timing: receives the seconds.
    """
    from lswag_jax import runs
    from lswag_jax.runs.identity import data_sha256
    from lswag_jax.scoring import population as scoring

    identity = {**identity, "data_sha256": data_sha256(batch.images, batch.labels)}
    bar = progress.progress_bar(title, len(genotypes))
    with runs.open_archive(workdir, identity) as (archive, found), bar as show:

        def evaluate(missing: Sequence[Any]) -> "Iterator[Row]":
            for row in scoring.stream(
                space,
                missing,
                batch.images,
                batch.labels,
                proxies,
                timing=timing,
                **options.keywords(),
            ):
                yield row
                show(len(archive), "")

        size = runs.extend(archive, 0, space, genotypes, runs.reuse(space, found, evaluate))
        runs.check_complete(archive, size)
        return list(archive)


def split(names: str) -> tuple[str, ...]:
    """Names in a comma-separated list."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as JSON can hold it."""

    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [convert(item) for item in value]
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return convert(config.to_dict())
