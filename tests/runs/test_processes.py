"""Two real processes on this machine, and independent workers of which one is killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import lswag_jax
from lswag_jax.cli import score, search
from lswag_jax.cli.default_config import default_config, shrink
from lswag_jax.runs import Shard
from lswag_jax.search import RandomOptions
from tests.helpers.searches import ROOT, SPACE, images, run_real, without_seconds
from tests.helpers.workers import GENOTYPES, JOB, PROCESSES, finish, start

CONFIG = """
from tests.runs.test_processes import tiny


def get_config():
    return tiny()
"""


def tiny():
    """A config of tiny networks, with proxies that compile quickly."""
    config = shrink(default_config("autoformer_tiny", channels=1, num_classes=10))
    config.space.update({"embed_dims": (12, 24), "head_counts": (1, 2)})
    config.space.update({"depths": (1, 2), "head_dim": 8, "relative_position": False})
    config.space.mlp_ratios = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)  # enough networks to be killed among
    config.proxies, config.search.fitness = "nwot,swap,params", "nwot"
    config.score.num = 120
    return config


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG)
    return path


def coordinator():
    """An address with a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def binary(name, config_file, workdir, *arguments):
    command = [sys.executable, "-m", f"lswag_jax.cli.{name}", "--nocompile_cache"]
    command += [f"--config={config_file}", f"--workdir={workdir}", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def rows(workdir):
    lines = (workdir / "archive.jsonl").read_text().splitlines()
    return without_seconds(map(json.loads, lines))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What each of two processes found."""
    folder, address = tmp_path_factory.mktemp("job"), coordinator()
    outputs = [folder / f"{i}.json" for i in range(PROCESSES)]
    finish([start("job", path, address, i) for i, path in enumerate(outputs)])
    return [json.loads(path.read_text()) for path in outputs]


def test_processes_score_as_one_does(job):
    assert job[0]["rows"] == job[1]["rows"]  # seconds too: each row is of one process
    table = lswag_jax.score(SPACE, GENOTYPES, *images(), JOB)
    shared = lswag_jax.ScoreTable(job[0]["rows"], table.proxies)
    assert shared.ids == table.ids
    for name in table:
        np.testing.assert_allclose(shared[name], table[name], rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(shared.rank(name), table.rank(name), err_msg=name)
    assert job[0]["alone"] == job[1]["alone"] == [1, 1]


def test_a_failure_in_one_process_is_a_row_in_all(job):
    assert job[0]["failed"] == job[1]["failed"]
    failed = ["error" in row for row in job[0]["failed"]]
    assert failed == [False, True, False]  # process 1 has the second
    assert job[0]["failed"][1]["error"] == "RESOURCE_EXHAUSTED: out of memory"


def test_long_texts_are_exchanged_in_blocks(job):
    expected = [{"process": 0, "text": ""}, {"process": 1, "text": "x" * 100}]
    assert job[0]["long"] == job[1]["long"] == expected


def test_the_first_process_writes_and_errors_reach_all(job, tmp_path):
    whole = run_real(tmp_path, RandomOptions(num=3))
    assert job[0]["run"] == job[1]["run"]
    assert [row["id"] for row in job[0]["run"]] == whole.table.ids
    assert job[0]["other run"] == job[1]["other run"]
    assert "search.seed (0 there, 1 here)" in job[0]["other run"]
    for found in job:
        assert found["other process"] == "process 1 has another config or data than process 0."


@pytest.mark.slow  # CI runs it; parts are proven above and in tests/search/test_resume.py
def test_evolution_by_two_processes_goes_on_where_one_was_stopped(config_file, tmp_path):
    """The command of a job, in the folder of an interrupted run: the archive ends the same."""
    whole, job = tmp_path / "whole", tmp_path / "job"
    search.main(tiny(), str(whole))
    job.mkdir()
    shutil.copy(whole / "config.json", job)
    archive = (whole / "archive.jsonl").read_bytes()
    (job / "archive.jsonl").write_bytes(archive[: archive.index(b"\n") * 5 // 2])
    flags = ["--distributed", f"--coordinator={coordinator()}", f"--num_processes={PROCESSES}"]
    ids = [f"--process_id={i}" for i in range(PROCESSES)]
    finish([binary("search", config_file, job, *flags, i) for i in ids])
    assert len(rows(whole)) == 12
    assert [row["id"] for row in rows(job)] == [row["id"] for row in rows(whole)]
    best = [json.loads((path / "best.json").read_text()) for path in (job, whole)]
    assert best[0]["id"] == best[1]["id"]
    assert best[0]["score"] == pytest.approx(best[1]["score"], rel=1e-5)


def test_killed_shard_goes_on_and_the_union_is_the_uninterrupted_run(config_file, tmp_path):
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    worker = binary("score", config_file, shards, "--shard=0/2")
    path, deadline = shards / "shard-0-of-2" / "archive.jsonl", time.monotonic() + 400
    while time.monotonic() < deadline and worker.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.002)
    worker.kill()
    assert worker.wait() == -signal.SIGKILL
    kept = path.read_bytes().count(b"\n")
    for k in range(2):
        score.main(tiny(), str(shards), Shard(k, 2))
        assert not (shards / f"shard-{k}-of-2" / "scores.csv").exists()
    score.main(tiny(), str(shards))
    score.main(tiny(), str(whole))
    number = len(rows(whole))
    assert 5 <= kept < len(rows(path.parent)) == -(-number // 2)
    assert rows(shards) == rows(whole)
    # Nothing was evaluated twice: rows are the shards', with their seconds.
    merged = (shards / "archive.jsonl").read_text().splitlines()
    for k in range(2):
        shard = (shards / f"shard-{k}-of-2" / "archive.jsonl").read_text().splitlines()
        assert merged[k::2] == shard
    assert (shards / "scores.csv").exists()
