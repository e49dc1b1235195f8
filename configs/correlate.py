"""Published proxies of a benchmark against its accuracies, or scores of your own.

    python -m lswag_jax.cli.correlate --config=configs/correlate.py --workdir=results/correlate \
        --config.correlate.truth=nbsz_json:zc_nasbench201.json

NAS-Bench-201, or behind the name another benchmark: `configs/correlate.py:nasbench101` and the
others of docs/benchmarks.md, which says where tables are from. `configs/correlate.py:runlocal`
needs none: it asks how much the scores of a run of `configs/quickstart.py` go with the number of
parameters, and with nothing trained.

    python -m lswag_jax.cli.score --config=configs/quickstart.py:runlocal --workdir=results/score
    python -m lswag_jax.cli.correlate --config=configs/correlate.py:runlocal \
        --config.correlate.scores=results/score --workdir=results/correlate
"""

from lswag_jax.cli.default_config import benchmark_config, default_config, shrink


def get_config(variant=""):
    if variant != "runlocal":
        return benchmark_config(variant, "runlocal")
    config = shrink(default_config("autoformer_tiny", channels=1, num_classes=10))
    config.correlate.metric = "params"
    config.correlate.params = config.correlate.reference = ""
    config.correlate.resamples = 100
    return config
