"""`progress=` of the library's calls: a bar, lines, or a function of the user's."""

import contextlib
import io
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import search
from lswag_jax.scoring import progress, stream, waiting
from lswag_jax.search import RandomOptions
from tests.helpers.spaces import WIDE

IMAGES = np.random.default_rng(0).normal(size=(6, *WIDE.image_shape)).astype("float32")
LABELS = np.arange(6) % 3
GENOTYPES = WIDE.sample(np.random.default_rng(0), 3)
BATCH = (IMAGES, LABELS, "params")


class Terminal(io.StringIO):
    """Standard error that is one."""

    def isatty(self) -> bool:
        return True


def test_a_function_is_told_of_each_network(tmp_path):
    told: list[progress.Progress] = []
    lswag_jax.score(WIDE, GENOTYPES, *BATCH, progress=told.append)
    assert [tuple(at[:2]) for at in told] == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    rows = stream(WIDE, GENOTYPES, *BATCH, progress=told.append)
    assert next(rows)["params"] > 0
    assert len(told) == 1
    told.clear()
    options = RandomOptions(num=4)
    arguments = {"fitness": "params", "progress": told.append}
    search.run(WIDE, *BATCH, options, tmp_path, **arguments)
    assert [at.done for at in told] == [1, 2, 3, 4]
    assert told[-1].fitness == told[-1].best["params"]


def test_a_model_is_compiled_and_run():
    module, told = nn.Dense(3), []
    images = IMAGES.reshape(6, -1)
    variables = module.init(jax.random.key(0), images)
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        lswag_jax.score_model(module, variables, images, LABELS, "grad_norm", progress=True)
        lswag_jax.score_model(module, variables, images, LABELS, "snip", progress=told.append)
    assert [tuple(at[:2]) for at in told] == [(1, 2), (2, 2)]
    lines = shown.getvalue().splitlines()
    assert lines[:2] == ["score_model: 2 to do", "compiling grad_norm for the model"]
    assert lines[-1] == "score_model 2/2"


def test_nothing_is_shown_unless_asked_for(capsys):
    lswag_jax.score(WIDE, GENOTYPES, *BATCH)
    assert capsys.readouterr() == ("", "")


def test_lines_where_there_is_no_terminal(capsys):
    lswag_jax.score(WIDE, GENOTYPES, *BATCH, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["score: 3 to do", "score 1/3", "score 3/3"]


def without(monkeypatch, *names: str) -> None:
    """Lets packages be missing."""
    for name in names:
        for loaded in [m for m in sys.modules if m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("missing", [(), ("rich",)], ids=["rich", "tqdm"])
def test_a_bar_on_a_terminal(missing, monkeypatch):
    without(monkeypatch, *missing)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    with progress.watched(True, "score", 3, lambda at: f"best {at.fitness}") as tell:
        with waiting.said("compiling swap"):
            pass
        for done in range(1, 4):
            tell(progress.Progress(done, 3, None, 2.5))
    shown = sys.stderr.getvalue()
    assert "3/3" in shown
    assert "best 2.5" in shown
    assert "score: 3 to do" not in shown


def test_an_extra_is_named_where_both_are_missing(monkeypatch):
    without(monkeypatch, "rich", "tqdm")
    expected = r"the package rich\.?\w* is missing: pip install 'lswag_jax\[cli\]'\.$"
    with pytest.raises(ModuleNotFoundError, match=expected):
        lswag_jax.score(WIDE, GENOTYPES, *BATCH, progress=True)


@pytest.mark.parametrize("value", [None, 3, "x"])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match="progress of score must be True or False or a function"):
        lswag_jax.score(WIDE, GENOTYPES, *BATCH, progress=value)


def test_time_left(monkeypatch):
    """Ten rows in ten seconds leave twenty for the twenty that are missing."""
    monkeypatch.setattr(progress.time, "monotonic", lambda: 110.0)
    assert progress.time_left(1, 100.0, 11, 31) == "0:00:20 left"
    assert progress.time_left(1, 100.0, 1, 31) == progress.time_left(1, 100.0, 31, 31) == ""
