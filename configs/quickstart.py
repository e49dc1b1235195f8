"""Search AutoFormer-Tiny on embedded Fashion-MNIST images: the first thing to run.

    python -m lswag_jax.cli.search --config=configs/quickstart.py --workdir=results/quickstart

2 CPU cores: 74 seconds for 36 networks, 20 of them compiling; the best has 6.5 M
parameters. `configs/quickstart.py:runlocal` takes half a minute, most of it compiling.
"""

from lswag_jax.cli.default_config import check_variant, default_config, shrink


def get_config(variant=""):
    check_variant(variant, "runlocal")
    config = default_config(
        "autoformer_tiny",
        image_size=28,  # pixels, Fashion-MNIST's own
        patch_size=4,  # pixels: 7 x 7 patch tokens
        channels=1,
        num_classes=10,
    )
    config.data.batch_size = 32  # images that draw activation patterns
    config.data.gradient_batch = 16  # of these, images whose gradients are taken
    config.search.epochs = 2  # generations
    config.search.population = 12  # genotypes a generation
    config.search.select = 4  # parents
    config.search.crossover = 6  # children of two parents a generation
    config.search.mutation = 6  # mutants a generation
    config.search.params_window = (4.0, 7.0)  # millions of parameters
    config.profile.num = 20  # random networks
    return shrink(config) if variant == "runlocal" else config
