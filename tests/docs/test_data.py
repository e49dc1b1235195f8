"""docs/data.md: its Python runs as printed, and it names every source and suffix that is read."""

import re

import pytest

from lswag_jax.data import decode, folders
from lswag_jax.data.batch import NORMALIZATIONS
from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text()


def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "data.md", "exec"), names)  # our own text
    assert names["batch"].images.shape == (16, 28, 28, 1)
    assert names["batch"].num_classes == 2


@pytest.mark.parametrize("name", [*decode.SUFFIXES, *NORMALIZATIONS, *folders.TRAINING])
def test_names(name):
    assert f"`{name}`" in PAGE
