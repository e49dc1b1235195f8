"""One process with several devices, simulated on the CPU, scores as one device does."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy.stats import rankdata

import lswag_jax
from lswag_jax.scoring.devices import Devices, compiler_options
from tests.helpers.searches import SPACE, images
from tests.helpers.workers import COUNTS, GENOTYPES, finish, start


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    output = tmp_path_factory.mktemp("devices") / "found.json"
    finish([start("devices", output)])
    return json.loads(output.read_text())


@pytest.mark.parametrize("count", COUNTS[1:])
def test_scores_and_ranking_are_those_of_one_device(found, count):
    """11 genotypes: the last chunk of each number of devices is padded."""
    one, several = found["1"], found[str(count)]
    assert several["ids"] == one["ids"] == [SPACE.format(g) for g in GENOTYPES]
    for name, scores in one["scores"].items():
        np.testing.assert_allclose(several["scores"][name], scores, rtol=1e-5, err_msg=name)
        ranks = rankdata(several["scores"][name]), rankdata(scores)
        np.testing.assert_array_equal(*ranks, err_msg=name)
    assert len(set(one["scores"]["lswag"])) > 5


def test_one_trace_for_each_number_of_devices(found):
    """And all devices, the default, are the eight."""
    assert [found[str(n)]["traced"] for n in COUNTS] == [1, 2, 3]
    assert found["None"] == found["8"]


@pytest.mark.parametrize(("number", "processes", "each"), [(1, 1, 4), (2, 3, 2), (3, 2, 1)])
def test_parts_of_a_round_are_the_round(number, processes, each):
    workers = [Devices(("device",) * number, processes, p) for p in range(processes)]
    assert {w.total for w in workers} == {number * processes}
    for size in range(each * number * processes + 1):
        parts = [w.own(list(range(size)), each) for w in workers]
        assert [i for part in parts for i in part] == list(range(size))
        assert max(map(len, parts)) <= each * number
    alone = [w.one_each() for w in workers]  # as chains run
    assert [w.own(list(range(processes)), 1) for w in alone] == [[p] for p in range(processes)]


@pytest.mark.parametrize("devices", [[], ()])
def test_bad_devices_are_refused(devices):
    with pytest.raises(ValueError, match=r"devices must be some of this process, got \[\]\.$"):
        lswag_jax.score(SPACE, GENOTYPES, *images(), "params", devices=devices)


def test_import_starts_no_backend():
    code = (
        "import lswag_jax, lswag_jax.search, lswag_jax.cli.score\n"
        "from jax._src import distributed, xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "assert distributed.global_state.client is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiler_options(monkeypatch):
    """On a CPU, unless the user's flags say a level."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert compiler_options() == {"xla_backend_optimization_level": 1}
    assert (
        jax.jit(jax.numpy.sin, compiler_options=compiler_options()).lower(1.0).compile()(0.0) == 0.0
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert compiler_options() is None
