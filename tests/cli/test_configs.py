"""A config file of one's own: completed by the defaults, and refused by one sentence."""

import pytest

from lswag_jax.cli import configs
from tests.helpers.batches import message

FILE = """
from lswag_jax.cli.default_config import default_config, shrink


def get_config():
    c = shrink(default_config("autoformer_tiny", channels=1))
    with c.ignore_type():
        {}
    return c
"""
SCORE = ("score", "configs/quickstart.py")


@pytest.fixture
def load(tmp_path):
    """Loads a config of which one line differs, with overrides."""

    def call(line="pass", *argv):
        path = tmp_path / "own.py"
        path.write_text(FILE.format(line))
        return configs.load(str(path), *SCORE, argv, told.append)

    told = call.told = []
    return call


MISTAKES = {
    "c.data.batch_size = None": "data.batch_size must be an integer of at least 2, got None.",
    "c.score.num = '3'": "score.num must be an integer from 1 to 10000000, got '3'.",
    "c.score.num = 10**30": "got 1000000000000000000000000000000.",
    "c.data.balanced = 1": "data.balanced must be True or False, got 1.",
    "c.score.fitness = None": "score.fitness must be a string, got None.",
    "c.proxies = None": "proxies must be a string, got None.",
    "c.proxies = ('params', 'macs')": "proxies must be a string, got ('params', 'macs').",
    "c.search.params_window = 'ab'": "search.params_window must be a tuple of numbers, got 'ab'.",
    "c.options = None": "options must be a section of keys, got None.",
    "c.options.zico = 'x'": "options.zico must be a section of keys, got 'x'.",
    "c.options.lswag.window = (3, 7)": "there is no options.lswag.window: options.lswag has ",
    "c.options.lswag = {'bins': None}": "options.lswag.bins must be a string, got None.",
    "c.data = 'hello'": "data must be a section of keys, got 'hello'.",
    "c.score.nmu = 3": "there is no score.nmu: score has num, ",
    "c.plts = {}": "there is no plts: a config has plots, ",
    "c.options.zicko = {}": "there is no options.zicko: options has zico, ",
    "del c.space": "space.name must be a string, got None.",
    "c.space = {'image_size': 28}": "space.name must be a string, got None.",
    "raise KeyError('x')": "own.py cannot be loaded: KeyError: 'x'.",
    "raise SystemExit(7)": "own.py cannot be loaded: SystemExit: 7.",
    "open('/nope/x')": "own.py cannot be loaded: FileNotFoundError: ",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence(line, load):
    with pytest.raises(ValueError) as error:
        load(line)
    assert MISTAKES[line] in message(error)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.space.widht=3", "--config.space.widht: space has "),
        ("--config.foo=1", "there is no --config.foo: a config has "),
        ("--config.score.nmu=3", "there is no --config.score.nmu: score has num, "),
        ("--config.score.num.x=3", "--config.score.num.x: score.num is a value, 3."),
        ("--config.score[0]=3", "there is no --config.score[0]: a config has score, "),
        ("--config.search.params_window[0]=3.0", "search has params_window, "),
        ("--config.=3", "there is no --config.: a config has "),
        ("--noconfig.data.balansed", "there is no --config.data.balansed: data has balanced, "),
        ("--config.options.zico.foo=1", "--config.options.zico.foo: options.zico has n_batches."),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(argument, expected, load):
    with pytest.raises(ValueError) as error:
        load("pass", argument)
    assert expected in message(error)


@pytest.mark.parametrize("line", ["del c.score", "c.score = {}", "c.score = {'chunk': 2}"])
def test_what_is_missing_has_its_default(line, load):
    """And can be overridden, except the section that tells which binary a config is for."""
    if line.startswith("del"):
        with pytest.raises(ValueError, match="is no config of lswag-score"):
            load(line)
    else:
        config = load(line, "--config.score.repeats=2")
        assert config.score.num == 64
        assert config.score.chunk == (2 if "chunk" in line else 0)


def test_missing_sections_have_their_defaults(load):
    config = load("del c.data, c.plots, c.options['zico']", "--config.data.split=test")
    assert config.data.batch_size == 64
    assert config.plots.format == "png"
    assert config.options.zico.n_batches == load().options.zico.n_batches


NAME = "--config.space.name"


def test_another_space_keeps_what_it_knows(load):
    """What the config sets of the old one alone is left out, and told."""
    space = load("c.space.depths = (2,)", f"{NAME}=nasbench201", "--config.space.width=4").space
    assert set(space) == {"name", "width", "cells", "image_size", "channels", "num_classes"}
    assert (space.image_size, space.channels, space.num_classes) == (28, 1, 10)
    (told,) = load.told
    assert told.endswith(" is set for autoformer_tiny, not for nasbench201: left out")
    assert {"depths=(2,)", "patch_size=14"} == set(told.partition(" is ")[0].split(", "))
    for argument in ((f"{NAME}=autoformer_tiny",), (NAME, "autoformer_small")):
        assert load("c.space.depths = (2,)", *argument).space.depths == (2,)
    with pytest.raises(ValueError, match=r"no --config\.space\.depths: space has width, "):
        load("pass", f"{NAME}=nasbench201", "--config.space.depths=(2,)")
    with pytest.raises(ValueError, match="unknown search space 'nope'"):
        load("pass", f"{NAME}=nope")
