"""What the binaries share: flags, config, errors as one sentence, and progress."""

import dataclasses
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from lswag_jax import own
from lswag_jax.cli import configs, progress
from lswag_jax.files import one_line

if TYPE_CHECKING:
    from lswag_jax.scoring.rows import Row

USER_ERRORS = (ValueError, OSError, ImportError, MemoryError)
JOB = ("coordinator", "num_processes", "process_id")  # flags that describe a job of processes


def run(
    main: Callable[..., None],
    description: str | None,
    name: str,
    example: str,
    shared: bool = False,
) -> None:
    """Runs a binary: parses flags, logs the devices, calls `main(config, workdir)`.

    A user's mistake is printed as one sentence and ends the program with exit code 2.

    Args:
        main: the program.
        description: what `--help` says first.
        name: of the binary without `lswag-`; its config has keys of this name.
        example: a config that it takes.
        shared: its work can be shared by workers and processes: it has the flags for that, and
            `main` takes the shard too.
    """
    config = config_flags.DEFINE_config_file(
        "config",
        None,
        f"Config file, such as --config={example} or its small variant {example}:runlocal, or the "
        "name of one that comes with the package.",
    )
    flags.FLAGS["config"].parser = _ConfigParser("config")
    flags.DEFINE_string("workdir", f"results/{name}", "Folder of the results; a run goes on there.")
    flags.DEFINE_bool("compile_cache", True, "Keep compiled programs in ~/.cache/lswag_jax.")
    keys = ["config", "workdir", "compile_cache"]
    if shared:
        keys += _define_sharing()

    def body(_: list[str]) -> None:
        if shared:
            _join(flags.FLAGS)
        _prepare(flags.FLAGS.compile_cache)
        shard = (_shard(flags.FLAGS.shard),) if shared else ()
        _check_workdir(flags.FLAGS.workdir)
        main(_loaded(config, name, example), flags.FLAGS.workdir, *shard)

    if any(arg in ("--help", "-help", "-h", "--helpfull") for arg in sys.argv[1:]):
        sys.stdout.write(f"{description}\n\nflags:\n")
        for key in keys:
            flag = flags.FLAGS[key]
            sys.stdout.write(f"  --{key}: {flag.help} (default: {flag.default})\n")
        kind = "default_train_config" if name == "train" else "default_config"
        sys.stdout.write(
            f"  --config.KEY=VALUE: override a key; lswag_jax/cli/{kind}.py has all.\n"
        )
        sys.exit(0)
    progress.set_up_log()
    try:
        app.run(body, flags_parser=_parse)
    except USER_ERRORS as error:
        fail(error)
    except KeyboardInterrupt:
        workdir = flags.FLAGS["workdir"].value
        sys.stderr.write(f"interrupted: the same command goes on in {workdir}.\n")
        sys.exit(130)


class _ConfigParser(config_flags.config_flags.ConfigFileFlagParser):
    """Loads configs by the names of those that come with the package, too."""

    def parse(self, path: str) -> Any:
        """The config of a file or a name; ends the program where there is none."""
        try:
            return super().parse(configs.find(path))
        except configs.Unknown as error:
            fail(error)


def _check_workdir(workdir: str) -> None:
    """Raises ValueError for what can be no folder of results, before any work is done."""
    path = pathlib.Path(workdir)
    if not workdir.strip():
        raise ValueError("--workdir is empty: give the folder of the results.")
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise ValueError(f"--workdir {workdir}: {place} is a link to nothing.")
        if place.exists() and not place.is_dir():
            raise ValueError(f"--workdir {workdir}: {place} is a file, not a folder.")


def _loaded(config: flags.FlagHolder, name: str, example: str) -> ConfigDict:
    """The config of the command line.

    Raises:
        ValueError: none was given, its file cannot be loaded, or it is another binary's.
    """
    from lswag_jax.options import check
    from lswag_jax.scoring import ScoreOptions

    if not flags.FLAGS["config"].present:
        raise ValueError(f"give a config, for example --config={example}.")
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    if not path.partition(":")[0].strip():
        raise ValueError(f"--config is empty: give one, for example --config={example}.")
    try:
        if hasattr(config.value, "to_dict"):
            config.value.to_dict()
    except OSError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        # Which begins with what failed before, and names the file again.
        reason = re.sub(r"^.*\[Errno \d+\] ([^:]+): .*", r"\1", reason)
        raise ValueError(f"config {path} cannot be loaded: {reason}.") from None
    if not isinstance(config.value, ConfigDict):
        kind = type(config.value).__name__
        raise ValueError(f"get_config of {path} must return a ConfigDict, got {kind}.")
    if "seed" in config.value:
        check(ScoreOptions, {"seed": config.value.seed})
    if name not in config.value:
        raise ValueError(f"{path} is no config of lswag-{name}: give one such as {example}.")
    _set_own_space(config.value, config_flags.get_override_values(flags.FLAGS["config"]))
    return config.value


def _set_own_space(config: ConfigDict, given: Mapping[str, Any]) -> None:
    """Gives a user's space that the command line names its own arguments, not the config's."""
    from lswag_jax.cli.default_config import space_config

    name = given.get("space.name", "")
    if own.is_named(name):
        keys = {key.removeprefix("space."): value for key, value in given.items()}
        arguments = {key: keys[key] for key in config.space if key in keys and key != "name"}
        config.space = space_config(name, **arguments)


def _parse(argv: list[str]) -> list[str]:
    """Parses the command line; a mistake in it ends the program with exit code 2."""
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        fail(error)
    except Exception as error:  # loading a config runs the user's code
        fail(f"the config cannot be read or overridden: {_sentence(error)}")
    if len(rest) > 1:
        fail(f"unknown argument {rest[1]!r}, flags begin with --.")
    return rest


def fail(error: Any) -> NoReturn:
    """Prints one sentence and ends the program with exit code 2."""
    sys.stderr.write(f"error: {_sentence(error)}\n")
    sys.exit(2)


def _sentence(error: Any) -> str:
    """What an error says, without a traceback that absl put into it: a config file's own error."""
    if isinstance(error, AttributeError | KeyError) and error.args:
        while isinstance(error, Exception) and error.args:  # ml_collections wraps one in another
            (error, *_) = error.args
        return " ".join(str(error).split("\n"))
    if isinstance(error, OSError) and error.strerror:
        error = f"{error.filename or 'the disk'}: {error.strerror}."
    first, *rest = str(error).strip().split("\n")
    if any(line.startswith("Traceback") for line in rest):
        return one_line(re.sub(r"^[\w.]+: ", "", rest[-1]))
    return one_line(first, 1000) or type(error).__name__


def _define_sharing() -> list[str]:
    """Defines the flags of work that is shared, and returns their names."""
    flags.DEFINE_string("shard", None, "k/n: work as worker k (from 0) of n independent ones.")
    flags.DEFINE_bool("distributed", False, "Work as one process of a job (docs/scaling.md).")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of the job's process 0, if not found.")
    flags.DEFINE_integer("num_processes", None, "Processes of the job, if not found.")
    flags.DEFINE_integer("process_id", None, "This one of them, from 0, if not found.")
    return ["shard", "distributed", *JOB]


def _join(values: flags.FlagValues) -> None:
    """Joins the job of `--distributed`, before anything else of JAX.

    Raises:
        ValueError: the flags do not describe a job, and no cluster was found that does.
    """
    import jax

    job = [values[key].value for key in JOB]
    names = ", ".join(f"--{key}" for key in JOB)
    if any(value is not None for value in job) and (None in job or not values.distributed):
        raise ValueError(f"{names} must be given together, and with --distributed.")
    if values.distributed:
        try:
            address, num_processes, process_id = job
            jax.distributed.initialize(address, num_processes, process_id)
        except ValueError as error:
            raise ValueError(f"no job of processes: {error} Give {names}.") from None


def _shard(text: str | None):
    """The shard of `--shard`, None without it."""
    from lswag_jax.runs import Shard

    return None if text is None else Shard.parse(text)


def _prepare(compile_cache: bool) -> None:
    import jax

    from lswag_jax.scoring import devices as distributed

    if not distributed.is_first():
        logging.set_verbosity(logging.WARNING)
    if compile_cache:
        folder = pathlib.Path.home() / ".cache" / "lswag_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    devices = jax.devices()
    logging.info("%d %s device(s): %s", len(devices), devices[0].platform, devices[0].device_kind)
    if jax.process_count() > 1:
        logging.info("%d processes, this is the one that writes", jax.process_count())


def check_number(key: str, value: int) -> None:
    """Raises ValueError for a number of networks or repetitions that nothing can have."""
    from lswag_jax.options import MOST

    if not 1 <= value <= MOST:
        raise ValueError(f"{key} must be from 1 to {MOST}, got {value}.")


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
        if name == "lswag":
            options["window"] = window.parse(config.window, options["bins"])
        configured[name] = proxies.get(name, **options)
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

    if config.data.batch_size < 2:
        raise ValueError(f"data.batch_size must be at least 2, got {config.data.batch_size}.")
    if not 2 <= config.data.gradient_batch <= config.data.batch_size:
        raise ValueError(
            "data.gradient_batch must be between 2 and data.batch_size "
            f"{config.data.batch_size}, got {config.data.gradient_batch}."
        )
    if config.score.chunk < 0:
        raise ValueError(f"score.chunk must be at least 0, got {config.score.chunk}.")
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
    try:
        check(cls, {key: value for key, value in section.items() if key in names})
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


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
    try:
        return cls.of(config[section], **more)
    except ValueError as error:
        raise ValueError(f"{section}.{error}") from None


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
        workdir: folder of the run, which goes on where it was.
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
