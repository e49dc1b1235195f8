"""What a change did to the speed of scoring: this checkout and another, call by call in one run.

    git worktree add ../before COMMIT
    python benchmarks/run.py before_after ../before [--space autoformer_tiny --proxies lswag,nwot]

Each checkout compiles the scorer of one network in a process of its own; the processes then score
in turn, so that other work on the machine slows both. CPU seconds of compiling, seconds of a
network and CPU seconds (medians), memory of the compiled program. About 2 minutes on 2 CPU cores.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import numpy as np
import tables

import lswag_jax

HERE = pathlib.Path(__file__).resolve().parent.parent
SMALL = {"image_size": 28, "patch_size": 4, "channels": 1, "num_classes": 10}


def serve(space_name: str, arguments: dict, proxies: list[str], batch: int) -> None:
    """Compiles, says what it cost, and scores once for each line that comes."""
    space = lswag_jax.spaces.get(space_name, **arguments)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, *space.image_shape)).astype(np.float32)
    encoded = space.encode(space.sample(rng, 1))
    given = (encoded, images, np.arange(batch) % 10, jax.random.key(0))
    variables = jax.jit(space.init)(jax.random.key(0))
    start = time.process_time()
    with jax.default_matmul_precision("highest"):
        scorer = jax.jit(lswag_jax.make_scorer(space, proxies)).lower(variables, *given).compile()
    memory = scorer.memory_analysis().temp_size_in_bytes / 1e6
    print(json.dumps([time.process_time() - start, memory]), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter(), time.process_time()
        jax.block_until_ready(scorer(variables, *given))
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        print(json.dumps(spent), flush=True)


class Server:
    """A checkout that scores in a process of its own."""

    def __init__(self, checkout: pathlib.Path, arguments: list[str]):
        command = [sys.executable, __file__, *arguments, "--serve"]
        path = os.environ | {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            command, env=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.compiling, self.memory = json.loads(self._answer())

    def score(self) -> list[float]:
        """Seconds of one network, and CPU seconds."""
        assert self._process.stdin is not None
        print("once", file=self._process.stdin, flush=True)
        return json.loads(self._answer())

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a checkout stopped: does it have lswag_jax.make_scorer, and the space?")
        return line


def main() -> None:
    """Compares two checkouts, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=pathlib.Path, help="a checkout of an earlier commit")
    parser.add_argument("--space", default="autoformer_tiny")
    parser.add_argument("--arguments", type=json.loads, help="of the space, as JSON")
    parser.add_argument("--proxies", default="lswag,zico,swap,nwot")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    arguments = options.arguments or (SMALL if options.space.startswith("autoformer") else {})
    if options.serve:
        serve(options.space, arguments, options.proxies.split(","), options.batch)
        return
    servers = [Server(path.resolve(), sys.argv[1:]) for path in (options.before, HERE)]
    for server in servers:
        server.score()  # the first one fills the allocator
    calls = [[server.score() for server in servers] for _ in range(options.calls)]
    spent_by = zip(*calls, strict=True)
    rows = [
        {
            "checkout": name,
            "compiling, CPU s": server.compiling,
            "a network, s": statistics.median(wall for wall, _ in spent),
            "a network, CPU s": statistics.median(cpu for _, cpu in spent),
            "memory, MB": server.memory,
        }
        for name, server, spent in zip(("before", "now"), servers, spent_by, strict=True)
    ]
    for server in servers:
        server.stop()
    title = f"{options.proxies} of {options.space}, {options.batch} images"
    tables.show(title, rows, 2)


if __name__ == "__main__":
    main()
