"""What the first score of a space costs: tracing, lowering and compiling, in CPU seconds.

    python benchmarks/run.py cold_start [--cases nasbench201]

Every case runs in a fresh process without a compile cache. A program's size is that of its
StableHLO text. About 20 minutes on 2 CPU cores; `--cases` takes parts of names.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import tables

import lswag_jax
from lswag_jax import proxies as registry
from lswag_jax.scoring import devices, population

FIVE = ("lswag", "zico", "snip", "nwot", "synflow")
TINY = ("autoformer_tiny", {"image_size": 32, "patch_size": 4, "num_classes": 10}, 32)
CNN_201 = ("nasbench201", {}, 64)
CASES = {  # space, its arguments, batch; proxies; networks; CPU seconds wanted
    "autoformer_tiny, one": (*TINY, ("lswag",), 1, 10),
    "nasbench201, one": (*CNN_201, ("lswag",), 1, 15),
    "nasbench201, five": (*CNN_201, FIVE, 1, 30),
    "nasbench201, all": (*CNN_201, None, 1, 120),
    "nasbench201, grasp": (*CNN_201, ("grasp",), 1, None),
    "nasbench101, one": ("nasbench101", {}, 32, ("lswag",), 1, 30),
    "darts, one": ("darts", {}, 32, ("lswag",), 1, 30),
    "transnas_micro, one": ("transnas_micro", {"image_size": 64}, 8, ("lswag",), 1, 30),
    "transnas_micro jigsaw, one": (
        *("transnas_micro", {"image_size": 64, "task": "jigsaw"}),
        *(8, ("lswag",), 1, 30),
    ),
    "transnas_macro, first network": ("transnas_macro", {"image_size": 64}, 8, ("lswag",), 1, 40),
    "transnas_macro, four networks": ("transnas_macro", {"image_size": 64}, 8, ("lswag",), 4, None),
}


class Spent:
    """CPU seconds by phase, and how many programs there were and how large they are."""

    def __init__(self) -> None:
        self.seconds = {"trace": 0.0, "lower": 0.0, "compile": 0.0}
        self.programs, self.bytes = 0, 0

    @contextlib.contextmanager
    def phase(self, name: str):
        """Adds what passes inside."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def compile_elastic(space, proxies, images, labels, spent: Spent) -> None:
    """The programs that `score` makes for a space, phase by phase."""
    variables = jax.eval_shape(space.init, jax.random.key(0))
    encoded = space.encode(space.sample(np.random.default_rng(0), 1))
    key = jax.eval_shape(lambda: jax.random.key(0))
    for some in registry.programs(proxies):
        scorer = jax.jit(population.make_scorer(space, some))
        with jax.default_matmul_precision("highest"):
            with spent.phase("trace"):
                traced = scorer.trace(variables, encoded, images, labels, key)
            with spent.phase("lower"):
                lowered = traced.lower()
            with spent.phase("compile"):
                lowered.compile(compiler_options=devices.compiler_options())
        spent.programs += 1
        spent.bytes += len(lowered.as_text())


def run_chain(space, proxies, images, labels, networks: int, spent: Spent) -> None:
    """The first networks of a space of chains; everything but compilation counts as tracing."""
    compiled = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    members = space.sample(np.random.default_rng(0), networks)
    with spent.phase("trace"):
        lswag_jax.score(space, members, images, labels, proxies)
    spent.programs = len(compiled)
    spent.seconds["compile"] = sum(compiled)  # wall seconds
    spent.seconds["trace"] -= sum(compiled)


def measure(name: str) -> dict:
    """One case, in this process."""
    space_name, arguments, batch, names, networks, wanted = CASES[name]
    space = lswag_jax.spaces.get(space_name, **arguments)
    proxies = registry.resolve(registry.names() if names is None else names)
    images = np.zeros((batch, *space.image_shape), np.float32)
    labels, spent = np.arange(batch) % 10, Spent()
    start = time.process_time()
    if space.chain(space.sample(np.random.default_rng(0), 1)[0]) is None:
        shape = jax.ShapeDtypeStruct
        given = shape(images.shape, images.dtype), shape(labels.shape, np.int32)
        compile_elastic(space, proxies, *given, spent)
    else:
        noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
        run_chain(space, proxies, noise, labels, networks, spent)
    total = {"CPU s": time.process_time() - start, "wanted": wanted}
    size = {"programs": spent.programs, "StableHLO, MB": spent.bytes / 1e6}
    return total | spent.seconds | size


def in_a_process(name: str) -> dict:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        subprocess.run([sys.executable, __file__, "--one", name, str(path)], check=True)
        return json.loads(path.read_text())


def main() -> None:
    """Runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), help="parts of their names")
    parser.add_argument("--one", nargs=2, help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.one:
        name, path = arguments.one
        pathlib.Path(path).write_text(json.dumps(measure(name)))
        return
    chosen = [name for name in CASES if any(part in name for part in arguments.cases)]
    rows = [{"first score of": name} | in_a_process(name) for name in chosen]
    tables.show("cold start", rows, 1)


if __name__ == "__main__":
    main()
