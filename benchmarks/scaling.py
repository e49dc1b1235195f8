"""Architectures a second on one device and on all of them, and what 10^6 of them would take.

    python benchmarks/run.py scaling                  # on an accelerator machine
    python benchmarks/run.py scaling --simulate=8     # the mechanism alone, on a CPU

Simulated devices share the cores of one CPU and make nothing faster: they show that the program is
split and what the scores deviate by. On a machine of several processes see docs/scaling.md.
"""

import argparse
import time

import jax
import numpy as np
import tables

import lswag_jax
from lswag_jax.scoring import table as scores

TOTAL = 10**6
PROXIES = ("lswag", "nwot", "params")


def population(arguments):
    """Space, genotypes (a multiple of every chunk) and batch."""
    space = lswag_jax.spaces.get(
        arguments.space,
        image_size=arguments.image_size,
        num_classes=100,
        **({"patch_size": arguments.patch_size} if "autoformer" in arguments.space else {}),
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(arguments.batch, *space.image_shape)).astype(np.float32)
    return space, space.sample(rng, arguments.genotypes), images, np.arange(arguments.batch) % 100


def measure(devices, space, genotypes, images, labels) -> tuple[dict, lswag_jax.ScoreTable]:
    """Rates on some devices; the second call finds the program compiled."""
    start = time.perf_counter()
    arguments = (space, genotypes, images, labels, PROXIES)
    lswag_jax.score(*arguments, devices=devices)
    first = time.perf_counter() - start
    table = lswag_jax.score(*arguments, devices=devices)
    seconds = table.timing["score"]
    return {
        "devices": len(devices),
        "first call, seconds": first,
        "architectures a second": len(table) / seconds,
        "seconds an architecture": seconds / len(table),
    }, table


def estimate(result: dict, row_bytes: float, price: float) -> dict:
    """What `TOTAL` architectures take on as many devices, and what that costs."""
    hours = TOTAL * result["seconds an architecture"] / 3600
    return {
        "hours": hours,
        "device-hours": hours * result["devices"],
        "cost": hours * result["devices"] * price,
        "archive, GB": TOTAL * row_bytes / 1e9,
    }


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="autoformer_tiny")
    parser.add_argument("--image_size", type=int, default=32, help="pixels")
    parser.add_argument("--patch_size", type=int, default=4, help="pixels, of AutoFormer")
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--genotypes", type=int, default=64)
    parser.add_argument("--simulate", type=int, help="so many devices on a CPU")
    parser.add_argument("--price", type=float, default=0.0, help="of a device-hour")
    arguments = parser.parse_args()
    if arguments.simulate:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", arguments.simulate)
    work, devices = population(arguments), jax.local_devices()
    results = {"device": devices[0].device_kind}
    one = None
    for number in sorted({1, len(devices)}):
        result, table = measure(devices[:number], *work)
        one = one or table
        row_bytes = np.mean([len(scores.dump_row(row)) + 1 for row in table.rows])
        deviation = np.abs(table["lswag"] / one["lswag"] - 1).max()
        same = np.array_equal(table.rank("lswag"), one.rank("lswag"))
        result |= {"largest relative deviation of lswag": float(deviation), "same ranking": same}
        result |= {f"10^6: {k}": v for k, v in estimate(result, row_bytes, arguments.price).items()}
        results[f"{number} device(s)"] = result
    for title, figures in results.items():
        if isinstance(figures, dict):
            tables.show_figures(title, figures)


if __name__ == "__main__":
    main()
