"""A wrong argument of the API is a ValueError of one sentence that names it."""

import inspect
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

import lswag_jax
from lswag_jax import data, files, marks, proxies, search, spaces, tasks
from lswag_jax.analysis import (
    calibration,
    converters,
    correlation,
    correlation_parts,
    information,
    layer_kinds,
    plots,
    report,
    tables,
    window,
)
from lswag_jax.analysis import weighted_tau as tau
from lswag_jax.scoring import Fitness, Objectives, ScoreTable
from lswag_jax.search import PruningOptions, RandomOptions
from lswag_jax.training import model_files
from tests.helpers.batches import message
from tests.helpers.spaces import WIDE

IMAGES = np.random.default_rng(0).normal(size=(6, *WIDE.image_shape)).astype("float32")
LABELS = np.arange(6) % 3
GENOTYPES = WIDE.sample(np.random.default_rng(0), 2)


class Net(nn.Module):
    """A convolution and a head."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


VARIABLES = Net().init(jax.random.key(0), IMAGES)


def score(**changed):
    given = {"space": WIDE, "genotypes": GENOTYPES, "images": IMAGES, "labels": LABELS}
    return lswag_jax.score(**given | {"proxies": "params"} | changed)


def score_model(**changed):
    given = {"module": Net(), "variables": VARIABLES, "images": IMAGES, "labels": LABELS}
    return lswag_jax.score_model(**given | {"proxies": "swap"} | changed)


def load_batch(**changed):
    return data.load_batch(**{"source": "embedded", "batch_size": 8} | changed)


def space(**changed):
    return spaces.get("autoformer_tiny", **changed)


def cell(**changed):
    return spaces.get("nasbench201", **changed)


def run(**changed):
    given = {"space": WIDE, "images": IMAGES, "labels": LABELS, "proxies": "params"}
    given |= {"options": RandomOptions(num=2), "workdir": "/nowhere", "fitness": "params"}
    return search.run(**given | changed)


ARGUMENTS = {
    score: ("space", "genotypes", "images", "labels", "proxies", "seed", "repeats", "precision"),
    score_model: ("module", "variables", "images", "proxies", "seed", "precision", "batch_norm"),
    load_batch: ("source", "split", "seed", "balanced", "normalize", "label_key", "download"),
    space: ("image_size", "patch_size", "channels", "num_classes", "embed_dims", "depths"),
    cell: ("width", "cells", "image_size", "channels", "num_classes"),
    run: ("space", "images", "labels", "proxies", "options", "workdir", "fitness"),
}


@pytest.mark.parametrize("value", [None, 3.5, "x"])
@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f, names in ARGUMENTS.items() for name in names]
)
def test_a_wrong_type(function, name, value):
    if (name, value) in (("split", "x"), ("label_key", "x"), ("workdir", "x"), ("source", "x")):
        pytest.skip("a text that may be meant")
    with pytest.raises(ValueError) as error:
        function(**{name: value})
    message(error)


TABLE = ScoreTable([], proxies.resolve("params"))
RESULT = search.SearchResult(TABLE, np.zeros(0))
POOL = data.open_pool("embedded")
# Functions, and arguments that they take; each is then changed.
FUNCTIONS = {
    "score's program": (lswag_jax.make_scorer, {"space": WIDE, "proxies": "swap"}),
    "explain": (
        lswag_jax.explain_model,
        {"module": Net(), "variables": VARIABLES, "images": IMAGES},
    ),
    "a loaded model": (lswag_jax.load, {"path": "nowhere"}),
    "torch": (lswag_jax.from_torch, {"module": Net(), "state_dict": {}}),
    "a table of scores": (ScoreTable, {"rows": [], "proxies": TABLE.proxies}),
    "values": (TABLE.values, {"proxy": "params", "nan_policy": "drop"}),
    "a CSV file": (TABLE.to_csv, {"path": "x.csv"}),
    "a fitness": (Fitness, {"proxies": ("params",), "rule": "rank_sum", "flipped": ()}),
    "a parsed fitness": (Fitness.parse, {"spec": "params", "rule": "rank_sum"}),
    "a search": (
        search.search,
        {"space": WIDE, "evaluate": iter, "options": RandomOptions(), "archive": []},
    ),
    "total": (search.total, {"space": WIDE, "options": RandomOptions()}),
    "results": (search.write_results, {"result": RESULT, "workdir": "x"}),
    "random options": (
        RandomOptions,
        {"num": 2, "shard": None, "params_window": None, "macs_window": None, "patience": 3},
    ),
    "pruning options": (PruningOptions, {"prune_number": 1, "decimals": None}),
    "a super-network": (spaces.supernet_of, {"space": spaces.get("nasbench201")}),
    "arrays": (
        data.make_batch,
        {"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.arange(4), "batch_size": 2}
        | {"seed": 0, "balanced": True, "channels": 3, "normalize": "unit", "source": "mine"},
    ),
    "a pool": (data.open_pool, {"source": "embedded", "split": "train", "download": False}),
    "held out": (data.hold_out, {"pool": POOL, "share": 0.1, "seed": 0}),
    "statistics": (data.statistics, {"pool": POOL, "channels": 1, "normalize": "unit"}),
    "a task": (tasks.Task, {"name": "mine", "outputs": 3, "target": "class", "tiles": 1}),
    "classes": (tasks.classification, {"num_classes": 3}),
    "a correlation": (correlation.spearman, {"x": [1, 2], "y": [1, 2], "undefined": 0.0}),
    "bins": (information.discretise, {"values": [1, 2], "n_bins": 2, "bins": "equal_freq"}),
    "merged": (proxies.merge.merge, {"values": np.ones((2, 3)), "rule": "rank_sum"}),
    "truth": (tables.read, {"path": "x.csv", "space": None}),
    "converted": (converters.convert, {"name": "x", "path": "x", "space": WIDE}),
    "calibrated": (calibration.calibrate, {"scores": [1, 2], "accuracies": [1, 2], "level": 0.8}),
    "weighted tau": (tau.weighted_tau, {"x": [1, 2], "y": [1, 2]}),
    "a summary": (report.summary, {"scores": {"a": [1, 2]}, "truth": [1, 2], "n": 0, "seed": 0}),
    "a grid": (report.grid, {"rows": [{"proxy": "a", "dataset": "b", "rho": 1.0}]}),
    "ranks": (plots.ranks, {"scores": [1, 2], "truth": [1, 2]}),
    "panels": (plots.rank_panels, {"panels": [{"scores": [1, 2], "truth": [1, 2]}]}),
    "a heat map": (
        plots.heat_map,
        {"proxies": ["a"], "datasets": ["b"], "values_KxD": [[1.0]]},
    ),
    "averages": (plots.averages, {"proxies": ["a"], "datasets": ["b"], "values_KxD": [[1.0]]}),
    "fitness by evaluation": (plots.best_so_far, {"fitness": [1, 2], "generations": [0, 1]}),
    "curves": (plots.training, {"train": [{"epoch": 1, "loss": 2.0}]}),
    "a figure's file": (plots.save, {"figure": plots.best_so_far([1.0]), "path": "x.png"}),
    "a marked layer": (marks.layer, {"function": np.matmul, "x": IMAGES, "kernel": IMAGES}),
    "a marked activation": (marks.activation, {"function": np.tanh, "x": IMAGES}),
    "a window": (window.parse, {"spec": "1,2", "rule": "zero_based"}),
}
MAY_BE = {"path", "source", "split", "name", "workdir", "spec", "proxies", "state_dict"}  # any text
OPTIONAL = {"batch_size", "channels", "spec"}


@pytest.mark.parametrize("value", [None, 3.5, "x", [None], {}], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_argument_of_a_function(name, value):
    """Each argument by itself, unless it may be such a value."""
    function, good = FUNCTIONS[name]
    for key, there in good.items():
        kinds = (list, tuple) if isinstance(value, list) else type(value)
        fits = key in MAY_BE if isinstance(value, str) else isinstance(there, kinds)
        if there is None or fits or (value is None and key in OPTIONAL):
            continue
        with pytest.raises(ValueError) as error:
            function(**good | {key: value})
        text = message(error)
        assert key in text or repr(value) in text


SPACES = {
    "autoformer": WIDE,
    "nasbench201": spaces.get("nasbench201", width=4, cells=1, image_size=8),
    "nasbench101": spaces.get("nasbench101", image_size=8),
    "darts": spaces.get("darts", layers=3, width=1),
    "transnas_micro": spaces.get("transnas_micro"),
    "transnas_macro": spaces.get("transnas_macro"),
    "supernet": spaces.supernet_of(spaces.get("nasbench201", width=4, cells=1, image_size=8)),
    "simple": spaces.SimpleSpace({"width": (4, 8)}, lambda g: Net(), image_size=8, num_classes=3),
}
METHODS = ("check", "format", "parse", "from_json", "sample", "sample_one", "mutate", "crossover")
METHODS += ("plan", "num_params", "macs", "encode", "build", "chain", "extract")


@pytest.mark.parametrize("value", [None, 3.5, [None]], ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPACES)
def test_a_wrong_argument_of_a_space(name, method, value):
    """Each argument by itself; the others are as they should be."""
    space, rng = SPACES[name], np.random.default_rng(0)
    first, second = space.sample(rng, 2)
    good = {"g": first, "a": first, "b": second, "rng": rng, "n": 1, "text": space.format(first)}
    good |= {"data": first.to_json(), "genotypes": [first], "variables": {}, "rule": "exact"}
    good |= {"m_prob": 0.2, "s_prob": 0.4, "form": "darts"}
    call = getattr(space, method)
    if name == "simple" and method == "build":
        pytest.skip("the user's own function")
    for key in inspect.signature(call).parameters:
        arguments = {k: good[k] for k in inspect.signature(call).parameters}
        with pytest.raises(ValueError) as error:
            call(**arguments | {key: value})
        message(error)


ROW = {"id": "a", "genotype": {}, "params": 1, "macs": 1, "seconds": 0.0}
TABLES = ScoreTable([ROW], TABLE.proxies)
MODEL = model_files.Model(WIDE, GENOTYPES[0], {}, (0.5,), (0.5,), "pad", (), {}, {})
OTHERS = {
    "a genotype alone": (lambda: score(genotypes=GENOTYPES[0]), "genotypes of score must be a seq"),
    "a text for a genotype": (lambda: score(genotypes=["x"]), "genotype"),
    "a negative seed": (lambda: score(seed=-1), "seed must be an integer from 0"),
    "a long seed": (lambda: score(seed=10**20), "seed must be an integer from 0"),
    "an empty batch": (lambda: score(images=IMAGES[:0], labels=LABELS[:0]), "the batch is empty"),
    "under jit": (lambda: jax.jit(lambda x: score(images=x))(IMAGES), "use lswag_jax.make_scorer"),
    "a jitted model": (lambda: jax.jit(lambda x: score_model(images=x))(IMAGES), "traced by jit"),
    "other channels": (lambda: score_model(images=IMAGES[..., :1]), "cannot be run on inputs of"),
    "no mini-batches": (
        lambda: score(images=IMAGES[:3], labels=LABELS[:3], proxies="gsnr"),
        "gsnr cuts the gradient batch into 8 equal mini-batches, which 3 samples do not give",
    ),
    "half a mini-batch": (
        lambda: score_model(images=IMAGES[:3], labels=LABELS[:3], proxies=("lswag", "zico")),
        "zico cuts the gradient batch into 2 equal mini-batches, which 3 samples do not give",
    ),
    "an unknown space": (lambda: spaces.get([]), "unknown search space"),
    "no model": (lambda: lswag_jax.load(None), "path of load must be a string or a path, got None"),
    "no folder": (lambda: lswag_jax.load("nowhere"), "there is no trained network in nowhere"),
    "no mapping": (lambda: run(config=3), "config of run must be a mapping or None, got 3"),
    "a missing argument": (lambda: lswag_jax.score(WIDE), "score: missing a required argument"),
    "too many genotypes": (lambda: WIDE.sample(np.random.default_rng(0), -1), "n of sample must"),
    "no probability": (
        lambda: WIDE.mutate(np.random.default_rng(0), GENOTYPES[0], m_prob=float("nan")),
        "m_prob of mutate must be a number from 0 to 1, got nan",
    ),
    "an infinite gene": (
        lambda: WIDE.from_json({"embed_dim": np.inf, "num_heads": [1], "mlp_ratio": [2.0]}),
        "embed_dim must be integers",
    ),
    "devices": (lambda: score(devices=3), "devices must be a sequence of Device objects or None"),
    "nothing to encode": (lambda: WIDE.encode([]), "genotypes of encode must be at least one"),
    "no field": (lambda: TABLES.column("x"), "the rows have no field 'x', they have id, genotype"),
    "no proxy": (lambda: TABLES[[]], "the table has no proxy"),
    "no table": (lambda: Fitness("params")(None), "table of Fitness must be a ScoreTable"),
    "no scores": (lambda: Fitness("params").merge({"a": [1]}), "must have 'params', got a"),
    "no array": (lambda: tasks.classification(3).check(None, [0]), "images must be an array, got"),
    "rows without ids": (lambda: ScoreTable([{}], TABLE.proxies), "lacks id, params, macs"),
    "no image": (lambda: MODEL.predict([]), "there is no image to predict"),
    "no images": (lambda: MODEL.predict(None), "image 0 of the input must be a path"),
    "objectives": (lambda: Objectives.parse(3.5), "spec of parse must be a string or a sequence"),
    "no objective": (lambda: Objectives.parse([None]), "spec of parse must be a string or a"),
    "no workdir": (lambda: run(workdir="", proxies="params"), "workdir is empty"),
    "an absurd image": (lambda: space(image_size=10**20), "image_size of autoformer_tiny must be"),
    "an absurd width": (lambda: cell(width=10**6), "width of nasbench201 must be an integer"),
    "an absurd choice": (lambda: space(embed_dims=(10**20,)), "embed_dims of autoformer_tiny must"),
    "absurd repeats": (lambda: score(repeats=10**20), "repeats must be an integer from 1 to 1000"),
    "64 bits": (lambda: RandomOptions(num=10**20), "num must be an integer from 1 to"),
    "an absurd gene": (
        lambda: WIDE.from_json({"embed_dim": 10**20, "num_heads": [1], "mlp_ratio": [2.0]}),
        "embed_dim of wide must be one of",
    ),
    "absurd bins": (
        lambda: correlation_parts.within_bins([1, 2], [1, 2], [1, 2], 10**12),
        "bins of within_bins must be an integer from 1 to 100000",
    ),
    "absurd edges": (lambda: information.discretise([1, 2], 10**12), "n_bins of discretise must"),
    "no labels": (lambda: information.entropy([]), "labels must be arrays of one length"),
    "labels of two lengths": (
        lambda: information.information_gain([0, 1], [0, 1], [0, 1, 2]),
        "labels must be arrays of one length",
    ),
    "bytes": (lambda: space(embed_dims=b"x"), "embed_dims of autoformer_tiny must be a tuple"),
    "a flag for a number": (lambda: tasks.Task("mine", 3, "class", True), "tiles of mine must"),
    "a certain level": (lambda: calibration.fewest(1.0), "level must be in (0, 1), got 1.0"),
    "lengths of a tau": (lambda: tau.weighted_tau([1, 2], [1, 2, 3]), "must have one shape"),
    "NaN in a tau": (lambda: tau.weighted_tau([1, 2], [1, np.nan]), "must not hold NaN"),
    "a strange statistic": (
        lambda: report.grid([{"proxy": "a", "dataset": "b", "rho": 1.0}], "tau"),
        "a row has no 'tau', it has proxy, dataset, rho",
    ),
    "an empty report": (lambda: report.grid([]), "there are no rows of a report"),
    "lengths of ranks": (lambda: plots.ranks([1, 2, 3], [1, 2]), "truth must have 3 values"),
    "a strange panel": (lambda: plots.rank_panels([{"x": 1}]), "a panel has scores, truth, name"),
    "sizes of a heat map": (
        lambda: plots.heat_map(["a"], ["b"], [[1.0, 2.0]]),
        "values_KxD must have a row for each of 1 proxies and a column for each of 1 data sets",
    ),
    "an empty heat map": (lambda: plots.heat_map([], [], []), "at least one proxy and one data"),
    "a member of no front": (
        lambda: plots.front({"macs": [1], "a": [1]}, "macs", "a", [3]),
        "each of members must be an index below 1, got 3",
    ),
    "a row without a loss": (lambda: plots.training([{"epoch": 1}]), "a row of train lacks loss"),
    "kinds in a reversed window": (
        lambda: layer_kinds.layer_kinds(WIDE, GENOTYPES[0], (9, 1)),
        "window must hold bins 0 <= first <= last <= 9",
    ),
    "an option that has no hash": (
        lambda: marks.layer(np.matmul, IMAGES, IMAGES, axis=[1]),
        "a marked function and its options must be hashable",
    ),
    "NaN for a peak": (lambda: window.pick([1.0, 2.0], float("nan")), "tau of pick must be a num"),
    "half a window": (lambda: RandomOptions(params_window=(None, 3)), "params_window must"),
    "a file for a folder": (lambda: run(workdir=__file__), "is a file, not a folder"),
    "no character of a folder": (lambda: run(workdir="a\0b"), "holds a null character"),
    "no file": (lambda: TABLES.to_csv(""), "a file needs a name, got '.'"),
    "a reversed window": (lambda: RandomOptions(params_window=(9, 1)), "params_window must"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_mistakes(name):
    call, expected = OTHERS[name]
    kinds = (ValueError, TypeError, FileNotFoundError)
    with pytest.raises(kinds, match=re.escape(expected)) as error:
        call()
    message(error)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """Not the temporary one, and not "None"; the file that was there stays."""
    path = tmp_path / "rows.json"
    files.write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        files.write_atomically(path, "new")
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.json"]
