"""The how-to pages run as they are written; the site's nav names what is there."""

import re

import jax
import numpy as np
import pytest

from tests.helpers import ROOT, goldens


def run(page: str, **names):
    """The names that a page's Python leaves behind."""
    for block in re.findall(r"```python\n(.*?)```", read(page), re.DOTALL):
        exec(compile(block, page, "exec"), names)  # our own text
    return names


def read(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text()


@pytest.mark.slow  # CI runs it, as the README and the notebooks
def test_which_proxy():
    table = run("which_proxy")["table"]
    assert set(table.status) == {"ok"}


@pytest.mark.slow  # as above
def test_trust_a_score():
    names = run("trust_a_score")
    assert names["coverage"].share == 1
    assert names["saturation"].shape == (12,)
    assert names["table"].per_repeat["lswag"].shape == (12, 3)


def test_from_pytorch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays, prefix = goldens.read("nb201_sparse_C8_N1"), "default/w/"
    weights = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    np.savez("weights.npz", **weights)
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    with jax.numpy_rank_promotion("allow"):  # as outside of tests
        names = run(
            "from_pytorch", text=str(arrays["arch"]), images=images, labels=np.arange(8) % 10
        )
    assert names["table"]["params"][0] == sum(
        w.size for k, w in weights.items() if "running" not in k and "num_batches" not in k
    )
    assert names["own"].rows[0]["coverage"]["share"] == 1
    assert np.isfinite(names["own"]["lswag"]).all()


def test_every_page_is_on_the_site():
    nav = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")}
    assert pages <= nav
    assert {path for path in nav if not (ROOT / path).is_file()} == set()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
