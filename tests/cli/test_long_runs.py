"""Runs that are extended, looked at while unfinished, or left without a usable score."""

import csv
import json

import pytest

from lswag_jax import __version__
from tests.helpers.binaries import run
from tests.helpers.pages import Page


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config of tiny networks, of which there are 40."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(
        "from lswag_jax.cli.default_config import default_config, shrink\n\n\n"
        "def get_config():\n"
        "    config = shrink(default_config('autoformer_tiny', channels=1, num_classes=10))\n"
        "    config.space.update({'embed_dims': (12, 24), 'head_counts': (1, 2)})\n"
        "    config.space.update({'mlp_ratios': (2.0, 3.0), 'depths': (1, 2), 'head_dim': 8})\n"
        "    config.proxies = 'params,macs'\n"
        "    config.score.fitness = config.search.fitness = 'params'\n"
        "    return config\n"
    )
    return f"--config={path}"


def ids(workdir):
    return [json.loads(line)["id"] for line in (workdir / "archive.jsonl").read_text().splitlines()]


EXTENDED = {
    "score": ("score", "score.num=4", "score.num=9", 9),
    "random": ("search", "search.num=4 search.strategy=random", "search.num=9", 9),
    "evolution": ("search", "search.epochs=1", "search.epochs=3", 16),
}


@pytest.mark.parametrize(
    "name", ["score", "random", pytest.param("evolution", marks=pytest.mark.slow)]
)
def test_a_run_is_extended(name, config, tmp_path):
    """Its rows stay, and are those of a run that was as long at once."""
    binary, short, long, total = EXTENDED[name]
    flags = [f"--config.{key}" for key in short.split()]
    longer = [*flags, f"--config.{long}"]
    run(binary, config, *flags, f"--workdir={tmp_path}/run")
    before = ids(tmp_path / "run")
    run(binary, config, *longer, f"--workdir={tmp_path}/run", "--config.data.label_key=label")
    run(binary, config, *longer, f"--workdir={tmp_path}/whole")
    assert ids(tmp_path / "run")[: len(before)] == before
    assert ids(tmp_path / "run") == ids(tmp_path / "whole")
    assert len(ids(tmp_path / "run")) == total > len(before)
    assert json.loads((tmp_path / "run/config.json").read_text())["versions"] == {__version__: 0}
    shorter = run(binary, config, *flags, f"--workdir={tmp_path}/run", check=False)
    assert shorter.returncode == 2
    assert f"holds {total} rows, but this run has only" in shorter.stderr


def test_what_changes_results_is_refused_by_key_and_values(config, tmp_path):
    arguments = (config, f"--workdir={tmp_path}/run", "--config.search.strategy=random")
    run("search", *arguments, "--config.search.num=3")
    for flag, expected in (
        ("--config.seed=7", " seed (0 there, 7 here): give another workdir"),
        ("--config.data.batch_size=16", "data.batch_size (8 there, 16 here)"),
        ("--config.search.params_window=(0.0, 9.0)", "search.params_window"),
        ("--config.space.head_dim=4", "space.head_dim (8 there, 4 here)"),
    ):
        result = run("search", *arguments, "--config.search.num=3", flag, check=False)
        assert result.returncode == 2
        assert expected in result.stderr
        assert "sha256" not in result.stderr


def test_more_networks_than_there_are(config, tmp_path):
    result = run("score", config, "--config.score.num=99", f"--workdir={tmp_path}/score")
    assert "warning: 40 networks of autoformer_tiny could be drawn apart, fewer than the 99" in (
        result.stderr
    )
    assert len(ids(tmp_path / "score")) == 40
    flags = ("--config.search.strategy=random", "--config.search.num=99")
    result = run("search", config, *flags, f"--workdir={tmp_path}/search", check=False)
    assert result.returncode == 2
    assert "error: 40 networks of autoformer_tiny could be drawn apart" in result.stderr
    cells = ("--config=configs/transnas.py:runlocal", "--config.score.num=5000")
    cells += ("--config.space.modules=(4,)",)
    result = run("score", *cells, "--config.proxies=params", f"--workdir={tmp_path}/cells")
    assert "transnas_micro has 4,096 networks, fewer than the 5,000 asked for" in result.stderr
    assert len(set(ids(tmp_path / "cells"))) == 4096


@pytest.mark.parametrize("binary", ["score", pytest.param("search", marks=pytest.mark.slow)])
def test_a_ranking_without_a_usable_score(binary, config, tmp_path):
    """Exit code 2 and the reasons; the rows stay, and there is no best network."""
    by = (f"--config.{binary}.fitness=dss", "--config.proxies=params,dss")
    cells = "--config=configs/nasbench201.py:runlocal"
    (tmp_path / "best.json").write_text("{}")
    small = ("--config.score.num=2", "--config.search.strategy=random", "--config.search.num=2")
    result = run(binary, cells, *by, *small, f"--workdir={tmp_path}", check=False)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1] == (
        "error: none of the 2 networks has a usable score (dss 2 not_applicable)."
    )
    assert "status of dss: 2 not_applicable" in result.stderr
    assert len(ids(tmp_path)) == 2
    assert (tmp_path / "ranking.csv").is_file()
    assert not (tmp_path / "best.json").exists()


def test_report_of_a_space_that_ran_out(config, tmp_path):
    """A search that found no more networks has ended: none is to come."""
    space = ("--config.space.depths=(1,2)", "--config.space.embed_dims=(12,)")
    space += ("--config.space.head_counts=(1,)", "--config.search.epochs=2")
    told = run("search", config, *space, f"--workdir={tmp_path}")
    assert "6 networks, not 12: no more were found" in told.stderr
    assert "- 6 of 6 networks of autoformer_tiny\n" in run("report", str(tmp_path)).stdout


def test_report_of_an_unfinished_run(config, tmp_path):
    """Ranked as the run would; the archive and its config stay as they are."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run("search", config, "--config.search.epochs=2", f"--workdir={whole}")
    cut.mkdir()
    lines = (whole / "archive.jsonl").read_text().splitlines(keepends=True)
    (cut / "archive.jsonl").write_text("".join(lines[:5]) + lines[5][:30])
    (cut / "config.json").write_text((whole / "config.json").read_text())
    before = {path.name: path.read_bytes() for path in cut.iterdir()}
    result = run("report", str(cut))
    assert "- 5 of 12 networks of autoformer_tiny, 7 to come" in result.stdout
    assert "- params, macs: 5 ok" in result.stdout
    assert {name: (cut / name).read_bytes() for name in before} == before
    with open(cut / "ranking.csv") as file:
        ranking = list(csv.DictReader(file))
    assert len(ranking) == 5
    assert float(ranking[0]["fitness"]) == max(float(row["params"]) for row in ranking)
    best = json.loads((cut / "best.json").read_text())
    assert best["id"] == ranking[0]["id"]
    assert best["space"]["image_size"] == 28
    for name in ("best_so_far.png", "score_against_params.png"):
        assert (cut / name).stat().st_size > 1000
    assert (cut / "summary.md").read_text() == result.stdout
    page = Page((cut / "report.html").read_text())
    head, *rows = page.tables[0]
    assert [row[head.index("network")] for row in rows] == [row["id"] for row in ranking]
    assert [row[head.index("generation")] for row in rows].count("0") == 4
    assert len(page.images) == 2
    assert ["space.image_size", "28"] in page.tables[-1]
    flags = (f"--out={tmp_path}/elsewhere", "--by=macs,params", "--format=pdf,svg")
    result = run("report", str(cut), *flags)
    assert "subset" not in result.stderr  # of the fonts in a PDF nothing is said
    names = {path.name for path in (tmp_path / "elsewhere").iterdir()}
    assert {"ranking.csv", "best_so_far.pdf", "best_so_far.svg", "report.html"} <= names
    assert "best_so_far.png" not in names


def test_report_of_shards(config, tmp_path):
    flags = (config, "--config.score.num=6", f"--workdir={tmp_path}")
    run("score", *flags, "--shard=0/2")
    assert "- 3 of 6 networks" in run("report", str(tmp_path)).stdout
    run("score", *flags, "--shard=1/2")
    assert "- 6 of 6 networks" in run("report", str(tmp_path)).stdout
    run("score", *flags)
    assert "- 6 of 6 networks" in run("report", str(tmp_path)).stdout


MISTAKES = {
    "nothing": ((), "give the folder of one run"),
    "two": (("a", "b"), "give the folder of one run"),
    "no folder": (("nowhere",), "there is no folder nowhere"),
    "no run": (("{}",), "there is no run in"),
    "no rows": (("{}/empty",), "has no rows yet"),
    "no config": (("{}/lost",), "holds a run but no readable config.json"),
    "not measured": (("{}/run", "--by=zico"), "did not measure zico, it has params, macs"),
    "unknown flag": (("{}/run", "--bye=zico"), "Unknown command line flag 'bye'"),
    "format": (("{}/run", "--format=jpg"), "--format must be one or several of png, pdf, svg, got"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_a_report(name, config, tmp_path):
    for folder in ("empty", "lost", "run"):
        (tmp_path / folder).mkdir()
    (tmp_path / "empty" / "archive.jsonl").write_text("")
    (tmp_path / "lost" / "archive.jsonl").write_text('{"id": "a"}\n')
    if "measured" in name:
        run("score", config, f"--workdir={tmp_path}/run", "--config.score.num=2")
    arguments, expected = MISTAKES[name]
    result = run("report", *(a.format(tmp_path) for a in arguments), check=False)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_a_genotype_of_another_space_is_told(config, tmp_path):
    """That of 28 px is scored at 42 with a warning; `lswag-train` refuses it."""
    run("score", config, f"--workdir={tmp_path}/score", "--config.score.num=2")
    best = f"{tmp_path}/score/best.json"
    flags = (f"--config.score.genotypes={best}", "--config.space.image_size=42")
    result = run("score", config, *flags, f"--workdir={tmp_path}/again")
    assert "warning: genotype 0 of" in result.stderr
    assert "found in a space of image_size 28, not 42: for the same" in result.stderr
    choices = [
        f"--config.space.{key}"
        for key in ("embed_dims=(12, 24)", "head_counts=(1, 2)", "mlp_ratios=(2.0, 3.0)",
                    "depths=(1, 2)", "head_dim=8", "image_size=42", "patch_size=14")
    ]  # fmt: skip
    train = "--config=configs/train_fashion_mnist.py:runlocal"
    flags = (f"--config.genotype={best}", *choices, f"--workdir={tmp_path}/train")
    result = run("train", train, *flags, check=False)
    assert result.returncode == 2
    assert "image_size 28, not 42: for the same networks set --config.space.image_size=28" in (
        result.stderr
    )
