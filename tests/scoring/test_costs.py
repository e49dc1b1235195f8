"""Latency and memory are of the exact network, and are columns like any other."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lswag_jax
from lswag_jax import proxies
from lswag_jax.proxies import Latency, Memory
from lswag_jax.runs.identity import describe
from lswag_jax.scoring import ScoreOptions, costs
from lswag_jax.scoring.table import ScoreTable
from tests.helpers.searches import SPACE, images

SMALL, LARGE = (SPACE.parse(text) for text in ("16/1/2", "24/2/3"))


def test_memory_is_of_weights_images_and_scratch():
    wanted = [Memory(), Memory(batch=8, label="eight")]
    memory = costs.measure(SPACE, SMALL, wanted)
    module, image = SPACE.build(SMALL), jnp.zeros((1, 8, 8, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    weights = sum(4 * leaf.size for leaf in jax.tree.leaves(variables))
    plan = jax.jit(module.apply).lower(variables, image).compile().memory_analysis()
    assert weights == 4 * SPACE.num_params(SMALL)
    held = weights + image.nbytes + 4 * 3 + plan.temp_size_in_bytes
    # The compiler rounds arguments up.
    assert memory["memory"] == pytest.approx(held, abs=256)
    assert memory["eight"] > memory["memory"] + 7 * image.nbytes
    # A CPU computes in float32 and converts, so what is smaller for certain are the arguments.
    program, arguments = costs._compile(SPACE, SMALL, 8, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(arguments)} == {jnp.dtype("bfloat16")}
    assert program(*costs._filled(arguments)).dtype == jnp.bfloat16


def test_memory_allocates_nothing():
    """What a device cannot hold is planned all the same; what a host cannot hold is NaN."""
    held = costs.measure(SPACE, SMALL, [Memory(batch=10**9, label="held")])["held"]
    assert np.isnan(held) or held > 10**9 * 8 * 8 * 3 * 4
    most = Latency(batch=10**12, runs=1)
    assert np.isnan(costs.measure(SPACE, SMALL, [most])["latency"])


def test_latency_is_the_median_of_the_timed_runs(monkeypatch):
    ticks = iter(np.cumsum([0, *[9, 0] * 3, 5, 0, 1, 0, 2]).tolist())
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(ticks))
    runs = []
    assert costs._seconds(lambda *_: runs.append(0) or 0, (), 3) == 2
    assert len(runs) == 6


def test_a_score_has_them_as_columns(tmp_path):
    names = ("params", Latency(runs=3), Memory(label="held"))
    table = lswag_jax.score(SPACE, [SMALL, LARGE], *images(), names)
    assert (table["latency"] > 0).all()
    assert table["held"][0] < table["held"][1]
    assert set(table.flat()) >= {"latency", "latency_status", "held", "held_status"}
    table.to_jsonl(tmp_path / "rows.jsonl")
    again = ScoreTable.from_jsonl(tmp_path / "rows.jsonl", table.proxies)
    assert again.flat() == table.flat()
    plain = lswag_jax.score(SPACE, [SMALL], *images(), "params")
    assert "costs" not in plain.rows[0]
    with pytest.raises(ValueError, match=r"row '16/1/2' of scores lacks latency\."):
        ScoreTable(plain.rows, proxies.resolve("latency"))


def test_what_the_device_cannot_run_has_no_score(monkeypatch, tmp_path):
    def fails(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(costs, "_seconds", fails)
    table = lswag_jax.score(SPACE, [SMALL], *images(), ("latency", "memory"))
    table.to_jsonl(tmp_path / "rows.jsonl")
    again = ScoreTable.from_jsonl(tmp_path / "rows.jsonl", table.proxies)
    for each in (table, again):
        assert each.statuses["latency"][0] == "nan"
        assert each.values("latency")[0] == -np.inf
        assert each.statuses["memory"][0] == "ok"


def test_they_are_in_no_group_and_of_no_model():
    assert not {"latency", "memory"} & set(proxies.expand(list(proxies.GROUPS)))
    assert proxies.get("latency", batch=2) == Latency(batch=2)
    with pytest.raises(ValueError, match=r"dtype of latency must be one of \('float32', "):
        proxies.get("latency", dtype="float64")
    with pytest.raises(ValueError, match="latency is measured of a space's networks alone"):
        lswag_jax.score_model(lambda p, x: x, {}, *images(), "latency")


def test_another_device_is_another_run():
    one = describe(SPACE, proxies.resolve(("params", "latency")), ScoreOptions())
    assert one["device"] == jax.local_devices()[0].device_kind
    assert one["proxies"]["latency"]["runs"] == 30
    assert "device" not in describe(SPACE, proxies.resolve("params"), ScoreOptions())


def test_agreed_costs_are_kept(monkeypatch):
    values = iter([0.25, 0.5, float("nan")])
    monkeypatch.setattr(costs, "measure", lambda *_: {"latency": next(values)})
    archive = []
    first = costs.Costs(SPACE, [Latency()], archive)
    assert [first.agreed(g)["latency"] for g in (SMALL, LARGE, SMALL)] == [0.25, 0.5, 0.25]
    assert first(LARGE) == {"latency": 0.5}
    other = SPACE.parse("16/1,1/2,3")
    assert np.isnan(first.agreed(other)["latency"])
    read = [json.loads(json.dumps(row).replace("NaN", '"NaN"')) for row in archive]
    again = costs.Costs(SPACE, [Latency()], read)
    assert [again.agreed(g)["latency"] for g in (SMALL, LARGE)] == [0.25, 0.5]
    assert np.isnan(again(other)["latency"])
    assert len(read) == 3
