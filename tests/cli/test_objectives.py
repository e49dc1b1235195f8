"""`lswag-search` by objectives and within a window of measured memory, and its report."""

import csv
import json

from tests.helpers.binaries import run

CONFIG = """
from lswag_jax.cli.default_config import default_config, shrink


def get_config():
    config = shrink(default_config("autoformer_tiny", channels=1, num_classes=10))
    config.space.update({"embed_dims": (12, 24), "head_counts": (1, 2), "head_dim": 8})
    config.space.update({"mlp_ratios": (2.0, 3.0), "depths": (1,)})
    config.proxies = "macs"
    config.search.update({"strategy": "random", "num": 4, "objectives": "+params,memory"})
    config.search.memory_window = (0.0, 0.052)
    return config
"""


def read(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_search_and_report(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    workdir, config = tmp_path / "run", f"--config={tmp_path}/tiny.py"
    result = run("search", config, f"--workdir={workdir}")
    assert "front of 4 by +params,memory: " in result.stderr
    front, ranking = read(workdir / "front.csv"), read(workdir / "ranking.csv")
    assert ranking[: len(front)] == front
    assert len(ranking) == 4
    params = [int(row["params"]) for row in front]
    memory = [int(float(row["memory"])) for row in front]
    assert params == sorted(params, reverse=True)
    assert memory == sorted(memory, reverse=True)
    assert all(float(row["memory"]) <= 52_000 for row in ranking)
    assert json.loads((workdir / "best.json").read_text())["id"] == front[0]["id"]
    assert (workdir / "front.png").stat().st_size > 1000
    measured = (workdir / "costs" / "archive.jsonl").read_text()
    assert len(measured.splitlines()) > 4  # the refused ones too
    # Again, from what is there.
    archive = (workdir / "archive.jsonl").read_text()
    run("search", config, f"--workdir={workdir}")
    assert (workdir / "archive.jsonl").read_text() == archive
    assert (workdir / "costs" / "archive.jsonl").read_text() == measured
    run("report", str(workdir), f"--out={tmp_path}/report")
    assert read(tmp_path / "report" / "front.csv") == front
    assert (tmp_path / "report" / "front.png").exists()
    wider = "--config.search.memory_window=(0.0, 9.0)"
    refused = run("search", config, f"--workdir={workdir}", wider, check=False)
    assert "search.memory_window (" in refused.stderr
