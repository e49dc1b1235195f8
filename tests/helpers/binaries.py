"""The binaries in processes of their own, forked from one that has imported what all of them do."""

import importlib
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.helpers import ROOT

_FORKS = multiprocessing.get_context("forkserver")  # imports alone take most of a short run
_FORKS.set_forkserver_preload(
    ["tests.helpers.binaries", "lswag_jax", "ml_collections", "scipy.stats"]
)


def run(
    binary: str, *arguments: str, check: bool = True, at: pathlib.Path = ROOT
) -> subprocess.CompletedProcess:
    """What a binary started in `at` prints and its exit code, which must be 0 to pass the check."""
    with tempfile.TemporaryDirectory() as folder:
        process = _FORKS.Process(target=_call, args=(binary, arguments, folder, at))
        process.start()
        process.join()
        out, err = (pathlib.Path(folder, name).read_text() for name in ("1", "2"))
    assert not check or process.exitcode == 0, err
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _call(binary: str, arguments: tuple[str, ...], folder: str, at: pathlib.Path) -> None:
    """The binary's entry point, its two streams in files of the folder."""
    for stream in (1, 2):
        os.dup2(os.open(f"{folder}/{stream}", os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(at)
    sys.argv = [f"lswag-{binary}", "--nocompile_cache", *arguments]
    importlib.import_module(f"lswag_jax.cli.{binary}").run()
