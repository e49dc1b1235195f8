"""Scores on simulated devices and in real processes, for the tests that start them.

`python -m tests.helpers.workers devices OUTPUT` and
`python -m tests.helpers.workers job OUTPUT COORDINATOR ID` write what they found as JSON.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from lswag_jax import score
from lswag_jax.scoring import devices as distributed
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring import programs
from lswag_jax.search import RandomOptions
from tests.helpers.searches import ROOT, SPACE, images, run_real, without_seconds

PROXIES = ("lswag", "nwot", "swap", "params")  # on several devices
JOB = ("nwot", "swap", "params")  # in processes: as `run_real` has them, one program for both
GENOTYPES = SPACE.sample(np.random.default_rng(0), 11)
COUNTS = (1, 2, 8)
PROCESSES = 2


def start(mode, *arguments):
    """A worker in a process of its own."""
    command = [sys.executable, "-m", "tests.helpers.workers", mode, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"})


def finish(processes):
    """Waits for processes that depend on each other; none is left over."""
    try:
        for process in processes:
            assert process.wait(timeout=500) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


def on_devices(output):
    """The same population on 1, 2 and 8 devices, and how often the network was traced by then."""
    jax.config.update("jax_num_cpu_devices", 8)
    traced, original = [], programs.measure
    programs.measure = lambda *a, **k: traced.append(1) or original(*a, **k)
    found = {}
    for n in (*COUNTS, None):
        table = score(SPACE, GENOTYPES, *images(), PROXIES, devices=n and jax.devices()[:n])
        scores = {name: table[name].tolist() for name in table}
        found[str(n)] = {"ids": table.ids, "scores": scores, "traced": len(traced)}
    pathlib.Path(output).write_text(json.dumps(found))


def in_a_job(output, coordinator, process):
    """One of two processes: a population, one with a failure, and refusals."""
    process, folder = int(process), pathlib.Path(output).parent
    jax.distributed.initialize(coordinator, PROCESSES, process)
    found = {"rows": score(SPACE, GENOTYPES, *images(), JOB).rows}
    original = scoring.run_chunk

    def fails(members, *rest):
        if process == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating")
        return original(members, *rest)

    scoring.run_chunk = fails
    found["failed"] = score(SPACE, GENOTYPES[:3], *images(), JOB).rows
    found["alone"] = [len(score(SPACE, GENOTYPES[:1], *images(), "params", devices=local).rows)
                      for local in (jax.local_devices(), None)]  # fmt: skip
    distributed.BLOCK_BYTES = 64
    found["long"] = distributed.gather([{"process": process, "text": "x" * 100 * process}])

    def refusal(options):
        try:
            run_real(folder / "run", options)
        except ValueError as error:
            return str(error)

    scoring.run_chunk = original
    found["run"] = without_seconds(run_real(folder / "run", RandomOptions(num=3)).table.rows)
    found["other run"] = refusal(RandomOptions(num=3, seed=1))
    found["other process"] = refusal(RandomOptions(num=3 + process))
    pathlib.Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    {"devices": on_devices, "job": in_a_job}[mode](*rest)
