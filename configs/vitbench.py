"""Every proxy on the networks of ViT-Bench-101, on images of your own.

    python -m lswag_jax.cli.score --config=configs/vitbench.py --workdir=results/vitbench \
        --config.score.genotypes=genotypes.json --config.data.source=cifar100.npz

CIFAR-100, or another of its data sets: `configs/vitbench.py:flowers` and `:chaoyang`.
genotypes.json lists the benchmark's networks (docs/benchmarks.md). With 32 images at 96 px in place
of the benchmark's 224, whose networks cost five times as much. `configs/vitbench.py:runlocal` takes
a minute on embedded images.
"""

from lswag_jax.cli.default_config import chosen, default_config, shrink

# Classes and source of each data set; the first is the default.
DATASETS = {
    "cifar100": (100, "tfds:cifar100"),
    "flowers": (102, "tfds:oxford_flowers102"),
    "chaoyang": (4, "chaoyang"),  # a folder of class folders
}


def get_config(variant=""):
    classes, source = chosen(variant, DATASETS, "runlocal")
    config = default_config(
        "vitbench_autoformer",
        image_size=96,  # pixels, in patches of 16
        num_classes=classes,
    )
    config.data.source = source
    config.data.batch_size = 32  # images; all of them make the activation patterns
    config.data.gradient_batch = 16  # of these, images whose gradients are taken
    config.proxies = "all"  # those that are for CNNs alone are not_applicable
    if variant == "runlocal":
        config.data.source = "embedded"
        config.proxies = "lswag,zico,nwot,params"
        shrink(config, image_size=32, patch_size=16)
    return config
