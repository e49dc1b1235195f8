"""The page of a training, a profile, a correlation and of LIBRA, made of their files alone."""

import json

import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.analysis import window
from lswag_jax.analysis.layer_kinds import layer_kinds
from lswag_jax.analysis.layer_profile import LayerProfile
from lswag_jax.cli import report
from lswag_jax.runs.identity import describe
from lswag_jax.scoring import ScoreOptions
from lswag_jax.spaces.depth import depth_bins
from tests.helpers.pages import Page


def write(folder, name, rows, config):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(config))


def test_a_training(tmp_path, capsys):
    rows = [
        {"id": f"{kind} {epoch}", "epoch": epoch, "step": 10 * epoch, "loss": 2 / epoch}
        | ({"top1": epoch / 10} if kind == "eval" else {})
        for epoch in (1, 2, 3)
        for kind in ("train", "eval")
    ]
    config = {"genotype": "<b>", "space": {"name": "darts"}, "options": {"epochs": 5}}
    write(tmp_path, "metrics.jsonl", rows, config)
    report.main(str(tmp_path), format="svg")
    assert "- best validation, epoch 3: loss 0.6667, top1 0.3000" in capsys.readouterr().out
    page = Page((tmp_path / "report.html").read_text())
    validation, training, settings = page.tables
    assert [row[-1] for row in validation] == ["top1", "0.1", "0.2", "0.3"]
    assert len(training) == 4
    assert ["genotype", "<b>"] in settings
    assert ("li", "<b> of darts") in page.texts
    assert len(page.images) == 1
    assert (tmp_path / "training.svg").is_file()
    assert not (tmp_path / "training.png").exists()


def test_a_profile_with_its_window(tmp_path, capsys):
    """Of a space of the package attention and MLPs are told apart, and the window is shaded."""
    space = spaces.get("autoformer_tiny", image_size=32, patch_size=8, num_classes=10)
    genotypes = space.sample(np.random.default_rng(0), 3)
    kinds = layer_kinds(space, genotypes[0])
    rows = []
    for i, g in enumerate(genotypes):
        present = np.array([layer.present for layer in space.plan(g).weight_layers])
        bins = depth_bins(present)
        parts = {"score": [1.0], "values": [np.where(present, i, np.nan).tolist()]}
        parts["bins"] = [np.asarray(bins).tolist()]
        assert len(kinds) == len(present)
        rows.append({"id": space.format(g), "genotype": g.to_json(), "params": 1, "macs": 1,
                     "seconds": 0.0, "degenerate": [False],
                     "parts": {"layer_profile": parts}})  # fmt: skip
    config = describe(space, [LayerProfile()], ScoreOptions()) | {"data": {"source": "/x/y.npz"}}
    write(tmp_path, "archive.jsonl", rows, config)
    window.save(tmp_path / "window.json", (2, 5))
    report.main(str(tmp_path), format="svg")
    capsys.readouterr()
    page = Page((tmp_path / "report.html").read_text())
    head, *bins = page.tables[0]
    assert head == ["bin", "mean", "std", "layers", "mean of attention", "mean of MLP"]
    assert len(bins) == 10
    text = (tmp_path / "profile.svg").read_text()
    assert "window, bins 2 to 5" in text  # of the comments beside glyphs
    assert "autoformer_tiny on y.npz" in text


CORRELATED = """dataset,proxy,rho,tau,n
cifar10,swap,0.75,0.5,9
cifar10,"a|b",0.25,,9
"""


def test_a_correlation_and_libra(tmp_path, capsys):
    """Their tables and the plots that they wrote are on one page."""
    (tmp_path / "correlation.csv").write_text(CORRELATED)
    about = {"metric": "val_accuracy", "dataset": "cifar10"}
    selection = {"fitness": {"proxies": ["swap", "params"]}, "benchmark": about}
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    (tmp_path / "candidates.csv").write_text("name,rho\nswap,0.75\nparams,0.5\n")
    worth = "name,proxies,in_sample,split_half,split_half_std\nLIBRA,swap+params,0.8,0.7,0.01\n"
    (tmp_path / "report.csv").write_text(worth)
    (tmp_path / "heat_map.png").write_bytes(b"png")
    (tmp_path / "candidates.svg").write_text("<svg/>")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report.main(str(tmp_path))
    out = capsys.readouterr().out
    assert "- best on cifar10: swap, rho 0.750" in out
    assert "- LIBRA chose swap, params by val_accuracy on cifar10" in out
    assert "| cifar10 | a/b | 0.25 | None | 9 |" in out
    page = Page((tmp_path / "report.html").read_text())
    correlation, value, candidates = page.tables
    assert correlation[2][:4] == ["cifar10", "a|b", "0.25", ""]
    assert value[1][:3] == ["LIBRA", "swap+params", "0.8"]
    assert [row[0] for row in candidates] == ["name", "swap", "params"]
    kinds = [image["src"].partition(";")[0] for image in page.images]
    assert kinds == ["data:image/png", "data:image/svg+xml"]
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("correlation.csv", "", "correlation.csv cannot be read as a table"),
        ("correlation.csv", "dataset,proxy\na\n", "correlation.csv cannot be read as a table"),
        ("correlation.csv", "dataset,proxy\na,b\n", "correlation.csv has no column 'rho'"),
        ("selection.json", "{", "selection.json is not a selection"),
        ("selection.json", "[]", "selection.json is not a selection"),
    ],
)
def test_damaged_tables(name, text, expected, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=expected):
        report.main(str(tmp_path))
    with pytest.raises(ValueError, match="--by, --proxies, --again and --trained are of scored"):
        report.main(str(tmp_path), by="swap")
