"""Every proxy on the networks of ViT-Bench-101, on images of your own.

    python -m lswag_jax.cli.score --config=configs/vitbench.py --workdir=results/vitbench \
        --config.score.genotypes=genotypes.json --config.data.source=cifar100.npz

genotypes.json lists the benchmark's networks (docs/benchmarks.md). With 32 images at 96 px in place
of the benchmark's 224, whose networks cost five times as much. `configs/vitbench.py:runlocal` takes
a minute on embedded images.
"""

from lswag_jax.cli.default_config import default_config, shrink


def get_config(variant=""):
    config = default_config(
        "vitbench_autoformer",
        image_size=96,  # pixels, in patches of 16
        num_classes=100,  # CIFAR-100
    )
    config.data.source = "tfds:cifar100"
    config.data.batch_size = 32  # images; all of them make the activation patterns
    config.data.gradient_batch = 16  # of these, images whose gradients are taken
    config.proxies = "all"  # those that are for CNNs alone are not_applicable
    if variant == "runlocal":
        config.data.source = "embedded"
        config.proxies = "lswag,zico,nwot,params"
        shrink(config, image_size=32, patch_size=16)
    return config
