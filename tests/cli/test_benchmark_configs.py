"""Every benchmark has a config for its networks and one for its tables."""

import re
import runpy

import numpy as np
import pytest

from lswag_jax import tasks
from lswag_jax.cli import correlate, libra, loading
from lswag_jax.cli.default_config import BENCHMARKS
from tests.helpers import ROOT

NETWORKS = [
    *(("nasbench201", variant) for variant in ("", "cifar100", "imagenet16", "runlocal")),
    *(("vitbench", variant) for variant in ("", "flowers", "chaoyang", "runlocal")),
    *(("transnas", variant) for variant in ("micro", "macro", "runlocal", "runlocal_macro")),
    *((name, v) for name in ("nasbench101", "darts") for v in ("", "runlocal")),
    *(("autoformer", variant) for variant in ("tiny", "small", "base", "runlocal")),
]
# Kind and name of a file of each benchmark, and how many architectures it has.
TABLES = {
    "nasbench201": ("nbsz_csv", "nbsz_early725_nasbench201.csv.gz"),
    "nasbench101": ("nbsz_csv", "nbsz_first500_nasbench101.csv.gz"),
    "nasbench301": ("nbsz_csv", "nbsz_first500_nasbench301.csv.gz"),
    "transnas_micro": ("nbsz_csv", "nbsz_early725_transbench101_micro.csv.gz"),
    "transnas_macro": ("nbsz_csv", "nbsz_early725_transbench101_macro.csv.gz"),
    "vitbench": ("vitbench_csv", "vitbench101_autoformer.csv"),
    "autoformer_tiny": ("autoformer_csv", "autoformer_supernet_imagenet.csv"),
    "autoformer_small": ("autoformer_csv", "autoformer_supernet_imagenet.csv"),
}


def get_config(name, variant):
    return runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](variant)


@pytest.mark.parametrize(("name", "variant"), NETWORKS)
def test_networks(name, variant):
    config = get_config(name, variant)
    space = loading.load_space(config)
    loading.load_proxies(config)
    loading.score_options(config)
    g = space.sample(np.random.default_rng(0), 1)[0]
    assert space.num_params(g) > 0
    assert config.data.gradient_batch <= config.data.batch_size
    assert variant.startswith("runlocal") == (config.data.source == "embedded")


@pytest.mark.parametrize("task", tasks.names())
@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_tasks(kind, task):
    config = get_config("transnas", kind)
    config.space.task = task
    assert loading.load_space(config).task.name == task


@pytest.mark.parametrize("name", BENCHMARKS)
def test_tables(name, shared_data, tmp_path):
    """Correlation and LIBRA of each benchmark's published values, of every data set."""
    kind, file = TABLES[name]
    config = get_config("correlate", name)
    config.correlate.truth = f"{kind}:{shared_data / 'tables' / file}"
    config.correlate.resamples = 0
    correlate.main(config, str(tmp_path / "correlate"))
    assert (tmp_path / "correlate" / "heat_map.png").stat().st_size > 1000
    config = get_config("libra", name)
    config.libra.truth = f"{kind}:{shared_data / 'tables' / file}"
    config.libra.seeds = 1
    if kind != "nbsz_csv":
        config.libra.proxies = "params"  # others published no proxy
        config.libra.dataset = ""
    libra.main(config, str(tmp_path / "libra"))
    assert (tmp_path / "libra" / "selection.json").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_unknown_variant(path):
    """A mistyped variant does not start the full run."""
    with pytest.raises(ValueError, match=r"variant 'runlocl', known are .*runlocal") as error:
        get_config(path.stem, "runlocl")
    assert "\n" not in str(error.value)


def test_the_page_lists_them():
    page = (ROOT / "docs" / "benchmarks.md").read_text().partition("## Configs")[2]
    for name, variant in NETWORKS:
        assert f"{name}.py" in page
        assert variant.startswith("runlocal") or f":{variant}" in page or not variant
    named = set(re.findall(r"`(?:\w+\.py)?:(\w+)`", page))
    assert set(BENCHMARKS) - named == {"nasbench201"}, "the default"
