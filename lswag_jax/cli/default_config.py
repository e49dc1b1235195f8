"""The keys that every binary's config has, with their defaults.

A config file (see `configs/`) changes some of them; the command line overrides single ones, as in
`--config.data.batch_size=32`. Unknown keys are refused, and what a file lacks is as here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lswag_jax import proxies, spaces
from lswag_jax.analysis.libra import LibraOptions

# For each benchmark: its space, and the accuracy that proxies are ranked by.
BENCHMARKS = {
    "nasbench201": ("nasbench201", "val_accuracy"),
    "nasbench101": ("nasbench101", "val_accuracy"),
    "nasbench301": ("darts", "val_accuracy"),
    "transnas_micro": ("transnas_micro", "val_accuracy"),
    "transnas_macro": ("transnas_macro", "val_accuracy"),
    "vitbench": ("vitbench_autoformer", "kd_acc"),
    "autoformer_tiny": ("autoformer_tiny", "top1_inherited"),
    "autoformer_small": ("autoformer_small", "top1_inherited"),
}


def default_config(space: str = "autoformer_tiny", **space_arguments) -> ConfigDict:
    """The default config for a search space.

    Args:
        space: name of the space, see `lswag_jax.spaces.get`.
        **space_arguments: arguments of the space, such as `image_size` (pixels) or `num_classes`.
    """
    config = ConfigDict()
    config.seed = 0  # of genotypes, batch and initial weights
    config.space = space_config(space, **space_arguments)
    config.data = {
        # embedded, tfds:NAME, an .npz file, a folder of class folders, or module:NAME of your own
        "source": "embedded",
        "split": "train",
        "batch_size": 64,  # images; all of them make the activation patterns
        "gradient_batch": 64,  # of these, images whose gradients are taken
        "balanced": True,  # the same number of images of each class
        "normalize": "dataset",  # dataset, unit ([0, 1]) or symmetric ([-1, 1])
        "label_key": "label",  # of an .npz file or TFDS data set
        "data_dir": "",  # of TFDS; empty for its default
        "download": False,  # let TFDS prepare the data set (needs the extra [tf])
        "synthetic_targets": False,  # random ones for a task whose labels the data set lacks
    }
    # Computed for every genotype; also the groups all, gradient_based, gradient_free, data_free,
    # latency and memory, measured on this device, and module:NAME of your own.
    config.proxies = "lswag,zico,swap,nwot,params,macs"
    config.window = "all"  # of lswag: all, "first,last" bin 0-9, or a window.json of lswag-profile
    config.options = {name: _options(name) for name in proxies.CLASSES}
    config.score = {
        "num": 64,  # random genotypes, where none are given
        "genotypes": "",  # a file of genotypes instead: a JSON list, JSON lines or a best.json
        "fitness": "",  # rank by proxies merged by rank, universal, or a selection.json
        "repeats": 1,  # initialisations; scores are averaged
        "chunk": 0,  # genotypes evaluated at once; 0 is 1 on a CPU and 8 elsewhere
        "precision": "highest",  # of matrix products
        "batch_norm": "frozen",  # or eval, batch1_train, through: docs/spaces.md
    }
    config.search = _search()
    config.correlate = _correlate()
    config.libra = _libra()
    config.plots = {"format": "png"}  # png, pdf, svg, or several of them, as in "png,pdf"
    config.profile = {
        "num": 100,  # random genotypes
        "statistic": "mean_log_sigma",  # of a layer, see lswag_jax.analysis.layer_profile
        "picker": "runs",  # or hull, or steep
        "tau": 1.0,  # robust z above which a bin is a peak
    }
    return config


def benchmark_config(variant: str, *others: str) -> ConfigDict:
    """The default config for a benchmark's tables: `lswag-correlate` and `lswag-libra`.

    Args:
        variant: a benchmark; none for the first.
        *others: variants of the config that are of the first benchmark too.

    Raises:
        ValueError: an unknown benchmark.
    """
    space, metric = chosen(variant, BENCHMARKS, *others)
    config = default_config(space)
    config.correlate.metric = config.libra.metric = metric
    return config


def chosen(variant: str, choices: Mapping[str, Any], *others: str) -> Any:
    """The choice that a config's variant names; the first for none and for the other variants.

    Raises:
        ValueError: another name.
    """
    check_variant(variant, *choices, *others)
    return choices.get(variant, next(iter(choices.values())))


def check_variant(variant: str, *known: str) -> None:
    """Raise ValueError unless a config has this variant; none is always there."""
    if variant and variant not in known:
        raise ValueError(f"unknown variant {variant!r}, known are {', '.join(known)}.")


def space_config(space: str, **space_arguments) -> dict:
    """Name and arguments of a space; choices are empty for the space's own."""
    own = spaces.arguments(space).items()
    own = {key: () if isinstance(value, tuple) else value for key, value in own}
    if "num_classes" in own:
        own["num_classes"] = own["num_classes"] or 0  # 0 for the task's own
    own = {key: value for key, value in own.items() if isinstance(value, bool | int | str | tuple)}
    return {"name": space} | own | space_arguments


def _search() -> dict:
    """Keys of `lswag-search`."""
    return {
        "strategy": "evolution",  # or random, or pruning
        "fitness": "lswag",  # proxies searched by, merged by rank; universal, or a selection.json
        # In place of the fitness two or more objectives, as lswag,latency: those of params, macs,
        # latency and memory are minimised and others maximised, where no sign (-zen, +macs) says.
        "objectives": "",
        "merge_rule": "log_rank_sum",  # of named proxies, see lswag_jax.proxies.merge
        "params_window": (0.0, float("inf")),  # allowed parameters, in millions
        "macs_window": (0.0, float("inf")),  # allowed multiply-accumulates, in millions
        "latency_window": (0.0, float("inf")),  # allowed latency, in milliseconds, if set measured
        "memory_window": (0.0, float("inf")),  # allowed memory, in millions of bytes, the same
        "num": 1000,  # genotypes of a random search
        "epochs": 20,  # generations of evolution
        "population": 50,  # genotypes a generation
        "select": 10,  # parents: the best ones of all so far
        "crossover": 25,  # children of two parents a generation
        "mutation": 25,  # mutants a generation
        "m_prob": 0.2,  # probabilities of mutation, whose meaning is the space's (its `mutate`):
        "s_prob": 0.4,  # of AutoFormer, of redrawing one block's genes, and the depth and width
        "merge_last": True,  # evaluate the last generation's children too
        "prune_number": 1,  # operations that pruning removes from each edge in a round
        "decimals": -1,  # that relative losses of pruning are rounded to; -1 keeps all, TE-NAS 3
        # Folder of a super-network of lswag-train, whose sub-networks' accuracies on its own
        # validation images, held out of the training set, become the proxy inherited_accuracy.
        "supernet": "",
        "hold_out": 0.1,  # share of data.split that was held out when it was trained
        "truth": "",  # table:data set:metric, to look up what was found (see lswag_jax.cli.search)
    }


def _correlate() -> dict:
    """Keys of `lswag-correlate`."""
    return {
        "truth": "",  # a table, or KIND:file of a benchmark (docs/benchmarks.md); empty: the scores
        "scores": "",  # [data set=]workdir of lswag-score or KIND:file, ...; empty: the table's own
        "metric": "val_accuracy",  # of the table that is the truth
        "datasets": "",  # of the table; empty for all that have the metric
        "proxies": "",  # empty for all but accuracies
        "params": "params",  # metric of parameter counts, which the space gives where it is missing
        "reference": "params",  # proxy that the others are compared with; empty for none
        "nan_policy": "worst_rank",  # of failures; or fill (-1e8), drop
        "resamples": 1000,  # of the bootstrap; 0 for no intervals
        "level": 0.95,  # of the intervals
    }


def _libra() -> dict:
    """Keys of `lswag-libra`."""
    return {
        "truth": "",  # a table, or KIND:file of a benchmark (docs/benchmarks.md)
        "scores": "",  # workdir of lswag-score, joined by genotype; empty: the table's own
        "metric": "val_accuracy",  # of the table that is to be ranked
        "dataset": "",  # of the table; empty for its first
        "proxies": "",  # candidates, NAME or NAME=METRIC; empty for all that are no accuracies
        "seeds": 5,  # random halvings
        "options": dataclasses.asdict(LibraOptions()),  # see lswag_jax.analysis.libra.LibraOptions
    }


def _options(name: str) -> dict:
    """A proxy's options and their defaults; the window has a separate key."""
    fields = dataclasses.fields(proxies.VARIANTS.get(name, proxies.CLASSES[name]))
    return {f.name: f.default for f in fields if f.name not in ("label", "window")}


def shrink(config: ConfigDict, **space_arguments) -> ConfigDict:
    """Makes a run take seconds on a laptop: small images, few of them, few genotypes.

    Args:
        config: is changed.
        **space_arguments: of a small version of the space; 28 px in patches of 14 if none.
    """
    config.space.update(space_arguments or {"image_size": 28, "patch_size": 14})
    config.data.batch_size = config.data.gradient_batch = 8
    config.score.num = 3
    config.search.update({"num": 8, "epochs": 2, "population": 4, "select": 2})
    config.search.update({"crossover": 2, "mutation": 2})
    config.search.update({"params_window": (0.0, float("inf"))})
    config.profile.num = 3
    return config
