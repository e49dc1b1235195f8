"""TE-NAS's pruning search on NAS-Bench-201: a thin super-network, on images of your own.

    python -m lswag_jax.cli.search --config=configs/pruning.py --workdir=results/pruning \
        --config.data.source=cifar10.npz

By L-SWAG instead: --config.search.fitness=lswag --config.search.decimals=-1; by a triple of LIBRA:
--config.search.fitness=selection.json. DARTS: configs/pruning.py:darts, which compiles for minutes.
`configs/pruning.py:runlocal` takes a minute on embedded images.
"""

from lswag_jax.cli.default_config import check_variant, default_config, shrink


def get_config(variant=""):
    check_variant(variant, "darts", "runlocal")
    if variant == "darts":
        config = default_config("darts", layers=3, width=1, image_size=32, num_classes=10)
        config.search.prune_number = 3
        config.data.batch_size = config.data.gradient_batch = 14
    else:
        config = default_config("nasbench201", width=3, cells=1, image_size=32, num_classes=10)
        config.data.batch_size = config.data.gradient_batch = 72
    config.data.source = "tfds:cifar10"
    config.data.balanced = False
    config.proxies = "ntk,linear_regions"
    config.score.repeats = 3
    config.search.strategy = "pruning"
    config.search.fitness = config.proxies
    config.search.merge_rule = "dense_rank_sum"
    config.search.decimals = 3  # of relative losses
    if variant == "runlocal":
        config.data.source = "embedded"
        shrink(config, image_size=8, channels=1)
        config.score.repeats = 1
    return config
