"""A space, a proxy and images of one's own on the command line, and configs by their names."""

import json
import pathlib
import re
import runpy

import numpy as np
import pytest

import lswag_jax
from lswag_jax.cli import configs, default_config, loading
from tests.helpers import ROOT
from tests.helpers.binaries import run

DATA = """
import types

import numpy as np


def photos(split):
    rng = np.random.default_rng(split == "train")
    images = rng.integers(0, 256, (20, 12, 14, 3), np.uint8)
    return types.SimpleNamespace(images=images, labels=np.arange(20) % 2, classes=["cat", "dog"])
"""
OWN = (
    "--config.space.name=my_space:TINY",
    "--config.data.source=my_data:photos",
)
SEARCH = (
    *("--config=quickstart:runlocal", *OWN),
    "--config.proxies=my_proxy:Activity,params",
    "--config.search.fitness=activity",
    "--config.search.epochs=1",
    "--config.search.population=2",
    "--config.search.crossover=1",
    "--config.search.mutation=1",
    "--config.search.params_window=(0.0, 0.01)",
    "--config.search.macs_window=(0.0, 1.0)",
    "--workdir=search",
)


def block(page: str, number: int = 0) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)[number]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages' examples as files, and the search of a user who works there."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in (
        ("my_space", block("add_a_space.md")),
        ("my_proxy", block("add_a_proxy.md")),
        ("my_data", DATA),
    ):
        (folder / f"{name}.py").write_text(text)
    run("search", *SEARCH, at=folder)
    return folder


def test_search(folder):
    best = json.loads((folder / "search" / "best.json").read_text())
    assert best["status"] == "ok"
    assert best["params"] <= 10_000
    assert best["macs"] <= 1_000_000
    assert {"activity", "params"} == set(best["proxies"])
    assert best["space"]["name"] == "tiny"
    config = json.loads((folder / "search" / "config.json").read_text())
    assert config["space"]["build"] == "my_space:<lambda>"
    assert config["data"]["source"] == "my_data:photos"
    rows = [
        json.loads(row) for row in (folder / "search" / "archive.jsonl").read_text().splitlines()
    ]
    assert len({row["id"] for row in rows}) == len(rows) == 4


def test_report(folder):
    """A report is told where the proxy is: nothing that a folder names is imported."""
    refused = run("report", "search", check=False, at=folder)
    assert refused.returncode == 2
    assert "the run measured activity, a proxy of your own: name it" in refused.stderr
    told = run("report", "search", "--proxies=my_proxy:Activity", at=folder)
    assert "Best by activity" in told.stdout


def test_score_what_was_found(folder):
    """The fitness alone names the proxy, and the genotype comes from the search."""
    arguments = ("--config=quickstart:runlocal", *OWN, "--workdir=score")
    arguments += ("--config.proxies=params", "--config.score.genotypes=search/best.json")
    told = run("score", *arguments, "--config.score.fitness=my_proxy:Activity", at=folder)
    assert "was found in a space of" not in told.stderr
    best = json.loads((folder / "score" / "best.json").read_text())
    found = json.loads((folder / "search" / "best.json").read_text())
    assert best["id"] == found["id"]
    assert best["proxies"]["activity"] == pytest.approx(found["proxies"]["activity"])


def test_train_and_load(folder, monkeypatch):
    """The network of a space with BatchNorm is trained, and served with that space."""
    arguments = ("--config=train_fashion_mnist:runlocal", *OWN, "--workdir=train")
    arguments += ("--config.train.epochs=1", "--config.train.batch_size=10")
    arguments += ("--config.optimizer.warmup_epochs=0", "--config.data.eval_split=test")
    told = run("train", *arguments, "--config.genotype=search/best.json", at=folder)
    assert "validation: my_data:photos split 'test', 20 images" in told.stderr
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=r"of tiny, a space of your own: give the space"):
        lswag_jax.load("train")
    with pytest.raises(ValueError, match=r"is of tiny \(SimpleSpace\), not of nasbench201"):
        lswag_jax.load("train", space="nasbench201")
    model = lswag_jax.load("train", space="my_space:TINY")
    mean = model.variables["batch_stats"]["BatchNorm_0"]["mean"]
    assert np.abs(mean).max() > 0  # statistics of the training
    assert model.classes == ["cat", "dog"]
    probabilities = model.predict(np.zeros((2, 20, 30, 3), np.uint8))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_page_runs(tmp_path, monkeypatch, capsys):
    """The space, a random search of it and what it prints, in less than 30 lines."""
    assert block("add_a_space.md").count("\n") < 30
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_space.py").write_text(block("add_a_space.md"))
    names = runpy.run_path("my_space.py", run_name="__main__")
    found = names["found"]
    assert set(found.table.status) == {"ok"}
    assert all(row["params"] <= 5000 and row["macs"] <= 1e6 for row in found.table.rows)
    printed = names["TINY"].parse(capsys.readouterr().out.strip())
    assert printed.to_json() == found.table.genotypes[found.best]


@pytest.mark.parametrize("text", ["quickstart", "quickstart.py", "configs/quickstart.py"])
def test_configs_by_name(text, tmp_path, monkeypatch):
    """The package's are found from anywhere."""
    monkeypatch.chdir(tmp_path)
    assert configs.find(f"{text}:runlocal") == f"{ROOT / 'configs' / 'quickstart.py'}:runlocal"


def test_configs_of_a_user_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("")
    assert configs.find("quickstart:x") == "quickstart:x"
    with pytest.raises(ValueError, match=r"no config called a/libra\.py: known are libra, "):
        configs.find("a/libra.py")
    installed = tmp_path / "lswag_jax"
    (installed / "configs").mkdir(parents=True)
    monkeypatch.setattr(lswag_jax, "__file__", str(installed / "__init__.py"))
    assert configs.folder() == installed / "configs"


def test_a_missing_config_is_named(tmp_path):
    result = run("search", "--config=quikstart", f"--workdir={tmp_path}/out", check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no config called quikstart: known are quickstart, ")


def test_a_wheel_has_every_package_and_the_configs(monkeypatch):
    """setup.py lists them; each folder with modules is one."""
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", given.update)
    runpy.run_path("setup.py")
    folders = {path.parent for path in pathlib.Path("lswag_jax").rglob("*.py")}
    assert set(given["packages"]) == {".".join(f.parts) for f in folders} | {"lswag_jax.configs"}
    assert given["package_dir"] == {"lswag_jax.configs": "configs"}


def test_config_of_an_own_space(folder, monkeypatch):
    """A config names the space itself; arguments that it is given replace the space's."""
    monkeypatch.chdir(folder)
    config = default_config.default_config("my_space:TINY", image_size=14)
    assert dict(config.space) == {
        "name": "my_space:TINY",
        "image_size": 14,
        "channels": 1,
        "num_classes": 10,
    }
    space = loading.load_space(config)
    assert (space.name, space.image_size) == ("tiny", 14)
    assert space.choices == lswag_jax.spaces.get("my_space:TINY").choices
