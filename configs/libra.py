"""LIBRA on NAS-Bench-201 with the scores that NAS-Bench-Suite-Zero published.

    python -m lswag_jax.cli.libra --config=configs/libra.py --workdir=results/libra \
        --config.libra.truth=nbsz_json:zc_nasbench201.json --config.libra.dataset=ImageNet16-120

chooses {synflow, jacov, l2_norm} in seconds: rho 0.870 in-sample, 0.874 +- 0.013 on the other half.
Where the file is from: docs/benchmarks.md. The selection that it writes is searched by with

    python -m lswag_jax.cli.search --config=configs/nasbench201.py \
        --config.search.strategy=evolution --config.search.fitness=results/libra/selection.json

Other benchmarks stand behind the name: `configs/libra.py:nasbench101` and the others of
docs/benchmarks.md. `:recommended` cuts scores into few bins that hold equally many; `:runlocal`
takes the toy benchmark that comes with the package: 48 cells trained on Fashion-MNIST.
"""

import pathlib

import lswag_jax
from lswag_jax.analysis.libra import PRESETS
from lswag_jax.cli.default_config import benchmark_config

TOY = pathlib.Path(lswag_jax.__file__).parent / "assets" / "toy_nasbench201.csv.gz"
# What NAS-Bench-Suite-Zero published. Its flops are our macs; the others have the same names.
SUITE_ZERO = "epe_nas,fisher,macs=flops,grad_norm,grasp,jacov,l2_norm,params,plain,snip,synflow"
TRANSNAS = "fisher,macs=flops,grad_norm,grasp,jacov,l2_norm,params,plain,snip"  # of every task


def get_config(variant=""):
    config = benchmark_config(variant, *PRESETS, "runlocal")
    if config.space.name in ("nasbench201", "nasbench101", "darts"):
        config.libra.update({"dataset": "cifar10", "proxies": SUITE_ZERO})
    elif config.space.name.startswith("transnas"):
        config.libra.proxies = TRANSNAS
    if variant in PRESETS:
        config.libra.options.update(vars(PRESETS[variant]))
    if variant == "runlocal":
        config.space.update({"image_size": 16, "channels": 1, "width": 4, "cells": 1})
        config.libra.update({"truth": str(TOY), "dataset": "", "proxies": ""})
        config.libra.metric = "test_accuracy"
        config.libra.options.window = 0.2  # one proxy leads by more than the published 0.1
    return config
