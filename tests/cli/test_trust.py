"""What lswag-report says of trust and of accuracies, of a folder that was written by hand."""

import csv
import json

import numpy as np
import pytest

from lswag_jax.cli import report
from tests.helpers.binaries import run

N = 14


@pytest.fixture
def folder(tmp_path):
    """Two runs of the same networks, by a proxy that the second measured in another order."""
    rng = np.random.default_rng(0)
    for name in ("run", "again"):
        (tmp_path / name).mkdir()
        proxies = {key: {"name": key} for key in ("snip", "params")}
        config = {"space": {"name": "autoformer_tiny"}, "proxies": proxies}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        rows = [
            {
                "id": f"n{i}",
                "genotype": {},
                "params": 100 + i,
                "macs": 7 * i,
                "seconds": 0.0,
                "degenerate": [False],
                "parts": {"snip": {"score": [float(score)]}, "params": {}},
            }
            for i, score in enumerate(rng.permutation(N))
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "archive.jsonl").write_text(text)
    return tmp_path


def test_a_second_run_and_trained_networks(folder, capsys):
    trained = folder / "trained.csv"
    scores = {f"n{i}": 70 + i for i in range(0, N, 2)}
    trained.write_text("id,accuracy\n" + "".join(f"{k},{v}\n" for k, v in scores.items()))
    report.main(
        str(folder / "run"), by="params", again=str(folder / "again"), accuracies=str(trained)
    )
    out = capsys.readouterr().out
    assert "- snip: do not trust it here: it is mostly noise" in out
    assert "- params: it orders networks as #params does (rho 1.00), which costs nothing." in out
    assert f"- train next: `n{N - 1}`" in out
    with open(folder / "run" / "diagnosis.csv") as file:
        snip, params = csv.DictReader(file)
    assert abs(float(snip["over_tables"])) < 0.7
    assert params["over_tables"] == ""
    assert float(params["with_params"]) == pytest.approx(1.0)
    with open(folder / "run" / "predicted.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["predicted"]) for row in rows if row["trained"] == "True"] == list(
        scores.values()
    )
    assert all(float(row["low"]) <= float(row["predicted"]) <= float(row["high"]) for row in rows)


def test_without_either(folder, capsys):
    report.main(str(folder / "run"))
    assert "how stable it is was not measured" in capsys.readouterr().out
    assert not (folder / "run" / "predicted.csv").exists()


MISTAKES = {
    "no second run": (("--again={}/nowhere",), "there is no run in"),
    "no accuracies": (("--trained={}/nowhere.csv",), "nowhere.csv"),
    "too few": (("--trained={}/few.csv",), "need at least 4 trained networks, got 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, folder):
    (folder / "few.csv").write_text("id,accuracy\nn1,70\n")
    flags, message = MISTAKES[name]
    result = run("report", str(folder / "run"), *(f.format(folder) for f in flags), check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
