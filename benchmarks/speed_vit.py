"""Speed and memory of scoring AutoFormer-Tiny.

    python benchmarks/run.py speed_vit

Ratios are of interleaved runs in one process, since these machines are noisy. About 10 minutes on
2 CPU cores.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tables

import lswag_jax
from lswag_jax.capture import tape
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import programs

SETTINGS = {"32 px": (32, 4, 32), "224 px": (224, 16, 16)}  # image, patch, batch
UPPER_HALF = (5, 9)  # depth bins


def setting(image: int, patch: int, batch: int, genotypes: int):
    """Space, genotypes, images and labels."""
    space = lswag_jax.spaces.get(
        "autoformer_tiny", image_size=image, patch_size=patch, num_classes=100
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, image, image, 3)).astype(np.float32)
    return space, space.sample(rng, genotypes), images, np.arange(batch) % 100


def seconds(function) -> float:
    """Wall seconds of a call, its result ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def forward_backward(space, images, labels):
    """One jitted gradient of the batch loss of the elastic network."""
    network, images, labels = space.network(), jnp.asarray(images), jnp.asarray(labels)

    def loss(params, encoded):
        return tape.cross_entropy(network.apply({"params": params}, images, encoded), labels).sum()

    return jax.jit(jax.grad(loss))


def ratios(image: int, patch: int, batch: int, rounds: int = 6) -> dict:
    """Seconds an architecture over seconds of one forward and backward pass, interleaved."""
    space, genotypes, images, labels = setting(image, patch, batch, rounds + 1)
    variables = space.init(jax.random.key(0))
    with jax.default_matmul_precision("highest"):
        gradient = forward_backward(space, images, labels)
        jobs = {"forward + backward": lambda g: gradient(variables["params"], encode(space, g))}
        for name, proxy in (("lswag", LSwag()), ("lswag, upper half", LSwag(window=UPPER_HALF))):
            jobs[name] = lambda g, proxy=proxy: lswag_jax.score(space, [g], images, labels, proxy)
        taken = {name: [] for name in jobs}
        for i, genotype in enumerate(genotypes):
            for name, job in jobs.items():
                spent = seconds(lambda job=job, genotype=genotype: job(genotype))
                if i:  # the first compiles
                    taken[name].append(spent)
    base = np.array(taken["forward + backward"])
    mean_macs = np.mean([space.macs(g) for g in genotypes[1:]])
    result = {f"{name}: seconds": float(np.median(t)) for name, t in taken.items()}
    for name in list(jobs)[1:]:
        result[f"{name}: ratio"] = float(np.median(np.array(taken[name]) / base))
    rate = 6 * batch * mean_macs / result["lswag: seconds"]
    return result | {"lswag: share of matrix-product rate": float(rate / matmul_rate())}


def encode(space, genotype):
    """One genotype as the elastic network takes it."""
    return {key: value[0] for key, value in space.encode([genotype]).items()}


def matmul_rate(size: int = 3000) -> float:
    """Floating-point operations a second of a square float32 matrix product."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    seconds(lambda: product(a))
    return 2 * size**3 / min(seconds(lambda: product(a)) for _ in range(5))


def traces(genotypes: int = 200) -> dict:
    """How often the network is traced for that many genotypes, and seconds each."""
    space, members, images, labels = setting(*SETTINGS["32 px"], genotypes)
    count, original = [], programs.measure
    programs.measure = lambda *args, **kwargs: count.append(1) or original(*args, **kwargs)
    try:
        table = lswag_jax.score(space, members, images, labels, LSwag(label="traced"))
    finally:
        programs.measure = original
    return {
        "genotypes": len(table),
        "traces": len(count),
        "mean seconds": float(np.mean([row["seconds"] for row in table.rows])),
    }


def one_program_each(genotypes: int = 10) -> dict:
    """New genotypes by the elastic program, and by a program of each one's own."""
    space, members, images, labels = setting(*SETTINGS["32 px"], genotypes)
    start = time.perf_counter()
    lswag_jax.score(space, members, images, labels, LSwag(label="elastic"))
    elastic = time.perf_counter() - start
    variables = space.init(jax.random.key(0))
    start = time.perf_counter()
    for g in members:
        lswag_jax.score_model(space.build(g), space.extract(variables, g), images, labels)
    exact = time.perf_counter() - start
    return {"elastic: seconds": elapsed(elastic), "one program each: seconds": elapsed(exact)} | {
        "speed-up": exact / elastic
    }


def elapsed(value: float) -> float:
    """Seconds to a hundredth."""
    return round(value, 2)


def peak_memory(image: int, patch: int, batch: int, genotypes: int) -> float:
    """GiB of resident memory that a process needs at most."""
    arguments = [str(v) for v in (image, patch, batch, genotypes)]
    command = [sys.executable, __file__, "--memory", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_memory(image: int, patch: int, batch: int, genotypes: int) -> None:
    """Scores in this process and prints its peak memory, GiB."""
    space, members, images, labels = setting(image, patch, batch, genotypes)
    lswag_jax.score(space, members, images, labels)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=4, type=int, help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.memory:
        print_peak_memory(*arguments.memory)
        return
    device = jax.devices()[0]
    results = {
        "machine": f"{platform.processor() or platform.machine()}, {device.device_kind}",
        "jax": jax.__version__,
    }
    for name, shape in SETTINGS.items():
        results[f"{name}, batch {shape[2]}"] = ratios(*shape)
    results["traces"] = traces()
    results["ten new genotypes"] = one_program_each()
    results["peak memory, GiB"] = {
        "32 px, 8 genotypes": peak_memory(*SETTINGS["32 px"], 8),
        "32 px, 64 genotypes": peak_memory(*SETTINGS["32 px"], 64),
        "224 px, batch 64": peak_memory(224, 16, 64, 2),
    }
    for title, figures in results.items():
        if isinstance(figures, dict):
            tables.show_figures(title, figures)


if __name__ == "__main__":
    main()
