"""Spaces of named choices: their genotypes, and scores that are their networks' own."""

import csv
import functools
import json
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import search
from lswag_jax.search import RandomOptions
from lswag_jax.spaces import SimpleSpace
from tests.helpers.batches import Batch, message
from tests.helpers.binaries import run

CHOICES = {"width": (4, 6), "act": ("relu", "tanh x"), "scale": (0.5, 1.0), "norm": (True, False)}


class CNN(nn.Module):
    width: int = 4
    act: str = "relu"
    scale: float = 1.0
    norm: bool = True
    classes: int = 3

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.width, (3, 3), strides=2)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        x = self.scale * (nn.relu(x) if self.act == "relu" else nn.tanh(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


def build(g):
    return CNN(**vars(g))


def small(choices=None, build=build, **changed):
    sizes = {"name": "cnns", "image_size": 8, "channels": 2, "num_classes": 3} | changed
    return SimpleSpace(CHOICES if choices is None else choices, build, **sizes)


SPACE = small()
TEXT = "width=6,act=tanh x,scale=0.5,norm=True"


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).normal(size=(6, *SPACE.image_shape)).astype("float32")
    return Batch(images, np.arange(6) % 3)


def test_genotypes():
    g = SPACE.parse(TEXT)
    assert (g.width, g.act, g.scale, g.norm) == (6, "tanh x", 0.5, True)
    assert SPACE.format(g) == TEXT
    assert SPACE.parse("norm=True, scale=0.5, act=tanh x, width=6") == g
    assert SPACE.from_json(json.loads(json.dumps(g.to_json()))) == g
    assert len({*SPACE.sample(np.random.default_rng(0), 200)}) == 16
    first, again = (SPACE.sample(np.random.default_rng(1), 5) for _ in range(2))
    assert first == again
    assert all(SPACE.parse(SPACE.format(each)) == each for each in first)


def test_variation():
    rng, g = np.random.default_rng(0), SPACE.parse(TEXT)
    other = SPACE.parse("width=4,act=relu,scale=1.0,norm=False")
    assert SPACE.mutate(rng, g, m_prob=0.0) == g
    assert len({SPACE.mutate(rng, g, m_prob=0.5) for _ in range(50)}) > 8
    children = {SPACE.crossover(rng, g, other) for _ in range(200)}
    assert {g, other} < children
    assert len(children) == 16


def test_spaces_of_equal_fields_are_equal():
    assert small() == SPACE
    assert hash(small()) == hash(SPACE)
    assert small(num_classes=4) != SPACE
    told = json.loads(json.dumps(SPACE.describe()))
    assert told["choices"] == {name: list(values) for name, values in CHOICES.items()}
    assert told["build"] == f"{__name__}:build"


@pytest.mark.parametrize("mode", ["frozen", "through"])
def test_scores_are_the_networks_own(batch, mode):
    """Among them counts; also where each sample's gradient goes through the batch's statistics."""
    proxies = ("lswag", "nwot", "params", "macs")
    members = [SPACE.parse(TEXT), SPACE.parse(TEXT.replace("True", "False"))]
    table = lswag_jax.score(SPACE, members, *batch, proxies, batch_norm=mode, repeats=2)
    assert set(table.status) == {"ok"}
    for i, g in enumerate(members):
        for seed in (0, 1):
            variables = SPACE.extract(SPACE.init(jax.random.key(seed)), g)
            alone = lswag_jax.score_model(
                SPACE.build(g), variables, *batch, proxies, batch_norm=mode, seed=seed
            )
            for name in ("lswag", "nwot"):
                score = table.rows[i]["parts"][name]["score"][seed]
                assert score == pytest.approx(alone.rows[0]["parts"][name]["score"][0], rel=1e-5)
        assert table["params"][i] == alone["params"][0] == SPACE.num_params(g)
        assert table["macs"][i] == alone["macs"][0] == SPACE.macs(g) == 16 * 9 * 2 * 6 + 6 * 3
    weights = [SPACE.extract(SPACE.init(jax.random.key(s)), g)["params"] for s in (0, 1)]
    kernels = [w["Conv_0"]["kernel"] for w in weights]
    assert (kernels[0] != kernels[1]).all()


def test_many_proxies_and_float64(batch, x64):
    """Families of proxies are programs of their own; variables have the images' type."""
    images = batch.images.astype(float)
    g = SPACE.parse(TEXT)
    table = lswag_jax.score(SPACE, [g], images, batch.labels, ("snip", "synflow", "jacov"))
    variables = SPACE.extract(SPACE.init(jax.random.key(0)), g)
    alone = lswag_jax.score_model(
        SPACE.build(g), variables, images, batch.labels, ("snip", "synflow", "jacov")
    )
    for name in ("snip", "synflow", "jacov"):
        assert table[name][0] == pytest.approx(alone[name][0], rel=1e-9)


def test_a_network_is_compiled_once(batch):
    lswag_jax.scoring.clear_programs()
    g = SPACE.parse(TEXT)
    for _ in range(2):
        lswag_jax.score(SPACE, [g], *batch, "swap")
        assert lswag_jax.scoring.num_programs() == 1


def test_sequential_of_functions(batch):
    def build(g):
        layers = [layer for _ in range(g.depth) for layer in (nn.Conv(g.width, (3, 3)), nn.relu)]
        return nn.Sequential([*layers, lambda x: x.mean((1, 2)), nn.Dense(3)])

    space = small({"width": np.array([2, 4]), "depth": range(1, 3)}, build)
    members = [space.parse("width=4,depth=2"), space.parse("width=2,depth=1")]
    table = lswag_jax.score(space, members, *batch, ("swap", "params"))
    assert set(table.status) == {"ok"}
    assert table["params"][1] == 2 * 2 * 9 + 2 + 2 * 3 + 3


def names():
    return {"width": (4,)}


MISTAKES = {
    "no choices": (lambda: small({}), "choices must be a dictionary of names and their values"),
    "a list": (lambda: small([4]), "choices must be a dictionary"),
    "a ligature": (lambda: small({"\ufb01lters": (1,)}), "of a choice 'filters': do so, too"),
    "a name": (lambda: small({"a b": (1,)}), "name of a choice must be one of Python, got 'a b'"),
    "a taken name": (lambda: small({"to_json": (1,)}), "must not be called 'to_json'"),
    "one value": (lambda: small({"width": 4}), "values of width must be a sequence, got 4"),
    "a text": (lambda: small({"act": "relu"}), "values of act must be a sequence, got 'relu'"),
    "no value": (lambda: small({"width": ()}), "width must have values, all different, got []"),
    "twice": (lambda: small({"width": (1, True)}), "all different, got [1, True]"),
    "a layer": (lambda: small({"act": (nn.relu,)}), "value of act must be a number, True, False"),
    "infinite": (lambda: small({"a": (float("inf"),)}), "value of a must be a number"),
    "a comma": (lambda: small({"a": ("x,y",)}), "without , and =, got 'x,y'"),
    "no function": (lambda: small(build=None), "build of cnns must be a function, got None"),
    "size": (lambda: small(image_size=0), "image_size of cnns must be an integer from 1"),
    "text": (lambda: SPACE.parse("6"), "of cnns has the form width=4,act=relu,scale=0.5,norm="),
    "a choice twice": (lambda: SPACE.parse(f"{TEXT},width=4"), "has the form width=4,"),
    "unknown value": (lambda: SPACE.parse(TEXT.replace("6", "5")), "width of cnns must be of 4, 6"),
    "json": (lambda: SPACE.from_json({"width": 4}), "has the choices width, act, scale, norm"),
    "a bool": (
        lambda: SPACE.from_json(SPACE.parse(TEXT).to_json() | {"norm": 1}),
        "norm of cnns must be of True, False, got 1",
    ),
    "another's": (
        lambda: SPACE.check(small(names()).sample(np.random.default_rng(), 1)[0]),
        "cnns holds genotypes as its sample and parse give them, got",
    ),
    "a text for a genotype": (lambda: SPACE.check(TEXT), "norm=True' of type str"),
    "no module": (
        lambda: counted(lambda g: 3),
        "must return a Flax module (flax.linen), got a int",
    ),
    "build fails": (lambda: counted(lambda g: g.depth), "build of cnns fails for width=4: Attrib"),
    "does not run": (
        lambda: counted(lambda g: nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x @ x[0, 0]])),
        "network of width=4 of cnns cannot be run on images of shape (8, 8, 2)",
    ),
    "classes": (
        lambda: counted(lambda g: CNN(g.width, classes=5)),
        "must give logits [B, 3], as many as num_classes, got shape (1, 5) for one image",
    ),
    "scorer": (lambda: lswag_jax.make_scorer(SPACE), "no one program scores them"),
    "supernet": (lambda: lswag_jax.spaces.supernet_of(SPACE), "cnns has no super-network"),
    "rule": (lambda: SPACE.macs(SPACE.parse(TEXT), "naslib"), "rule must be 'exact'"),
}


def counted(build):
    space = small(names(), build)
    return space.num_params(space.parse("width=4"))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name):
    call, expected = MISTAKES[name]
    with pytest.raises(ValueError) as error:
        call()
    assert expected in message(error)


def _of_kind(g):
    """A network that works, or one that fails in one of the ways that networks do."""
    if g.kind == "no build":
        raise RuntimeError("too\nbad")
    if g.kind == "no run":
        return nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x @ x[0, 0]])
    number = 3 if g.kind == "no pixels" else 1
    convs = [nn.Conv(4, (3, 3), strides=2, padding="VALID") for _ in range(number)]
    act = [] if g.kind == "no activation" else [nn.relu]
    return nn.Sequential([*convs, *act, lambda x: x.mean((1, 2)), nn.Dense(3)])


FAILURES = {
    "no build": "build of kinds fails for kind=no build: RuntimeError: too bad.",
    "no run": "the network of kind=no run of kinds cannot be run on images of shape (8, 8, 2)",
    "no pixels": "gives an output without values: the images are too small for so many strides.",
    "no activation": "kind=no activation of kinds: no activation function was found",
}
KINDS = SimpleSpace(
    {"kind": (*FAILURES, "good")}, _of_kind, name="kinds", image_size=8, channels=2, num_classes=3
)


def test_networks_that_fail_are_rows(batch):
    """Nothing that was scored before or after them is lost."""
    genotypes = [KINDS.parse(f"kind={kind}") for kind in (*FAILURES, "good")]
    names = ("swap", "params", "memory")
    with pytest.warns(UserWarning, match="build of kinds fails for kind=no build") as told:
        table = lswag_jax.score(KINDS, genotypes, *batch, names)
    assert len([w for w in told if "kinds" in str(w.message)]) == 1
    assert list(table.statuses["swap"]) == ["error"] * 4 + ["ok"]
    for row, why in zip(table.rows, FAILURES.values(), strict=False):
        assert why in row["error"]
        assert "\n" not in row["error"]
    assert np.isnan(table["params"]).tolist() == [True, True, False, False, False]
    assert np.isnan(table["memory"]).tolist()[:2] == [True, True]
    assert table["memory"][4] > 0


def test_search_goes_round_networks_that_cannot_be_made(batch, tmp_path):
    """They are in no window of sizes; those that fail later rank below the others."""
    options = RandomOptions(num=3, params_window=(1, 1e6))
    call = functools.partial(search.run, KINDS, *batch, ("swap",), options, tmp_path)
    with pytest.warns(UserWarning, match="of kinds"):
        result = call(fitness=("swap",))
    assert sorted(result.table.ids) == ["kind=good", "kind=no activation", "kind=no pixels"]
    assert result.table.ids[result.best] == "kind=good"
    assert call(fitness=("swap",)).table.rows == result.table.rows  # of the archive


def test_windows_that_few_networks_meet_say_what_cannot_be_made(batch, tmp_path):
    options = RandomOptions(num=4, params_window=(1, 1e6), patience=50)
    with pytest.raises(ValueError, match=r"of 1,000 drawn cannot be made\.$"):
        search.run(KINDS, *batch, ("swap",), options, tmp_path / "a", fitness=("swap",))
    measured = RandomOptions(num=1, latency_window=(0, 1e-12), patience=50)
    names = ("swap", "latency")
    with pytest.raises(ValueError, match=r"or 100 that were measured, .* seconds of latency"):
        search.run(KINDS, *batch, names, measured, tmp_path / "b", fitness=("swap",))


@pytest.mark.parametrize("window", [None, (0.0, np.inf)])  # the binary's own, if none is asked for
def test_ranking_of_networks_of_unknown_size(batch, tmp_path, window):
    options = RandomOptions(num=5, params_window=window, macs_window=window)
    with pytest.warns(UserWarning, match="kinds"):
        result = search.run(KINDS, *batch, ("swap",), options, tmp_path, fitness=("swap",))
    assert result.table.ids[result.best] == "kind=good"
    with open(tmp_path / "ranking.csv") as file:
        sizes = [(row["params"], row["macs"]) for row in csv.DictReader(file)]
    assert sizes.count(("", "")) == 2
    told = run("report", str(tmp_path)).stdout
    assert "swap: 1 ok, 4 error" in told
    assert re.findall(r"^\| (\d+) .*`(kind=.*)` \|$", told, re.MULTILINE) == [("1", "kind=good")]
