"""What the binaries share: flags, the config that they name, and errors as one sentence."""

import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from lswag_jax.cli import configs, progress
from lswag_jax.files import check_folder, one_line

USER_ERRORS = (ValueError, OSError, ImportError, MemoryError)
BAD_FLAGS = (flags.Error, UnicodeDecodeError)  # the latter of a --flagfile that is no text
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
    parser = _ConfigParser(name, example)
    try:
        config = _define_config(parser)
    except BAD_FLAGS as error:  # of --flagfile, which defining a config reads
        fail(error)
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
        check_folder(flags.FLAGS.workdir, "--workdir")
        main(_loaded(config, parser), flags.FLAGS.workdir, *shard)

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
    sys.argv = [sys.argv[0], *map(_at_home, sys.argv[1:])]
    try:
        app.run(body, flags_parser=parse)
    except USER_ERRORS as error:
        fail(error)


def _at_home(argument: str) -> str:
    """An argument whose value begins at `~`, which shells leave as it is behind a `=`."""
    flag, equals, value = argument.rpartition("=")
    return f"{flag}{equals}{os.path.expanduser(value)}"


class _ConfigParser(flags.ArgumentParser):
    """Loads the config of a binary; a mistake in it ends the program.

    Args:
        binary: without `lswag-`.
        example: a config that it takes.
    """

    def __init__(self, binary: str, example: str) -> None:
        self.binary, self.example = binary, example
        self.told: list[str] = []  # to be logged when the flags are parsed

    def parse(self, argument: str) -> ConfigDict:
        """The config of a file or a name, locked, before its keys are overridden."""
        argv = flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False)
        try:
            told = self.told.append
            return configs.load(argument, self.binary, self.example, argv, told).lock()
        except USER_ERRORS as error:
            fail(error)

    def flag_type(self) -> str:
        """What absl calls it."""
        return "config object"


def _loaded(config: flags.FlagHolder, parser: _ConfigParser) -> ConfigDict:
    """The config of the command line.

    Raises:
        ValueError: none was given, or it has a key or value that is not allowed.
    """
    if not flags.FLAGS["config"].present:
        raise ValueError(f"give a config, for example --config={parser.example}.")
    for text in parser.told:
        logging.warning("%s", text)
    configs.complete(config.value, parser.binary)  # overrides may have replaced sections
    return config.value


def _parse(argv: list[str]) -> list[str]:
    """Parses the command line, which has flags alone."""
    rest = parsed(argv)
    if len(rest) > 1:
        fail(f"unknown argument {rest[1]!r}, flags begin with --.")
    return rest


def parsed(argv: list[str]) -> list[str]:
    """What is left of a command line; a mistake in its flags ends the program with exit code 2."""
    try:
        return flags.FLAGS(argv)
    except BAD_FLAGS as error:
        fail(error)


def fail(error: Any) -> NoReturn:
    """Prints one sentence and ends the program with exit code 2."""
    sys.stderr.write(f"error: {_sentence(error)}\n")
    sys.exit(2)


def _sentence(error: Any) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        error = f"{error.filename or 'the disk'}: {error.strerror}."
    first = str(error).strip().partition("\n")[0]
    return one_line(first, 1000) or type(error).__name__


def _define_config(parser: _ConfigParser) -> flags.FlagHolder:
    """Defines the flag of a binary's config."""
    example = parser.example
    config = config_flags.DEFINE_config_file(
        "config",
        None,
        f"Config file, such as --config={example} or its small variant {example}:runlocal, or the "
        "name of one that comes with the package.",
    )
    flags.FLAGS["config"].parser = parser
    return config


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
