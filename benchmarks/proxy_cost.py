"""What each proxy costs, in forward + backward passes, and what a family costs together.

    python benchmarks/run.py proxy_cost --output=benchmarks/results/proxy_cost.json

One exact network of each setting; calls are interleaved with the gradient of the batch's loss, and
figures are medians of ratios. The program of each proxy is compiled by itself, so that a figure
holds the forward pass that proxies share when they are asked for together. An hour on one CPU core;
figures are kept as they come, and a run that is started again resumes.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import run
import tables

from lswag_jax import proxies, spaces
from lswag_jax.capture import models, tape
from lswag_jax.files import write_atomically
from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.scoring.measure import measure

FAMILY_KEY = "family"  # of these, over L-SWAG alone
FAMILY = ("lswag", "zico", "snip", "fisher", "grad_norm", "plain", "l2_norm", "nwot", "swap")
VIT, CNN = "AutoFormer-Tiny, 32 px, batch 32", "NAS-Bench-201, C 16, N 1, 32 px, batch 64"


def settings() -> dict[str, tuple]:
    """Space, genotype and batch size of each setting."""
    vit = spaces.get("autoformer_tiny", image_size=32, patch_size=4, num_classes=100)
    cnn = spaces.get("nasbench201", cells=1)
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|"
    g = vit.sample(np.random.default_rng(0), 1)[0]
    return {VIT: (vit, g, 32), CNN: (cnn, cnn.parse(best + "nor_conv_3x3~2|"), 64)}


def jobs_of(space, genotype, batch: int) -> dict:
    """The gradient and a function that compiles any set of proxies, all without arguments."""
    module = space.build(genotype)
    variables = space.extract(space.init(jax.random.key(0)), genotype)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch, *space.image_shape)), jnp.float32)
    labels = jnp.arange(batch) % space.num_classes
    model, weights = models.split(module, variables)

    def loss(weights):
        network = model.network(weights, "through")
        return tape.cross_entropy(network(images), labels).mean()

    gradient = jax.jit(jax.grad(loss, allow_int=True))

    def program(names):
        chosen = proxies.resolve(names)

        @jax.jit
        def run(weights, images, labels, key):
            candidate = Candidate(model.network, weights, "frozen", model.has_batch_norm)
            return measure(candidate, images, labels, chosen, draws=Draws(key))

        return lambda: run(weights, images, labels, jax.random.key(0))

    return {"gradient": lambda: gradient(weights), "program": program}


def seconds(function) -> float:
    """Wall seconds of a call, its result ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def ratio(job, base, rounds: int = 5) -> float:
    """Median ratio of interleaved calls."""
    seconds(job), seconds(base)
    return float(np.median([seconds(job) / seconds(base) for _ in range(rounds)]))


def cost(setting: tuple, found: dict[str, float], keep: Callable[[], None]) -> None:
    """Adds to `found` the family over L-SWAG alone, and each proxy's cost in passes.

    Args:
        setting: space, genotype and batch size.
        found: receives the figures; what it holds is not measured again.
        keep: called after each.
    """
    jobs = jobs_of(*setting)
    gradient, program = jobs["gradient"], jobs["program"]
    if FAMILY_KEY not in found:
        found[FAMILY_KEY] = round(ratio(program(FAMILY), program(["lswag"])), 2)
        keep()
    for name in proxies.names():
        if not proxies.get(name).passes or name in found:
            continue
        job = program([name])
        applies = "not_applicable" not in job()[name]
        found[name] = round(ratio(job, gradient), 2) if applies else None
        print(name, found[name], flush=True)
        keep()


def main() -> None:
    """Runs both settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="benchmarks/results/proxy_cost.json")
    parser.add_argument("--settings", default=f"{VIT};{CNN}", help="between semicolons")
    arguments = parser.parse_args()
    path = pathlib.Path(arguments.output)
    results = json.loads(path.read_text()) if path.exists() else {"cost": {}}
    results |= run.about("python benchmarks/run.py proxy_cost")
    with jax.default_matmul_precision("highest"):
        for name in arguments.settings.split(";"):
            print(name, flush=True)
            found = results["cost"].setdefault(name, {})
            cost(
                settings()[name],
                found,
                lambda: write_atomically(path, json.dumps(results, indent=2) + "\n"),
            )
    tables.show("family", family_rows(results["cost"]), 2)
    write_atomically(path, json.dumps(results | {"tables": tables.shown}, indent=2) + "\n")
    print(path)


def family_rows(cost: dict) -> list[dict]:
    """What L-SWAG costs in each setting, and its family over it."""
    settings = {"AutoFormer-Tiny, 32 px, B = 32": cost[VIT]}
    settings |= {"NAS-Bench-201, N = 1, 32 px, B = 64": cost[CNN]}
    rows = {"lswag alone, in forward + backward passes": "lswag"}
    rows |= {"the nine of one family together, over lswag alone (1.5 wanted)": FAMILY_KEY}
    return [{"": r} | {s: v[key] for s, v in settings.items()} for r, key in rows.items()]


if __name__ == "__main__":
    main()
