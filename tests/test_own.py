"""What a user names as module:NAME: found in the current folder, and refused by one sentence."""

import sys

import numpy as np
import pytest

from lswag_jax import data, own, proxies, spaces
from lswag_jax.scoring import Fitness
from tests.helpers.batches import message

THINGS = """
import dataclasses
import types
from typing import ClassVar

import flax.linen as nn
import numpy as np

from lswag_jax.data import open_pool
from lswag_jax.proxies import Proxy
from lswag_jax.spaces import NasBench201, SimpleSpace


def build(g):
    return nn.Dense(g.width)


SPACE = SimpleSpace({"width": (10,)}, build)


class Cells(NasBench201):
    pass


def cells(width=4):
    return NasBench201(width=width)


@dataclasses.dataclass(frozen=True)
class Constant(Proxy):
    name: ClassVar[str] = "constant"
    value: float = 1.0


TWO = Constant(2.0, label="two")


class Nameless(Proxy):
    pass


ARRAYS = types.SimpleNamespace(images=np.zeros((4, 2, 2, 1)), labels=np.arange(4))
POOL = open_pool("embedded")
NUMBER = 3


def splits(split):
    n = {"train": 4, "test": 2}[split]
    return types.SimpleNamespace(images=np.ones((n, 2, 2, 3)), labels=np.arange(n), num_classes=9)


def broken():
    return {}["width"]


def ends():
    raise SystemExit(5)


def unlabelled():
    return types.SimpleNamespace(images=np.zeros((4, 2, 2, 1)))
"""


@pytest.fixture(autouse=True)
def things(tmp_path, monkeypatch):
    """The current folder, with modules in it; forgotten after the test."""
    (tmp_path / "things.py").write_text(THINGS)
    (tmp_path / "imports.py").write_text("import not_there_at_all\n")
    (tmp_path / "breaks.py").write_text("x = 1 /\n")
    (tmp_path / "fails.py").write_text("raise RuntimeError('oh')\n")
    (tmp_path / "ends.py").write_text("import sys\n\nsys.exit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])  # as of a console script
    monkeypatch.setattr(proxies, "OWN", {})
    yield
    for name in ("things", "imports", "breaks", "fails", "ends"):
        sys.modules.pop(name, None)


def test_spaces():
    assert spaces.get("things:SPACE").name == "simple"
    assert spaces.get("things:SPACE", num_classes=3).num_classes == 3
    assert spaces.get("things:cells").width == 4
    assert spaces.get("things:cells", width=8).width == 8
    assert spaces.get("things:Cells", cells=2).cells == 2
    assert spaces.arguments("things:cells") == {"width": 4}
    assert spaces.arguments("things:Cells") == spaces.arguments("nasbench201")


def test_proxies():
    assert proxies.get("things:Constant").value == 1.0
    assert [p.key for p in proxies.resolve("things:TWO")] == ["two"]
    both = proxies.resolve(["things:Constant", "two", "swap"])
    assert [p.key for p in both] == ["constant", "two", "swap"]
    assert "two" not in proxies.names()
    assert Fitness.parse("things:TWO, swap").proxies == ("two", "swap")


def test_data():
    with pytest.warns(UserWarning, match="4 of the 4 images drawn from things:ARRAYS"):
        batch = data.load_batch("things:ARRAYS", 4, normalize="unit")
    assert batch.images.shape == (4, 2, 2, 1)
    assert batch.source.startswith("things:ARRAYS split 'train', 4 of 4 images")
    assert data.open_pool("things:splits", "test").size == 2
    assert data.open_pool("things:splits").num_classes == 9
    assert data.open_pool("sphere:things:splits").image(0).shape == (60, 60, 3)
    assert data.open_pool("things:POOL").size == 512
    assert np.ptp(batch.labels) == 3


MISTAKES = {
    "no module": (lambda: own.find("nowhere:X"), "there is no module 'nowhere' in "),
    "no package": (lambda: own.find("nowhere.x:X"), "there is no module 'nowhere' in "),
    "no name": (lambda: own.find("things:SPACES"), "module things has no 'SPACES': the nearest is"),
    "no form": (lambda: own.find("things"), "is named as module:NAME, got 'things'"),
    "missing import": (lambda: own.find("imports:X"), "imports imports 'not_there_at_all', which"),
    "syntax": (lambda: own.find("breaks:X"), "breaks cannot be imported: SyntaxError: invalid syn"),
    "raises": (lambda: own.find("fails:X"), "fails cannot be imported: RuntimeError: oh."),
    "exits": (lambda: own.find("ends:X"), "ends cannot be imported: SystemExit: 3."),
    "a space raises": (lambda: spaces.get("things:broken"), "broken failed: KeyError: 'width'."),
    "data raise": (lambda: data.open_pool("things:broken"), "broken failed: KeyError: 'width'."),
    "a proxy ends": (lambda: proxies.get("things:ends"), "things:ends failed: SystemExit: 5."),
    "no space": (lambda: spaces.get("things:NUMBER"), "must be a Space, or a class or function"),
    "a network": (lambda: spaces.get("things:build"), "missing a required argument: 'g'"),
    "another kind": (lambda: spaces.get("things:Constant"), "makes one, got a Constant"),
    "an argument": (
        lambda: spaces.get("things:cells", wdth=3),
        "no argument 'wdth', known are",
    ),
    "a value": (lambda: spaces.get("things:SPACE", num_classes=0), "num_classes of simple must be"),
    "no proxy": (lambda: proxies.resolve("things:SPACE"), "must be a Proxy, or a class"),
    "no proxy's name": (lambda: proxies.get("things:Nameless"), "things:Nameless has no name"),
    "options": (lambda: proxies.get("things:TWO", value=3), "two is your own: name it as module:"),
    "a split": (
        lambda: data.open_pool("things:ARRAYS", "test"),
        "no split 'test' in things:",
    ),
    "no labels": (lambda: data.open_pool("things:unlabelled"), "a SimpleNamespace has no labels"),
    "no images": (lambda: data.open_pool("things:NUMBER"), "but a int has no images"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name):
    call, expected = MISTAKES[name]
    with pytest.raises(ValueError) as error:
        call()
    assert expected in message(error)
