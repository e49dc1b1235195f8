"""What a person at a terminal sees: short lines, and a bar of one line with one time left."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from tests.helpers import ROOT
from tests.helpers.binaries import run

BAR = """
import os, sys
from absl import app, logging
from lswag_jax.cli import progress

def main(_):
    progress.set_up_log()
    with progress.progress_bar("train", 1000) as show:
        for i in range(0, 1001, 250):
            show(i, "loss 2.3012, top1 0.1234, top5 0.5000, 123 images/s and more than fits")
            if i == 500:
                logging.info("said in between")

app.run(main)
"""


def on_a_terminal(code: str, columns: int) -> list[str]:
    """Lines that a program shows on a terminal so many columns wide."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = {"COLUMNS": str(columns), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=end, stdout=end, stderr=end, env=os.environ | settings
    )
    os.close(end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # Linux ends a terminal so
        pass
    os.close(terminal)
    child.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return [line for line in re.split(r"[\r\n]+", text) if line]


def test_a_bar_fits_eighty_columns():
    lines = on_a_terminal(BAR, 80)
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d said in between *", line) for line in lines), lines
    bars = [line for line in lines if line.startswith("train")]
    assert {len(line) for line in bars} == {80}
    assert "1000/1000" in bars[-1]
    assert all(len(re.findall(r"\d:\d\d:\d\d|-:--:--", line)) == 1 for line in bars)


def test_log_lines_are_a_time_and_what_is_said(tmp_path):
    config = "--config=configs/quickstart.py:runlocal"
    result = run("score", config, "--config.proxies=params", f"--workdir={tmp_path}")
    for line in result.stderr.splitlines():
        assert re.match(r"\d\d:\d\d:\d\d (warning: )?\S", line), line
    assert "Unable to initialize backend" not in result.stderr


def binary(name: str, *arguments: str) -> str:
    """A program that is a binary with its arguments."""
    argv = [f"lswag-{name}", "--nocompile_cache", *arguments]
    return f"import sys; sys.argv = {argv}\nfrom lswag_jax.cli import {name}\n{name}.run()"


def is_line(text: str) -> bool:
    """Whether a line is of the log: a time and what is said, nothing of threads or backends."""
    is_said = re.match(r"\d\d:\d\d:\d\d (warning: )?\S", text)
    return bool(is_said) and not re.search(r"backend|\.py:\d|\d{6,}\]", text)


def test_scoring_on_a_terminal(tmp_path):
    """Log lines and one bar that ends at its total, with a time left in no other line."""
    config = ("--config=configs/quickstart.py:runlocal", "--config.proxies=params")
    lines = on_a_terminal(binary("score", *config, f"--workdir={tmp_path}"), 80)
    bars = [line for line in lines if line.startswith("score ")]
    assert bars
    assert all(len(line) <= 80 for line in bars)
    rest = [line for line in lines if line not in bars]
    # A terminal breaks long lines; the log itself does not.
    assert all(is_line(line) for line in rest), rest


def test_a_table_fits_the_terminal(tmp_path):
    truth = "lswag_jax/assets/toy_nasbench201.csv.gz"
    config = ("--config=configs/correlate.py", f"--config.correlate.truth={truth}")
    config += ("--config.correlate.metric=test_accuracy", "--config.correlate.resamples=0")
    lines = on_a_terminal(binary("correlate", *config, f"--workdir={tmp_path}"), 80)
    rows = [line.split() for line in lines if "fashion_mnist" in line]
    assert [len(row) for row in rows] == [8] * 13  # a line each, of data set, proxy and six figures
    assert {"synflow", "grad_norm"} <= {row[1] for row in rows}
    assert all(len(line.rstrip()) <= 80 for line in lines if "fashion_mnist" in line)
    assert not any("…" in line for line in lines)
