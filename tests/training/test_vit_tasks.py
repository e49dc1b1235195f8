"""The benchmark of six tasks: its recipes, the order of its work, and that a killed one goes on."""

import csv
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.analysis import tables
from tests.helpers import ROOT

FOLDER = ROOT / "benchmarks" / "vit_tasks"
TASKS = ["cifar10", "cifar10_few"]  # of one shape, so that they share programs


@pytest.fixture
def vit_tasks(monkeypatch):
    """The script, with networks of one block, and its command line."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import vit_tasks

    small = {"depths": (1,), "embed_dims": (8, 16), "head_counts": (1,), "mlp_ratios": (1.0,)}
    monkeypatch.setattr(vit_tasks, "CHOICES", small)
    yield vit_tasks
    vit_tasks.result_tables.shown.clear()


@pytest.fixture
def images(tmp_path, rng):
    """Images whose class is their brightness, in two splits."""
    arrays = {}
    for prefix, num in (("train_", 80), ("test_", 40)):
        labels = np.arange(num) % 10
        noise = rng.integers(0, 20, (num, 32, 32, 3))
        arrays[f"{prefix}image"] = (noise + 20 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{prefix}label"] = labels
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


def call(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["vit_tasks", *map(str, arguments)])
    script.main()


def test_a_killed_benchmark_goes_on(vit_tasks, images, tmp_path, monkeypatch, capsys):
    """The rows of one that was stopped twice are those of one that was not."""
    flags = (f"--source=cifar10={images}", f"--tasks={','.join(TASKS)}", "--num=2")
    flags += ("--seeds=1", "--images=64", "--batch_size=64", "--steps=1")
    call(vit_tasks, monkeypatch, *flags, f"--workdir={tmp_path / 'whole'}")
    lines = (tmp_path / "whole" / "rows.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    assert [row["task"] for row in rows] == TASKS * 2  # a group of genotypes on all tasks
    assert [row["genotype"] for row in rows[:2]] == [rows[0]["genotype"]] * 2
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    (cut / "rows.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    call(vit_tasks, monkeypatch, *flags, f"--workdir={cut}")
    again = [json.loads(line) for line in (cut / "rows.jsonl").read_text().splitlines()]
    assert again[:2] == rows[:2]
    for a, b in zip(again, rows, strict=True):
        assert (a["id"], a["accuracy"]) == (b["id"], b["accuracy"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    with open(cut / "truth.csv") as file:
        truth = list(csv.DictReader(file))
    assert [row["genotype"] for row in truth] == [row["genotype"] for row in rows]
    assert list(truth[0]) == list(vit_tasks.COLUMNS)
    about = json.loads((cut / "images.json").read_text())
    assert about["cifar10"]["training"]["size"] == 64
    assert about["cifar10_few"]["training"]["a_class"] == [6] * 10
    with pytest.raises(SystemExit, match="2"):
        call(vit_tasks, monkeypatch, *flags, "--steps=2", f"--workdir={cut}")
    assert "another config" in capsys.readouterr().err
    vit_tasks.publish(cut, tmp_path / "table.csv")
    table = tables.read(tmp_path / "table.csv")
    assert table.datasets == tuple(TASKS)
    np.testing.assert_allclose(
        table.values("cifar10", "accuracy_seed0"), [rows[0]["accuracy"], rows[2]["accuracy"]]
    )
    assert "4 networks" in table.column("cifar10", "accuracy").provenance


def test_sub_networks_inherit(vit_tasks, images, tmp_path, monkeypatch):
    """A super-network's accuracies are those of exact networks with the weights cut out of it."""
    import vit_supernets
    import vit_task_data

    monkeypatch.setitem(vit_tasks.CHOICES, "mlp_ratios", (1.0, 2.0))
    monkeypatch.setitem(vit_task_data.SOURCES, "cifar10", (str(images), "train", "test"))
    flags = ("--tasks=cifar10", f"--workdir={tmp_path}")
    few = ("--num=2", "--seeds=1", "--images=64", "--batch_size=64", "--steps=1")
    call(vit_tasks, monkeypatch, *flags, *few)
    trained = []
    original = vit_supernets.train
    monkeypatch.setattr(
        vit_supernets, "train", lambda *given: trained.append(original(*given)) or trained[0]
    )
    call(vit_supernets, monkeypatch, *flags, "--num=2", "--batch_size=64", "--steps=20")
    table = tables.read(tmp_path / vit_supernets.OUTPUT)
    assert len(table.genotypes) == 4
    recipe = vit_task_data.Recipe(
        **json.loads((tmp_path / "config.json").read_text())["tasks"]["cifar10"]
    )
    space = vit_tasks.space_of(recipe, 10)
    work = vit_tasks.Work(
        "cifar10", recipe, (str(images), "train", "test"), SimpleNamespace(steps=1, batch_size=64)
    )
    batch = next(work.images[1].all_once())
    accuracies = []
    for text in table.genotypes:
        g = space.parse(text)
        logits = space.build(g).apply(space.extract(trained[0], g), batch["image"] / 255)
        right = (logits.argmax(-1) == batch["label"]) * batch["weight"]
        accuracies.append(right.sum() / batch["weight"].sum())
    found = table.values("cifar10", vit_supernets.METRIC)
    np.testing.assert_allclose(found, np.array(accuracies), atol=1e-4)
    assert found.max() > 0.1  # better than chance, by brightness


def test_mistakes_are_a_sentence(vit_tasks, monkeypatch, capsys):
    for flag, message in (
        ("--tasks=cifar11", "unknown task 'cifar11', known are fashion"),
        ("--source=mnist=a.npz", "--source is fashion_mnist"),
        ("--num=0", "--num must be at least 1, got 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            call(vit_tasks, monkeypatch, flag)
        assert message in capsys.readouterr().err


def test_every_task_says_what_it_stands_for(vit_tasks, monkeypatch, capsys):
    call(vit_tasks, monkeypatch, "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(vit_tasks.RECIPES)
    assert len(vit_tasks.TASKS) == 6
    for recipe in vit_tasks.RECIPES.values():
        fewest = 10 if recipe.change == "jigsaw" else 17  # a token a tile
        assert fewest <= 1 + (recipe.size // recipe.patch) ** 2 <= 65
        assert recipe.images in vit_tasks.SOURCES


def test_wherever_it_stops_tasks_have_the_same_genotypes(vit_tasks):
    texts, names = [f"g{i}" for i in range(15)], ["a", "b", "c"]
    found = list(vit_tasks.order(texts, names, seeds=2))
    assert len(set(found)) == len(found) == 2 * 15 * 3
    assert {name for _, _, name in found[: 2 * vit_tasks.PILOT]} == {"a", "b"}
    for stop in range(2 * vit_tasks.PILOT + 12, len(found)):
        counts = [sum(name == task for _, _, name in found[:stop]) for task in names]
        assert max(counts) - min(counts) <= 1
    seeds = [seed for seed, _, _ in found]
    assert seeds == sorted(seeds)


def test_what_a_choice_explains(vit_tasks):
    rows = [
        {
            "task": "t",
            "genotype": f"{w}/{h}/1",
            "seed": s,
            "accuracy": w / 100 + s / 50,
            "params": w,
        }
        for w, h in ((24, 1), (32, 2), (40, 1))
        for s in (0, 1)
    ]
    (spread,), (shares,) = vit_tasks.vit_task_figures.summary(rows)
    assert shares["width"] == pytest.approx(1)
    assert shares["heads"] == pytest.approx(0, abs=1e-12)
    assert spread["between genotypes"] == pytest.approx(0.08)
    assert spread["between seeds"] == pytest.approx(np.sqrt(2) / 100)


def test_the_table_of_the_repository():
    """What comes with the package is what was trained, of the genotypes that the recipe lists."""
    config = json.loads((FOLDER / "config.json").read_text())
    with open(FOLDER / "truth.csv") as file:
        truth = list(csv.DictReader(file))
    space = spaces.get("autoformer_mini")
    assert [space.format(space.parse(text)) for text in config["genotypes"]] == config["genotypes"]
    table = tables.load("vit_tasks")
    assert set(table.genotypes) <= set(config["genotypes"])
    assert set(table.datasets) <= set(config["tasks"])
    for task in table.datasets:
        found = dict(zip(table.genotypes, table.values(task, "accuracy_seed0"), strict=True))
        for row in truth:
            value = found.get(row["genotype"], np.nan)
            if (row["task"], row["seed"]) == (task, "0") and not np.isnan(value):
                assert value == pytest.approx(float(row["accuracy"]))
