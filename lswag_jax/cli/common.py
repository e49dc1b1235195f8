"""What the binaries share: flags, the config that they name, and errors as one sentence."""

import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from lswag_jax import own
from lswag_jax.cli import configs, loading, progress
from lswag_jax.files import one_line

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
    flags.DEFINE_string("workdir", f"results/{name}", "Folder of the results; a run resumes there.")
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

    known = {key: flags.FLAGS[key] for key in keys}
    described = {key: f"{flag.help} (default: {flag.default})" for key, flag in known.items()}
    kind = "default_train_config" if name == "train" else "default_config"
    described["config.KEY=VALUE"] = f"override a key; lswag_jax/cli/{kind}.py has all."
    try:
        start(body, _parse, f"{description}\n", described)
    except KeyboardInterrupt:
        workdir = flags.FLAGS["workdir"].value
        sys.stderr.write(f"interrupted: the same command resumes in {workdir}.\n")
        sys.exit(130)


def start(
    body: Callable[[list[str]], None],
    parse: Callable[[list[str]], list[str]],
    description: str,
    described: Mapping[str, str],
) -> None:
    """Starts a binary, or says what it is; a user's mistake ends it with exit code 2.

    Args:
        body: takes what is left of the command line.
        parse: parses the command line.
        description: what `--help` says first.
        described: of each flag, what `--help` says.
    """
    if any(arg in ("--help", "-help", "-h", "--helpfull") for arg in sys.argv[1:]):
        sys.stdout.write(f"{description}\nflags:\n")
        for key, text in described.items():
            sys.stdout.write(f"  --{key}: {text}\n")
        sys.exit(0)
    progress.set_up_log()
    try:
        app.run(body, flags_parser=parse)
    except USER_ERRORS as error:
        fail(error)


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
    for section in ("score", "profile"):  # also where another binary would read it
        if section in config.value:
            loading.check_number(f"{section}.num", config.value[section].num)
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
