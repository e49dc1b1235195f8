"""Speed of scoring convolutional networks by L-SWAG.

    python benchmarks/run.py speed_cnn

NAS-Bench-201 at the benchmark's size on 64 images, one setting of each other space, and convolution
gradients beside XLA's own. Random images. About 20 minutes on 2 CPU cores.
"""

import argparse
import json
import time

import jax
import numpy as np
import tables
from jax import lax

import lswag_jax
from lswag_jax import spaces, tasks
from lswag_jax.spaces.convolution import convolve

BEST = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
TURNS = 4  # of the loop in `convolutions`
SETTINGS = {
    "nasbench201": ({"width": 16, "cells": 5, "image_size": 32}, 64, 100),
    "nasbench101": ({"width": 64, "cells": 3, "image_size": 32}, 16, 10),
    "darts": ({"width": 16, "layers": 8, "image_size": 32}, 16, 10),
    "transnas_micro": ({"task": tasks.classification(10), "image_size": 64}, 16, 10),
    "transnas_macro": ({"task": tasks.classification(10), "image_size": 64}, 16, 10),
}


def setting(name: str):
    """Space, genotypes, images and labels."""
    fields, batch, num = SETTINGS[name]
    space = spaces.get(name, **fields)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, *space.image_shape)).astype(np.float32)
    return space, space.sample(rng, num), images, np.arange(batch) % 10


def population(name: str, programs: int = 5) -> dict:
    """Seconds of a population with its compilation, and of programs of each one's own."""
    space, members, images, labels = setting(name)
    start = time.perf_counter()
    table = lswag_jax.score(space, members, images, labels)
    whole = time.perf_counter() - start
    spent = np.array([row["seconds"] for row in table.rows])
    variables = space.init(jax.random.key(0))
    start = time.perf_counter()
    for g in members[:programs]:
        lswag_jax.score_model(space.build(g), space.extract(variables, g), images, labels)
    each = (time.perf_counter() - start) / programs
    fields, batch, num = SETTINGS[name]
    return {
        "setting": {key: str(value) for key, value in fields.items()} | {"batch": batch},
        "genotypes": num,
        "seconds, compile included": whole,
        "of these compiling": table.timing["compile"],
        "seconds an architecture: median": float(np.median(spent)),
        "seconds an architecture: mean": float(spent.mean()),
        f"a program of its own: seconds each (mean of {programs})": each,
        "times as long": each * num / whole,
    }


def nasbench201_cells(rounds: int = 5) -> dict:
    """Median seconds of the best network and of cells of one operation, interleaved."""
    space, _, images, labels = setting("nasbench201")
    cells = {"best network": space.parse(BEST)}
    for op in ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect"):
        cells[f"all {op}"] = spaces.NasBench201Genotype((op,) * 6)
    taken = {name: [] for name in cells}
    for _ in range(rounds):
        for name, g in cells.items():
            taken[name].append(lswag_jax.score(space, [g], images, labels).rows[0]["seconds"])
    return {name: float(np.median(values)) for name, values in taken.items()}


def convolutions(rounds: int = 5) -> dict:
    """Milliseconds of a 3x3 convolution and of its input's gradient, ours and XLA's.

    Inside a loop, as in a scored population, where XLA takes another path than at the top.
    """

    def xla(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)

    results = {}
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        x = jax.random.normal(jax.random.key(0), (64, size, size, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels))
        jobs = {"forward": looped(xla)}
        for name, function in (("XLA's gradient", xla), ("ours", convolve)):
            jobs[name] = looped(
                lambda x, k, function=function: jax.vjp(lambda x: function(x, k), x)[1](x)[0]
            )
        for name, job in jobs.items():
            jax.block_until_ready(job(x, kernel))
            spent = []
            for _ in range(rounds):
                start = time.perf_counter()
                jax.block_until_ready(job(x, kernel))
                spent.append(time.perf_counter() - start)
            results[f"{channels} channels, {size} px: {name}"] = 1e3 * float(min(spent)) / TURNS
    return results


def looped(function):
    """A jitted loop that applies a function of (x, kernel) to its own result."""

    def run(x, kernel):
        return lax.scan(lambda x, _: (0.1 * function(x, kernel), None), x, length=TURNS)[0]

    return jax.jit(run)


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", default=",".join(SETTINGS))
    arguments = parser.parse_args()
    device = jax.devices()[0]
    results = {"machine": f"{device.device_kind}, jax {jax.__version__}"}
    with jax.default_matmul_precision("highest"):
        results["convolutions, ms"] = convolutions()
    for name in arguments.spaces.split(","):
        results[name] = population(name)
        if name == "nasbench201":
            results["nasbench201 cells, s"] = nasbench201_cells()
        print(json.dumps(results[name]), flush=True)
    for title, figures in results.items():
        if isinstance(figures, dict):
            tables.show_figures(title, figures)


if __name__ == "__main__":
    main()
