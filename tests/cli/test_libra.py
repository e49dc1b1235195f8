"""The binary lswag-libra: its files, and one sentence for a bad table."""

import csv
import json

import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.analysis.libra import gather
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.cli import libra
from lswag_jax.cli.default_config import default_config
from lswag_jax.scoring.fitness import Fitness
from tests.helpers.binaries import run

SPACE = spaces.get("nasbench201")


def records(num=60, **changes):
    """Columns of a made-up benchmark; a change of None takes one away."""
    rng = np.random.default_rng(0)
    texts = [SPACE.format(g) for g in SPACE.sample(rng, 3 * num)]
    texts = list(dict.fromkeys(texts))[:num]
    accuracy = rng.normal(size=num)
    columns = {"val_accuracy": 90 + accuracy, "swap": accuracy + rng.normal(size=num)}
    columns |= {"nwot": accuracy + rng.normal(size=num), "flops": rng.normal(size=num)}
    columns = {key: v for key, v in (columns | changes).items() if v is not None}
    return [Records("cifar10", metric, texts, values, "test") for metric, values in columns.items()]


@pytest.fixture
def config(tmp_path):
    config = default_config("nasbench201")
    config.libra.truth = str(tmp_path / "table.csv.gz")
    return config


def save(config, **changes):
    GroundTruth.from_records(records(**changes)).write(config.libra.truth)


def test_files(config, tmp_path):
    save(config)
    config.libra.proxies = "swap,nwot,macs=flops,params"
    config.libra.options.n_bins = "5"
    config.plots.format = "png,pdf"
    libra.main(config, str(tmp_path / "out"))
    selection = json.loads((tmp_path / "out" / "selection.json").read_text())
    fitness = Fitness.load(tmp_path / "out" / "selection.json")
    assert set(fitness.proxies) <= {"swap", "nwot", "macs", "params"}
    assert selection["options"]["n_bins"] == 5
    assert selection["benchmark"]["dataset"] == "cifar10"
    with open(tmp_path / "out" / "report.csv") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"LIBRA", "best proxy"}
    assert rows["LIBRA"]["proxies"] == "+".join(fitness.proxies)
    seeds = [float(rho) for rho in rows["LIBRA"]["split_half_seeds"].split()]
    assert len(seeds) == 5
    assert float(rows["LIBRA"]["split_half"]) == pytest.approx(np.mean(seeds), abs=1e-4)
    with open(tmp_path / "out" / "candidates.csv") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names == ["macs", "nwot", "params", "swap"]
    assert (tmp_path / "out" / "candidates.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "candidates.pdf").read_bytes().startswith(b"%PDF")


def test_scores_of_ones_own_are_joined(config, tmp_path):
    """Rows of lswag-score in another order, with fewer architectures than the benchmark."""
    save(config)
    accuracy, texts = records()[0].values, records()[0].genotypes
    path = tmp_path / "scores.csv"
    with open(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "params", "macs", "status", "zico", "zico_status"])
        for i in range(49, -1, -1):
            status = "nan" if i == 7 else "ok"
            writer.writerow([texts[i], i + 1, i + 2, status, accuracy[i], status])
    config.libra.update({"scores": str(path), "proxies": "zico,swap,params"})
    libra.main(config, str(tmp_path / "out"))
    content = json.loads((tmp_path / "out" / "selection.json").read_text())
    assert content["fitness"]["proxies"][0] == "zico"
    assert content["n"] == 50


def mistakes():
    return {
        "no table": ({}, {"truth": ""}, "give a table of accuracies"),
        "missing table": ({}, {"truth": "no.csv"}, "there is no table no.csv"),
        "unknown kind": ({}, {"truth": "nbsz:t.csv"}, "unknown kind of table 'nbsz'"),
        "another kind": ({}, {"truth": "nbsz_csv:{}"}, "has no column 'arch'"),
        "unknown benchmark": ({}, {"dataset": "svhn"}, "no data set 'svhn', it has cifar10"),
        "no accuracies": ({"val_accuracy": None}, {}, "no 'val_accuracy' on cifar10, it has swap"),
        "no such proxy": ({}, {"proxies": "swap,zico"}, "no 'zico' on cifar10"),
        "twice": ({}, {"proxies": "swap,nwot,swap"}, "libra.proxies names swap twice"),
        "never measured": ({"nwot": np.full(60, np.nan)}, {"proxies": "swap,nwot"}, "no 'nwot' on"),
        "all failed": ({"nwot": np.full(60, -1e8)}, {}, "'nwot' has no value for any architecture"),
        "none in common": (
            {
                "nwot": np.where(np.arange(60) < 30, 1.0, np.nan),
                "swap": np.where(np.arange(60) < 30, np.nan, 1.0),
            },
            {},
            "no architecture has all of",
        ),
        "constant": ({"val_accuracy": np.full(60, 90.0)}, {}, "all 60 accuracies are 90"),
        "one architecture": ({"num": 1}, {}, "at least 2 architectures, got 1"),
        "half constant": (
            {"val_accuracy": np.arange(60) == 7},
            {},
            "accuracies of a half .* are 0",
        ),
        "named twice": ({}, {"proxies": "swap,nwot,swap=flops"}, "libra.proxies names swap twice"),
        "no name": ({}, {"proxies": "=swap"}, "libra.proxies has '=swap' without a name"),
        "two names": ({}, {"proxies": "swap,macs=swap"}, "'swap' and 'macs' are both 'swap'"),
        "bad option": ({}, {"options": {"bins": "wide"}}, "bins must be one of"),
        "bad bins": ({}, {"options": {"n_bins": "many"}}, "n_bins must be one of"),
        "no seeds": ({}, {"seeds": 0}, "seeds of evaluate must be an integer from 1 to"),
    }


@pytest.mark.parametrize("name", mistakes())
def test_a_mistake_is_one_sentence_and_writes_nothing(name, config, tmp_path):
    changes, settings, message = mistakes()[name]
    save(config, **changes)
    path = config.libra.truth
    config.libra.update(settings)
    config.libra.truth = config.libra.truth.replace("{}", path)
    with pytest.raises((ValueError, OSError), match=message) as error:
        libra.main(config, str(tmp_path / "out"))
    assert len(str(error.value).strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_proxy_without_a_value_is_named():
    table = GroundTruth.from_records(records(nwot=np.full(60, np.nan)))
    with pytest.raises(ValueError, match="no value of 'nwot' on cifar10"):
        gather(table, "cifar10", "val_accuracy")


def test_exit_code(config, tmp_path):
    save(config, val_accuracy=np.full(60, 90.0))
    arguments = ("--config=configs/libra.py", f"--config.libra.truth={config.libra.truth}")
    more = ("--config.libra.proxies=swap", f"--workdir={tmp_path}/out")
    result = run("libra", *arguments, *more, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stderr.strip().splitlines()[-1] == (
        "error: all 60 accuracies are 90: nothing to rank by."
    )
    assert not (tmp_path / "out").exists()


def test_runlocal(tmp_path):
    run("libra", "--config=configs/libra.py:runlocal", f"--workdir={tmp_path}")
    assert len(Fitness.load(tmp_path / "selection.json").proxies) > 1
