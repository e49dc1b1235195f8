"""The binaries: results, resuming, and one sentence with exit code 2 for a user's mistake."""

import csv
import json
import pathlib

import numpy as np
import pytest
from scipy.stats import rankdata

from lswag_jax import spaces
from lswag_jax.analysis import window
from tests.helpers.binaries import run

SMALL = "configs/quickstart.py:runlocal"


@pytest.fixture(scope="module")
def tiny_config(tmp_path_factory):
    """A config of tiny networks."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(
        "from lswag_jax.cli.default_config import default_config, shrink\n\n\n"
        "def get_config():\n"
        "    config = shrink(default_config('autoformer_tiny', channels=1, num_classes=10))\n"
        "    config.space.update({'embed_dims': (12, 24), 'head_counts': (1, 2)})\n"
        "    config.space.update({'depths': (1, 2), 'head_dim': 8, 'relative_position': False})\n"
        "    config.proxies = 'lswag,nwot,params'\n"
        "    return config\n"
    )
    return path


@pytest.mark.parametrize("binary", ["score", "profile", "search", "correlate", "libra"])
def test_help(binary):
    result = run(binary, "--help")
    assert "--config" in result.stdout
    assert "--workdir" in result.stdout
    assert "--config=configs/" in result.stdout


def test_profile_score_search(tiny_config, tmp_path):
    """The binaries in the order of a user's work; the window of the first enters the others."""
    config = f"--config={tiny_config}"
    run("profile", config, f"--workdir={tmp_path}/profile", "--config.profile.num=4")
    picked = tmp_path / "profile" / "window.json"
    window.load(picked)
    assert (tmp_path / "profile" / "profile.png").stat().st_size > 10_000
    arguments = (config, f"--config.window={picked}", f"--workdir={tmp_path}/score")
    run("score", *arguments, "--config.score.num=5")
    with open(tmp_path / "score" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["lswag_status"] for row in rows} == {"ok"}
    # The same genotypes from a file, half of them scored before.
    genotypes = tmp_path / "genotypes.json"
    genotypes.write_text(json.dumps([json.loads(row["genotype"]) for row in rows]))
    archive = tmp_path / "score" / "archive.jsonl"
    kept = archive.read_text().splitlines(keepends=True)
    archive.write_text("".join(kept[:2]) + kept[2][:40])
    run("score", *arguments, "--config.score.num=5")
    strip = lambda line: {k: v for k, v in json.loads(line).items() if k != "seconds"}  # noqa: E731
    assert list(map(strip, archive.read_text().splitlines())) == list(map(strip, kept))
    selection = tmp_path / "selection.json"
    selection.write_text('{"fitness": {"proxies": ["nwot", "l2_norm"], "rule": "rank_sum"}}')
    by = f"--config.score.fitness={selection}"
    few = (config, "--config.proxies=nwot,l2_norm")  # compile quickly
    run("score", *few, f"--config.score.genotypes={genotypes}", f"--workdir={tmp_path}/file", by)
    with open(tmp_path / "file" / "ranking.csv") as file:
        ranked = list(csv.DictReader(file))
    both = np.array([[float(row[name]) for row in ranked] for name in ("nwot", "l2_norm")])
    fitness = [float(row["fitness"]) for row in ranked]
    np.testing.assert_array_equal(fitness, rankdata(both, axis=1).sum(0))
    search = (*few, f"--config.window={picked}", f"--workdir={tmp_path}/search")
    search += (f"--config.search.fitness={selection}",)
    result = run("search", *search, "--config.search.params_window=(0.0, 0.02)")
    best = json.loads((tmp_path / "search" / "best.json").read_text())
    assert best["params"] <= 20_000
    assert "seconds: data" in result.stderr
    for name in ("ranking.parquet", "best_so_far.png", "score_against_params.png"):
        assert (tmp_path / "search" / name).stat().st_size > 1000
    with open(tmp_path / "search" / "ranking.csv") as file:
        ranking = list(csv.DictReader(file))
    assert len(ranking) == 12
    assert ranking[0]["id"] == best["id"]
    refused = run("search", *search, "--config.seed=1", check=False)
    assert refused.returncode == 2
    assert "seed" in refused.stderr
    # The same file with another content is another search.
    selection.write_text('{"fitness": {"proxies": ["nwot", "l2_norm"]}}')
    refused = run("search", *search, "--config.search.params_window=(0.0, 0.02)", check=False)
    assert "differs in search.fitness.rule" in refused.stderr


def test_interrupted(tmp_path):
    """Ctrl-C ends a run without a traceback, and says how to resume."""
    path = tmp_path / "interrupted.py"
    path.write_text("def get_config():\n    raise KeyboardInterrupt\n")
    result = run("score", f"--workdir={tmp_path}/out", f"--config={path}", check=False)
    assert result.returncode == 130
    assert result.stderr == f"interrupted: the same command resumes in {tmp_path}/out.\n"


def mistakes(tmp_path):
    """Arguments of a mistaken command line and what the sentence must say."""
    bad = tmp_path / "bad.json"
    bad.write_text('[{"embed_dim": 13, "num_heads": [3], "mlp_ratio": [4]}]')
    config = f"--config={SMALL}"
    return {
        "no config": ((), "give a config"),
        "missing config": (("--config=nowhere.py",), "nowhere.py"),
        "unknown key": ((config, "--config.sead=1"), "sead"),
        "key with a hint": (
            (config, "--config.search.nums=1"),
            "there is no --config.search.nums: search has num, ",
        ),
        "unknown variant": (
            ("--config=configs/vitbench.py:cifar",),
            "unknown variant 'cifar', known are cifar100, flowers, chaoyang, runlocal.",
        ),
        "a typo in the variant": (
            ("--config=configs/quickstart.py:runlocl",),
            "unknown variant 'runlocl', known are runlocal.",
        ),
        "config of another binary": (
            ("--config=configs/train_svhn.py:runlocal",),
            "train_svhn.py:runlocal is no config of lswag-score: give one such as configs/quick",
        ),
        "negative chunk": ((config, "--config.score.chunk=-1"), "score.chunk must be an int"),
        "precision": ((config, "--config.score.precision=foo"), "must be one of ('default', 'high"),
        "genotypes that are no text": (
            (config, "--config.score.genotypes=benchmarks/scores/nb101.csv.gz"),
            "nb101.csv.gz is no text: give a JSON list",
        ),
        "wrong type": ((config, "--config.seed=abc"), "abc"),
        "unknown flag": ((config, "--wrkdir=x"), "wrkdir"),
        "stray argument": ((config, "results"), "unknown argument 'results'"),
        "unknown space": ((config, "--config.space.name=vit"), "unknown search space 'vit'"),
        "unknown proxy": ((config, "--config.proxies=lswga"), "unknown proxy 'lswga'"),
        "unknown source": ((config, "--config.data.source=cats"), "unknown source 'cats'"),
        "bad fitness": ((config, "--config.score.fitness=no.json"), "no.json is not a readable"),
        "bad window": ((config, "--config.window=7,3"), "window must hold bins"),
        "bad option": ((config, "--config.options.lswag.ddof=-1"), "ddof of lswag must be"),
        "missing genotypes": ((config, "--config.score.genotypes=no.json"), "no genotype file"),
        "bad genotype": ((config, f"--config.score.genotypes={bad}"), "genotype 0 of"),
        "gradient batch": ((config, "--config.data.gradient_batch=99"), "gradient_batch must be"),
        "workdir is a file": ((config, f"--workdir={bad}"), "is a file, not a folder"),
        "labels of another task": (
            ("--config=configs/transnas.py:runlocal", "--config.space.task=normal"),
            "which normal cannot use",
        ),
        "bad shard": ((config, "--shard=3"), "a shard is written k/n, such as 0/8, got '3'."),
        "job without a flag": ((config, "--num_processes=2"), "must be given together"),
        "no job": ((config, "--distributed"), "no job of processes: coordinator_address"),
        "too few classes": ((config, "--config.space.num_classes=3"), "has 10 classes"),
    }


@pytest.mark.parametrize("name", mistakes(pathlib.Path("/tmp")))
def test_a_mistake_is_one_sentence(name, tmp_path):
    arguments, message = mistakes(tmp_path)[name]
    result = run("score", f"--workdir={tmp_path}/out", *arguments, check=False)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out" / "scores.csv").exists()


@pytest.mark.parametrize(
    "config",
    [
        "configs/nasbench201.py:runlocal",
        pytest.param("configs/transnas.py:runlocal_macro", marks=pytest.mark.slow),
        pytest.param("configs/nasbench101.py:runlocal", marks=pytest.mark.slow),
        pytest.param("configs/darts.py:runlocal", marks=pytest.mark.slow),
    ],
)
def test_convolutional_spaces(config, tmp_path):
    arguments = (f"--config={config}", f"--workdir={tmp_path}", "--config.score.num=2")
    run("score", *arguments, "--config.proxies=nwot,params")  # without gradients: half the time
    with open(tmp_path / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert {row["nwot_status"] for row in rows} <= {"ok", "inf", "degenerate"}


PRUNING = "--config=configs/pruning.py:runlocal"


@pytest.mark.parametrize(
    "proxies", ["params", pytest.param("ntk,linear_regions", marks=pytest.mark.slow)]
)
def test_pruning(proxies, tmp_path):
    """Super-networks in the archive, and an ordinary network as the result."""
    arguments = (f"--config.proxies={proxies}", f"--config.search.fitness={proxies}")
    result = run("search", PRUNING, f"--workdir={tmp_path}", *arguments)
    assert "search 58/58" in result.stderr
    assert len((tmp_path / "archive.jsonl").read_text().splitlines()) == 58
    best = json.loads((tmp_path / "best.json").read_text())
    space = spaces.get("nasbench201", width=4, cells=1)
    assert space.parse(best["id"]) == space.from_json(best["genotype"])
    if proxies == "params":  # what has no parameters is missed least
        assert set(best["genotype"]["ops"]) == {"nor_conv_3x3"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.search.params_window=(0.0, 1.0)", "search.params_window must not be set for"),
        ("--config.search.strategy=prune", "must be one of ('evolution', 'random', 'pruning')"),
        ("--config.search.prune_number=0", "prune_number must be an integer of at least 1"),
    ],
)
def test_mistakes_of_pruning(argument, message, tmp_path):
    result = run("search", PRUNING, argument, f"--workdir={tmp_path}/out", check=False)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr.strip().splitlines()[-1]
