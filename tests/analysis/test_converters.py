"""Converters on the published files: rows, failures, and the correlations that others found."""

import functools
import json

import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.analysis import correlation, tables
from lswag_jax.analysis.converters import CONVERTERS, convert

NBSZ = {  # file: space, rows, failures of one column, a value
    "early725_nasbench201": ("nasbench201", 725, ("ImageNet16-120", "epe_nas", 9)),
    "early725_nasbench301": ("darts", 725, None),
    "early725_transbench101_macro": ("transnas_macro", 725, ("jigsaw", "epe_nas", 319)),
    "early725_transbench101_micro": ("transnas_micro", 711, ("jigsaw", "jacov", 20)),
    "first500_nasbench201": ("nasbench201", 491, ("cifar10", "jacov", 7)),
    "first500_nasbench301": ("darts", 500, None),
}
# data/README.md: Spearman of the published values, of those that have the same name there.
PROXIES = "epe_nas fisher flops grad_norm grasp jacov l2_norm nwot params plain snip synflow"
RHOS = {
    ("early725_nasbench201", "cifar10"):
        ".667 .509 .711 .606 .539 .766 .725 .787 .738 -.257 .609 .736",
    ("early725_nasbench201", "cifar100"):
        ".420 .555 .722 .648 .552 .725 .748 .814 .744 -.268 .658 .762",
    ("early725_nasbench201", "ImageNet16-120"):
        ".103 .524 .694 .615 .514 .727 .738 .795 .715 -.256 .612 .759",
    ("early725_nasbench301", "cifar10"):
        "-.019 -.302 .482 -.016 .296 -.041 .524 .555 .523 -.298 -.035 .216",
    ("early725_transbench101_micro", "normal"):
        "- .225 .675 .405 .056 .754 .537 .605 .664 .005 .515 -",
    ("early725_transbench101_macro", "jigsaw"):
        "- -.264 .700 -.281 -.301 .057 .198 .785 .227 -.252 -.188 -",
}  # fmt: skip


@pytest.fixture(scope="module")
def nbsz(shared_data):
    @functools.cache
    def load(name: str):
        path = shared_data / "tables" / f"nbsz_{name}.csv.gz"
        return convert("nbsz_csv", path, spaces.get(NBSZ[name][0]))

    return load


@pytest.mark.parametrize("name", NBSZ)
def test_rows_and_failures(name, nbsz):
    table = nbsz(name)
    _, rows, failures = NBSZ[name]
    assert len(table) == rows
    assert not table.duplicates
    if failures:
        *key, count = failures
        assert table.failures[tuple(key)] == count
    else:
        assert not table.failures
    assert {c.provenance for c in table.columns.values()} == {
        f"NAS-Bench-Suite-Zero: nbsz_{name}.csv.gz"
    }


@pytest.mark.parametrize(("name", "dataset"), RHOS)
def test_published_correlations(name, dataset, nbsz):
    table = nbsz(name)
    truth = table.values(dataset, "val_accuracy", "drop")
    for proxy, rho in zip(PROXIES.split(), RHOS[name, dataset].split(), strict=True):
        if rho != "-":
            values = table.values(dataset, proxy)
            known = ~np.isnan(truth) & ~np.isnan(values)
            found = correlation.spearman(values[known], truth[known])
            assert found == pytest.approx(float(rho), abs=6e-4), proxy


def test_edges_are_in_the_right_order(nbsz, shared_data):
    """NASLib's tuples list edges by source, the benchmark's strings by target."""
    space, early = spaces.get("nasbench201"), nbsz("early725_nasbench201")
    path = shared_data / "tables" / "nasbench201.csv.gz"
    whole = convert("nasbench201_csv", path, space)
    assert len(whole) == 15_625
    assert whole.failures["cifar10", "freerea_naswot"] == 201
    assert np.nanmax(whole.values("cifar100", "test_accuracy")) == pytest.approx(73.51, abs=0.005)
    joined, match = early.join(whole)
    assert str(match) == "725 of 725 genotypes matched"
    a, b = (joined.values("cifar10", m, "drop") for m in ("val_accuracy", "test_accuracy"))
    assert correlation.spearman(a, b) > 0.97
    # The same table as if its tuples listed edges by target.
    order = [0, 1, 3, 2, 4, 5]

    def wrong(text):
        g = space.parse(text)
        return space.format(type(g)([g.ops[i] for i in order]))

    records = [
        r._replace(genotypes=[wrong(text) for text in r.genotypes])
        for r in early.records()
        if r.dataset == "cifar10"
    ]
    with pytest.raises(ValueError, match=r"rho 0\.7\d\): is the order of edges of one wrong"):
        tables.GroundTruth.from_records(records).join(whole)


def test_nasbench101(shared_data):
    """Suite-Zero's unpruned encodings join the whole benchmark, whose cells have another order."""
    space = spaces.get("nasbench101")
    whole = convert("nasbench101_npz", shared_data / "tables" / "nasbench101_full.npz", space)
    assert len(whole) == 423_624
    assert whole.values("cifar10", "mean_test_acc_108").max() == pytest.approx(0.9432, abs=5e-5)
    some = convert("nbsz_csv", shared_data / "tables" / "nbsz_first500_nasbench101.csv.gz", space)
    assert len(some) == 301  # of 500 rows: cells that are equal when pruned
    assert len(some.duplicates) == 46
    joined, match = some.join(whole, space)
    assert not match.unmatched
    for ours, theirs, unit in (
        ("params_M_nb101", "params_M", 1),
        ("test_acc_108_mean", "mean_test_acc_108", 100),
    ):
        known = unit * joined.values("cifar10", theirs)
        np.testing.assert_allclose(joined.values("cifar10", ours), known, rtol=1e-6)


def test_vision_transformers(shared_data):
    path = shared_data / "tables" / "vitbench101_autoformer.csv"
    table = convert("vitbench_csv", path, spaces.get("vitbench_autoformer"))
    assert table.failures == {("flowers", "kd_acc"): 1}
    params = table.values("cifar100", "params")
    for dataset, metric, rho in (("cifar100", "base_acc", -0.472), ("cifar100", "kd_acc", 0.717),
                                 ("chaoyang", "kd_acc", 0.447)):  # fmt: skip
        found = correlation.spearman(params, table.values(dataset, metric))
        assert found == pytest.approx(rho, abs=6e-4)


@pytest.mark.parametrize(("size", "rows", "rho"), [("tiny", 1001, 0.635), ("small", 501, 0.94)])
def test_super_networks(shared_data, size, rows, rho):
    path = shared_data / "tables" / "autoformer_supernet_imagenet.csv"
    table = convert("autoformer_csv", path, spaces.get(f"autoformer_{size}"))
    assert len(table) == rows
    columns = (table.values("imagenet", m) for m in ("params_M", "top1_inherited"))
    assert correlation.spearman(*columns) == pytest.approx(rho, abs=0.006)


def test_suite_zero_json(tmp_path):
    """Both releases: scores as numbers under the space's name, or as objects without it."""
    space, path = spaces.get("nasbench201"), tmp_path / "zc_nasbench201.json"
    arch, other = "(4, 3, 3, 0, 0, 0)", "(4, 3, 3, 0, 0, 1)"
    first = {arch: {"jacov": -1e8, "val_accuracy": 68.3}}
    path.write_text(json.dumps({"nasbench201": {"cifar100": first}}))
    table = convert("nbsz_json", path, space)
    assert table.genotypes == [
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    ]
    assert table.failures == {("cifar100", "jacov"): 1}
    row = {"id": 5, "nwot": {"score": 7.5, "time": 0.1}, "val_accuracy": 70.0}
    path.write_text(json.dumps({"cifar10": {arch: row, other: {"val_accuracy": 1.0}}}))
    table = convert("nbsz_json", path, space)
    assert table.metrics("cifar10") == ("nwot", "val_accuracy")
    np.testing.assert_array_equal(table.values("cifar10", "nwot"), [7.5, np.nan])


def test_autoprox_json(tmp_path):
    path, space = tmp_path / "gt_autoformer.json", spaces.get("vitbench_autoformer")
    arch = {"hidden_dim": 192, "depth": 12, "num_heads": [3] * 12, "mlp_ratio": [4.0] * 12}
    path.write_text(json.dumps([{"arch": arch, "c100_kd_acc": 76.1, "flower_kd_acc": 48.6}]))
    table = convert("autoprox_json", path, space)
    assert table.values("cifar100", "kd_acc").tolist() == [76.1]
    assert table.failures == {("flowers", "kd_acc"): 1}
    path.write_text(json.dumps([{"arch": {"base_dim": 16}}]))
    with pytest.raises(ValueError, match="an AutoFormer architecture has hidden_dim"):
        convert("autoprox_json", path, space)


def test_nasgraph_csv(tmp_path):
    """NAS-Bench-201 names its cells; TransNAS-Bench-101's rows have an order, macro's unknown."""
    path = tmp_path / "nasbench201_cifar100.csv"
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    path.write_text(f"file id,arch str,train accuracy,validation accuracy,test accuracy\n"
                    f"0,{text},90,70.5,71\n")  # fmt: skip
    table = convert("nasbench201_csv", path, spaces.get("nasbench201"))
    assert table.values("cifar100", "validation_accuracy").tolist() == [70.5]
    micro = spaces.get("transnas_micro")
    path = tmp_path / "transbench101_jigsaw.csv"
    rows = "\n".join(f"{i},{2 * i},{i},9,{i}" for i in range(7352))
    path.write_text(f"train_top1,valid_top1,valid_loss,time_elapsed,file_id\n{rows}\n")
    table = convert("transnas_csv", path, micro)
    assert table.metrics("jigsaw") == ("train_top1", "valid_top1")
    place = table.genotypes.index("64-41414-1_02_333")
    expected = 3256 + int("102333", 4)
    assert table.values("jigsaw", "train_top1")[place] == expected
    with pytest.raises(ValueError, match="got transnas_macro"):
        convert("transnas_csv", path, spaces.get("transnas_macro"))
    path.write_text("valid_top1\n1\n")
    with pytest.raises(ValueError, match="must have all 7352 rows"):
        convert("transnas_csv", path, micro)


@pytest.mark.parametrize("name", CONVERTERS)
def test_another_file_is_refused(name, tmp_path):
    path = tmp_path / ("x.json" if "json" in name else "x.npz" if "npz" in name else "x.csv")
    space = spaces.get("nasbench201" if name != "transnas_csv" else "transnas_micro")
    with pytest.raises(FileNotFoundError, match="there is no table"):
        convert(name, path, space)
    if path.suffix == ".npz":
        np.savez(path, a=1)
    else:
        path.write_text('{"a": 1}' if path.suffix == ".json" else "a,b\n1,2\n")
    with pytest.raises(ValueError) as error:
        convert(name, path, space)
    assert str(path) in str(error.value)


def test_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind of table 'nbsz', known are nbsz_json"):
        convert("nbsz", tmp_path / "x.csv", spaces.get("nasbench201"))
