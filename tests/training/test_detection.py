"""The benchmark of detection: a run that was killed goes on, mistakes are a sentence."""

import csv
import json
import sys

import numpy as np
import pytest

from tests.helpers import ROOT

SMALL = {"depths": (1,), "embed_dims": (8, 16), "head_counts": (1,), "mlp_ratios": (1.0,)}
FLAGS = ("--num=2", "--steps=2", "--batch_size=4", "--training=8", "--validation=4")


@pytest.fixture
def detection(monkeypatch, tmp_path, rng):
    """The script, with networks of one block and few proxies, and images of its own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import detection
    import vit_task_data

    monkeypatch.setattr(detection.vit_tasks, "CHOICES", SMALL)
    monkeypatch.setattr(detection, "PROXIES", ("params", "epe_nas", "swap"))
    for name, size, channels in (("fashion_mnist", 28, 1), ("cifar10", 32, 3)):
        arrays = {}
        for prefix in ("", "test_"):
            shape = (20, size, size, channels)
            arrays[f"{prefix}image"] = rng.integers(0, 256, shape, np.uint8)
            arrays[f"{prefix}label"] = np.arange(20) % 10
        np.savez(tmp_path / f"{name}.npz", **arrays)
        source = (f"{{data}}/{name}.npz", "train", "test")
        monkeypatch.setitem(vit_task_data.SOURCES, name, source)
    yield detection
    detection.result_tables.shown.clear()


def call(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["detection", *FLAGS, *map(str, arguments)])
    script.main()


def test_a_killed_benchmark_goes_on(detection, tmp_path, monkeypatch, capsys):
    where = (f"--data={tmp_path}", f"--workdir={tmp_path / 'work'}")
    path = tmp_path / "work" / "rows.jsonl"
    call(detection, monkeypatch, *where)
    whole = path.read_text().splitlines(keepends=True)
    path.write_text(whole[0] + whole[1][:30])
    detection.result_tables.shown.clear()
    call(detection, monkeypatch, *where)
    again = path.read_text().splitlines(keepends=True)
    assert again[0] == whole[0]
    rows = [json.loads(lines[1]) for lines in (whole, again)]
    assert rows[0]["id"] == rows[1]["id"]
    assert rows[0]["map"] == rows[1]["map"]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-5)
    with open(tmp_path / "work" / "truth.csv") as file:
        assert list(csv.DictReader(file).fieldnames) == list(detection.COLUMNS)
    shown = {table["title"]: table for table in detection.result_tables.shown}
    assert shown["without a number"]["rows"] == [["epe_nas", "class labels"]]
    assert {row[0] for row in shown["mAP"]["rows"]} <= {"params", "swap"}
    with pytest.raises(SystemExit, match="2"):
        call(detection, monkeypatch, *where, "--steps=3")
    assert "another config" in capsys.readouterr().err


def test_mistakes_are_a_sentence(detection, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(detection, monkeypatch, "--steps=0")
    assert "--steps must be at least 1, got 0" in capsys.readouterr().err
    missing = ("--source=tfds:coco/2017", f"--workdir={tmp_path}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        call(detection, monkeypatch, *missing)
    assert "no prepared TFDS data set 'coco/2017'" in capsys.readouterr().err
