"""Small searches that the tests share, with a fitness of the genotype alone or real scoring.

`python -m tests.helpers.searches WORKDIR MODE` is the search that a test kills.
"""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np

from lswag_jax.runs import Archive
from lswag_jax.search import EvolutionOptions, run, search
from lswag_jax.spaces import AutoFormer
from tests.helpers import ROOT

SPACE = AutoFormer(
    "t", (16, 24), (1, 2), (2.0, 3.0), (1, 2), head_dim=8, image_size=8, patch_size=4,
    num_classes=3, relative_position=False,
)  # fmt: skip
WIDE = dataclasses.replace(
    SPACE,
    name="w",
    embed_dims=(16, 24, 32),
    head_counts=(1, 2, 3),
    mlp_ratios=(1.0, 2.0, 3.0),
    depths=(2, 3, 4, 5),
)

FAKE = {"proxies": ("swap", "nwot"), "fitness": "swap"}
EVOLUTION = EvolutionOptions(epochs=4, population=8, select=3, crossover=4, mutation=3)
CONFIG = {"seed": 0}


def fake_row(space, g):
    """A row with two additive scores that disagree."""
    heads, ratios = sum(g.num_heads), sum(g.mlp_ratio)
    return {
        "id": space.format(g),
        "genotype": g.to_json(),
        "params": space.num_params(g),
        "macs": space.macs(g),
        "seconds": 0.0,
        "degenerate": [False],
        "parts": {"swap": {"score": [heads + ratios]}, "nwot": {"score": [heads - g.embed_dim]}},
    }


def fake(space, delay=0.0):
    def evaluate(genotypes):
        for g in genotypes:
            time.sleep(delay)
            yield fake_row(space, g)

    return evaluate


def images():
    return np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32"), np.arange(6) % 3


def run_real(workdir, options, **arguments):
    """Proxies without gradients: they compile quickly."""
    proxies = ("nwot", "swap", "params")
    return run(SPACE, *images(), proxies, options, workdir, fitness="nwot", **arguments)


REAL_OPTIONS = EvolutionOptions(epochs=3, population=6, select=3, crossover=2, mutation=2)


def child(workdir, mode):
    """The search that a test kills; "half" kills itself in the middle of writing row 18."""
    if mode == "real":
        run_real(workdir, REAL_OPTIONS, progress=lambda _: time.sleep(0.05))
        return
    with Archive(workdir, CONFIG) as archive:
        if mode == "half":
            file = archive._file

            class Half:
                def write(self, line):
                    if len(archive) < 17:
                        return file.write(line)
                    file.write(line[: len(line) // 2])
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)

                def __getattr__(self, name):
                    return getattr(file, name)

            archive._file = Half()
        search(WIDE, fake(WIDE, 0.05), EVOLUTION, archive, **FAKE)


def run_and_kill(workdir, mode, num_rows):
    """Runs `child` until its archive has so many lines, then kills it."""
    path = pathlib.Path(workdir) / "archive.jsonl"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.helpers.searches", workdir, mode]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if mode != "half" and path.exists() and path.read_bytes().count(b"\n") >= num_rows:
                process.kill()
                break
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


if __name__ == "__main__":
    child(*sys.argv[1:])
