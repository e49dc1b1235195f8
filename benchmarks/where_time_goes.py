"""Where the time of scoring one network by L-SWAG goes, from XLA's own profile of the program.

    python benchmarks/run.py --save where_time_goes

Every operation that the CPU runs is told apart by what it computes: of a fusion, by the costliest
thing in it. Also the rate of all products beside that of one large product on this machine. A
minute on 2 CPU cores.
"""

import collections
import glob
import re
import tempfile

import jax
import numpy as np
import speed_vit
import tables
from jax.profiler import ProfileData

import lswag_jax
from lswag_jax.spaces import AutoFormerGenotype

LARGEST = AutoFormerGenotype(240, (4,) * 14, (4.0,) * 14)
SETTINGS = {  # space and its arguments, genotype, images
    "ViT 240 x 14, 32 px, B = 32": ("vitbench_autoformer", (32, 4), LARGEST, 32),
    "ViT 240 x 14, 224 px, B = 16": ("vitbench_autoformer", (224, 16), LARGEST, 16),
    "autoformer_tiny, 32 px, B = 32": ("autoformer_tiny", (32, 4), LARGEST, 32),
    "NAS-Bench-201, 32 px, B = 64": ("nasbench201", None, None, 64),
}
KINDS = {  # in this order
    "products": {"dot", "convolution"},
    "patterns": {"sort", "shift-left"},
    "softmax and GELU": {"exponential", "erf", "tanh", "exponential-minus-one"},
    "sums, moments, norms": {"reduce", "reduce-window", "multiply", "add", "subtract", "divide"},
}
REST = "copies, slices, zeros, selects"
CONTAINERS = {"while", "conditional", "call"}  # whose time is that of what they hold
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.-]+) = .*?[\]})] ([a-z][\w-]*)\(")
_CALLS = re.compile(r"(?:calls|to_apply)=%([\w.-]+)")


def kinds_of(hlo: str) -> dict[str, str]:
    """The kind of each instruction by its name."""
    inside, calls = collections.defaultdict(set), {}
    computation = ""
    for line in hlo.splitlines():
        if found := _COMPUTATION.match(line):
            computation = found[1]
        elif found := _INSTRUCTION.match(line):
            name, operation = found.groups()
            inside[computation].add(operation)
            called = _CALLS.search(line) if operation == "fusion" else None
            if operation not in CONTAINERS:
                calls[name] = operation, called[1] if called else ""
    kinds = {}
    for name, (operation, called) in calls.items():
        operations = inside[called] if called else {operation}
        kinds[name] = next((k for k, of in KINDS.items() if of & operations), REST)
    return kinds


def spent(scorer, given) -> collections.Counter:
    """Milliseconds of each kind in one call; threads that work side by side count once each."""
    kinds, total = kinds_of(scorer.as_text()), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(scorer(*given))
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        for plane in ProfileData.from_file(path).planes:
            for line in plane.lines:
                for event in line.events:
                    if event.name in kinds:
                        total[kinds[event.name]] += event.duration_ns / 1e6
    return total


def profiled(name: str, size, genotype, batch: int, product_rate: float) -> dict:
    """Shares of a setting, by kind."""
    arguments = {"image_size": size[0], "patch_size": size[1]} if size else {}
    space = lswag_jax.spaces.get(name, num_classes=100, **arguments)
    genotype = genotype or space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|"
        "nor_conv_3x3~2|"
    )
    images = np.random.default_rng(0).normal(size=(batch, *space.image_shape)).astype("float32")
    labels, key = np.arange(batch) % 100, jax.random.key(0)
    given = (jax.jit(space.init)(key), space.encode([genotype]), images, labels, key)
    with jax.default_matmul_precision("highest"):
        scorer = jax.jit(lswag_jax.make_scorer(space, "lswag")).lower(*given).compile()
    jax.block_until_ready(scorer(*given))
    seconds = min(speed_vit.seconds(lambda: scorer(*given)) for _ in range(5))
    total = spent(scorer, given)
    shares = {kind: 100 * total[kind] / total.total() for kind in (*KINDS, REST)}
    # Forward, cotangents and gradients: three products of 2 operations each.
    rate = 6 * batch * space.macs(genotype) / seconds
    return {"seconds": seconds, **shares, "of the product rate": 100 * rate / product_rate}


def main() -> None:
    """Shows a row for each kind of work, in percent."""
    rate = speed_vit.matmul_rate()
    found = {name: profiled(*setting, rate) for name, setting in SETTINGS.items()}
    rows = [
        {"share, %": kind} | {name: of[kind] for name, of in found.items()}
        for kind in (*KINDS, REST)
    ]
    tables.show("shares", rows, 0)
    figures = ("seconds", "of the product rate")
    rows = [{"": figure} | {name: of[figure] for name, of in found.items()} for figure in figures]
    tables.show("rates", rows, 2)


if __name__ == "__main__":
    main()
