"""The page of a training and of a profile, made of their files alone."""

import json

import numpy as np

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
