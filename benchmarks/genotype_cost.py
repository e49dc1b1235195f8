"""What random vision transformers cost beside the largest of their space, and beside their MACs.

    python benchmarks/run.py --save genotype_cost [--cases vitbench] [--networks 100]

An elastic program costs what its largest network does; a program of a narrower width costs less,
and is compiled where it pays. L-SWAG, CPU seconds a network, compiling apart. About 25 minutes on 2
CPU cores.
"""

import argparse
import time
from typing import Any

import numpy as np
import tables

from lswag_jax import score, spaces
from lswag_jax.scoring import programs

CASES = {  # space, its arguments, batch; networks, as a share of --networks
    "autoformer_tiny, 32 px, patches of 4": (
        *("autoformer_tiny", {"image_size": 32, "patch_size": 4}),
        *(32, 1.0),
    ),
    "vitbench_autoformer, 32 px, patches of 4": (
        *("vitbench_autoformer", {"image_size": 32, "patch_size": 4}),
        *(32, 1.0),
    ),
    "autoformer_tiny, 224 px": ("autoformer_tiny", {"image_size": 224}, 16, 0.3),
}
NEVER, ALWAYS = 10**30, 0


def measure(space: spaces.Space, batch: int, networks: int) -> dict[str, Any]:
    """CPU seconds of the largest network, and of random ones with and without narrow programs."""
    rng = np.random.default_rng(0)
    genotypes = space.sample(rng, networks)
    images = rng.normal(size=(batch, *space.image_shape)).astype(np.float32)

    def seconds(members: list) -> float:
        start = time.process_time()
        score(space, members, images, np.arange(batch) % space.num_classes)
        return (time.process_time() - start) / len(members)

    found = {}
    for name, worth in (("whole", NEVER), ("narrow", ALWAYS)):
        programs.WORTH_NARROWING = worth
        compiling = seconds(genotypes) * networks
        found[name] = seconds(genotypes)
        found[f"{name}, compiling"] = compiling - found[name] * networks
        if worth == NEVER:
            found["largest"] = min(seconds([space.largest()] * 5) for _ in range(2))
    largest = space.macs(space.largest())
    return found | {"macs": np.mean([space.macs(g) for g in genotypes]) / largest}


def main() -> None:
    """Measures the cases asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="")
    parser.add_argument("--networks", type=int, default=100)
    arguments = parser.parse_args()
    rows, ratios = [], ("share of the largest", "share of MACs")
    ratios += "one program over MACs", "narrow over MACs"
    for name, (kind, options, batch, share) in CASES.items():
        if arguments.cases not in name:
            continue
        space = spaces.get(kind, num_classes=10, **options)
        found = measure(space, batch, max(int(arguments.networks * share), 1))
        shares = {key: found[key] / found["largest"] for key in ("whole", "narrow")}
        rows.append(
            {
                "space": name,
                "largest, s": found["largest"],
                "random, one program": found["whole"],
                "random, narrow programs": found["narrow"],
                "share of the largest": shares["narrow"],
                "share of MACs": found["macs"],
                "one program over MACs": shares["whole"] / found["macs"],
                "narrow over MACs": shares["narrow"] / found["macs"],
                "compiling one, s": found["whole, compiling"],
                "compiling the others, s": found["narrow, compiling"],
            }
        )
    digits = {"compiling one, s": 0, "compiling the others, s": 0}
    tables.show("cost of random networks", rows, digits | dict.fromkeys(ratios, 2))


if __name__ == "__main__":
    main()
