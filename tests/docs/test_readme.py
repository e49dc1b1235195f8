"""The README's Python runs as it stands, and the tutorial shows every binary."""

import re

import pytest

from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()


@pytest.mark.slow
def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # our own text
    assert set(names["table"].status) == {"ok"}
    assert (tmp_path / "scores.parquet").exists()
    assert (tmp_path / "results" / "search" / "best.json").exists()


def test_nothing_is_left_to_fill_in():
    text = README + (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert "@@" not in text
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def commands():
    """The binaries that the tutorial's blocks call, with their arguments."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", TUTORIAL, re.DOTALL)).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.startswith("lswag-")]


def test_every_binary_is_shown():
    """Whether their lines run: test_shell_lines.py."""
    names = ("score", "profile", "search", "correlate", "libra", "train", "report")
    assert {binary for binary, *_ in commands()} == {f"lswag-{name}" for name in names}
