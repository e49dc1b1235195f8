"""Networks trained together are those trained alone; a killed benchmark goes on."""

import csv
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lswag_jax.analysis import tables
from lswag_jax.spaces import AutoFormer
from lswag_jax.training import benchmark, loop, step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.input_pipeline import Pipeline
from lswag_jax.training.optimizer import OptimizerOptions, make_optimizer, make_schedule
from lswag_jax.training.runner import TrainOptions
from tests.helpers import ROOT, training

SPACE = AutoFormer(
    "bench", (12, 24), (1, 2), (2.0, 3.0), (1, 2), head_dim=8, image_size=8, patch_size=4,
    channels=1, num_classes=4, relative_position=False,
)  # fmt: skip
GENOTYPES = [SPACE.parse(text) for text in ("12/1/2", "24/2,1/3,2", "24/1/3")]
OPTIONS = TrainOptions(
    epochs=2,
    batch_size=16,
    optimizer=OptimizerOptions(3e-3, clip_norm=0.5),
    augment=AugmentOptions(crop="pad", smoothing=0.1),
)

FASHION = ROOT / "benchmarks" / "fashion_vits"
POOLS = (training.pool(), training.pool(seed=1))


def run(workdir, genotypes=GENOTYPES, at_once=2, **fields):
    return benchmark.make_benchmark(
        SPACE, genotypes, {"noise": POOLS}, OPTIONS, workdir, at_once=at_once, **fields
    )


class Finished(NamedTuple):
    """A benchmark that was trained to its end."""

    folder: pathlib.Path
    rows: list[dict]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("benchmark")
    return Finished(folder, run(folder))


def test_together_is_alone(finished):
    """The curve of one is that of `build(g)` on extracted weights, trained by the loop."""
    g = GENOTYPES[1]
    problem = benchmark.make_problem(SPACE, g, POOLS[0], OPTIONS, "dataset")
    schedule = make_schedule(OPTIONS.optimizer, 6, 3)
    optimizer = make_optimizer(OPTIONS.optimizer, schedule)
    init_key, key = jax.random.split(jax.random.key(0))
    variables = SPACE.extract(SPACE.init(init_key), g)
    pipelines = [Pipeline(pool, 8, 1, 16, OPTIONS.augment) for pool in POOLS]
    rows = []
    loop.fit(
        step.init_state(variables, optimizer, OPTIONS.step),
        jax.jit(
            step.make_train_step(problem, optimizer, OPTIONS.augment, OPTIONS.step),
            donate_argnums=0,
        ),
        pipelines[0].training,
        key,
        loop.LoopOptions(6, 3, 3, 3, 3),
        schedule=schedule,
        evaluate=loop.make_evaluate(step.make_eval_step(problem), pipelines[1].validation),
        metrics=loop.Metrics(rows),
    )
    row = finished.rows[1]
    evals = [r for r in rows if r["id"].startswith("eval")]
    np.testing.assert_allclose(row["loss"], [r["loss"] for r in evals], rtol=1e-4)
    np.testing.assert_allclose(row["accuracy"], [r["top1"] for r in evals], atol=1e-6)


def test_goes_on_after_a_kill(finished, tmp_path):
    """With the rows that were written; a half-written one is trained again, with its group."""
    folder, rows = finished.folder, finished.rows
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text(lines[0] + lines[1][:30])
    again = run(tmp_path)
    assert [row["id"] for row in again] == [row["id"] for row in rows]
    for a, b in zip(again, rows, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    assert json.loads(lines[0]) == again[0]
    with pytest.raises(ValueError, match="another config, which differs in genotypes"):
        run(tmp_path, GENOTYPES[:2])


def test_table(finished):
    folder, rows = finished.folder, finished.rows
    with open(folder / "table.csv") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["genotype", "dataset", "metric", "value", "provenance"]
    for row in rows:
        (value,) = (
            float(line["value"])
            for line in table
            if (line["genotype"], line["metric"]) == (row["genotype"], "accuracy")
        )
        assert value == row["accuracy"][-1]
    broken = rows[0] | {"accuracy": [float("nan")] * 2}
    benchmark.write_table([broken, *rows[1:]], folder / "broken.csv", "a test")
    with open(folder / "broken.csv") as file:
        lines = [r for r in csv.DictReader(file) if r["genotype"] == broken["genotype"]]
    assert {r["metric"] for r in lines if not r["value"]} > {"accuracy", "accuracy_seed0"}


def test_table_of_the_repository():
    """Our trained networks are read as any ground truth; genotypes differ more than seeds do."""
    recipe = json.loads(FASHION.with_suffix(".json").read_text())
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe["space"].items()}
    space = AutoFormer(**fields)
    table = tables.read(FASHION.with_suffix(".csv"), space)
    seeds = [table.values("fashion_mnist", f"accuracy_seed{seed}") for seed in recipe["seeds"]]
    accuracy = table.values("fashion_mnist", "accuracy")
    np.testing.assert_allclose(accuracy, np.mean(seeds, axis=0))
    sizes = [space.num_params(space.parse(text)) for text in table.genotypes]
    np.testing.assert_array_equal(table.values("fashion_mnist", "params"), sizes)
    assert accuracy.std(ddof=1) > 3 * np.sqrt(np.var(seeds, axis=0, ddof=1).mean())


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="genotypes must be distinct"):
        run(tmp_path, GENOTYPES[:1] * 2)
    with pytest.raises(
        ValueError, match="at_once of make_benchmark must be an integer of at least 1"
    ):
        run(tmp_path, at_once=0)
