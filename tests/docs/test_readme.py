"""The README's Python runs as it stands, and its commands are those that CI calls."""

import re
import runpy

import pytest

from tests.helpers import ROOT
from tests.helpers.binaries import run

README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # our own text
    assert set(names["table"].status) == {"ok"}
    assert (tmp_path / "scores.parquet").exists()


def test_nothing_is_left_to_fill_in():
    text = README + (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert "@@" not in text
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def commands():
    """The binaries that README's blocks call, with their arguments."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.startswith("lswag-")]


def test_commands_name_configs_and_keys():
    assert {binary for binary, *_ in commands()} == {
        f"lswag-{name}" for name in ("score", "profile", "search", "correlate", "libra", "train")
    }
    for binary, config, *flags in commands():
        path, _, variant = config.removeprefix("--config=").partition(":")
        config = runpy.run_path(str(ROOT / path))["get_config"](variant)
        assert binary.removeprefix("lswag-") in config, "a config of this binary"
        for flag in flags:
            name, _, value = flag.partition("=")
            assert name == "--workdir" or value
            values = config
            for key in name.split(".")[1:]:
                assert key in values, flag
                values = values[key]


def test_libra_runs_as_printed(tmp_path):
    (command,) = [c for c in commands() if c[0] == "lswag-libra"]
    run("libra", *command[1:-1], f"--workdir={tmp_path}")
    assert (tmp_path / "selection.json").is_file()
