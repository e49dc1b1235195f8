"""What a tabular benchmark knows of the networks found."""

import numpy as np
import pytest

from lswag_jax import spaces
from lswag_jax.analysis import lookup, tables

SPACE = spaces.get("nasbench201")
NONE, CONV = (f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|" for op in ("none", "nor_conv_3x3"))
ACCURACIES = {"a": 90.0, "b": 94.0, "c": 95.0, "d": 94.0}


def test_rank_and_top():
    rows = [{"id": "a"}, {"id": "b"}, {"id": "b"}, {"id": "z"}]
    found = lookup.look_up(rows, np.array([1.0, 3.0, 3.0, 2.0]), ACCURACIES)
    # Best by fitness is b, tied with d below c; z is unknown and b counts once.
    assert found == lookup.Found(94.0, 2, 4, 92.0, 1, "b", 0)
    assert lookup.look_up([{"id": "z"}], np.ones(1), ACCURACIES) is None


def test_the_best_may_not_be_there():
    found = lookup.look_up([{"id": "z"}, {"id": "a"}], np.array([2.0, 1.0]), ACCURACIES)
    assert (found.accuracy, found.id, found.better) == (90.0, "a", 1)


def test_isomorphic_cells():
    """A cell that the benchmark lists in another order of its vertices."""
    space = spaces.get("nasbench101")
    listed, found = "conv3x3~0|conv1x1~0|output~1,2", "conv1x1~0|conv3x3~0|output~1,2"
    rows, fitness = [{"id": space.format(space.parse(found))}], np.ones(1)
    assert lookup.look_up(rows, fitness, {listed: 0.9}) is None
    assert lookup.look_up(rows, fitness, {listed: 0.9}, space=space).accuracy == 0.9


def test_read(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(f"arch,acc\n{NONE},10.0\n{CONV},\n")
    assert lookup.read(str(path), SPACE, "arch", "acc") == {NONE: 10.0}
    with pytest.raises(ValueError, match="has no column 'top1', it has arch, acc"):
        lookup.read(str(path), SPACE, "arch", "top1")
    path.write_text("arch,acc\n|what~0|,10.0\n")
    with pytest.raises(ValueError):
        lookup.read(str(path), SPACE, "arch", "acc")


def test_read_a_table(tmp_path):
    path = tmp_path / "truth.parquet"
    records = tables.Records("cifar10", "acc", [NONE, CONV], [10.0, -1e8], "here")
    tables.GroundTruth.from_records([records]).write(path)
    assert lookup.read(str(path), SPACE, "cifar10", "acc") == {NONE: 10.0}
    with pytest.raises(ValueError, match="no 'top1' on cifar10, it has acc"):
        lookup.read(str(path), SPACE, "cifar10", "top1")


def test_the_whole_benchmark(shared_data):
    """Rank 1 is the published best, 94.37 % on CIFAR-10."""
    path = str(shared_data / "tables" / "nasbench201.csv.gz")
    truth = lookup.read(path, SPACE, "arch_str", "cifar10_test200")
    assert len(truth) == 15_625
    best = max(truth, key=truth.get)
    found = lookup.look_up([{"id": best}], np.ones(1), truth)
    assert (found.rank, found.total, found.missing) == (1, 15_625, 0)
    assert found.accuracy == pytest.approx(94.37, abs=0.01)
