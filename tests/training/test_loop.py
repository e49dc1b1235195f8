"""The loop: where it goes on, when it stops, what it writes, and on how many devices."""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from lswag_jax.training import loop, step
from lswag_jax.training.augment import AugmentOptions
from lswag_jax.training.checkpoints import Checkpoints
from lswag_jax.training.input_pipeline import Pipeline
from lswag_jax.training.step import StepOptions
from tests.helpers import ROOT
from tests.helpers.batches import message
from tests.helpers.training import Linear, pool

OPTIONS = loop.LoopOptions(12, 6, log_every=2, eval_every=6, checkpoint_every=3)
AUGMENT = AugmentOptions(crop="pad", mixup=0.5, smoothing=0.1)


def fit(rows, checkpoints=None, rate=0.02, batches=None, options=OPTIONS, devices=None):
    """A training of a linear classifier on 48 images in batches of 8."""
    problem = step.Problem(Linear(), 4, (0.5,), (0.25,))
    optimizer = optax.adamw(rate)
    variables = problem.module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    pipeline = Pipeline(pool(), 8, 1, 8, AUGMENT)
    return loop.fit(
        step.init_state(variables, optimizer, StepOptions(ema=0.5)),
        jax.jit(
            step.make_train_step(problem, optimizer, AUGMENT, StepOptions(ema=0.5)),
            donate_argnums=0,
        ),
        batches or pipeline.training,
        jax.random.key(1),
        options,
        schedule=lambda _: rate,
        evaluate=loop.make_evaluate(step.make_eval_step(problem), pipeline.validation, devices),
        metrics=loop.Metrics(rows),
        checkpoints=checkpoints,
        devices=devices,
    )


@functools.cache
def whole():
    rows = []
    return fit(rows), rows


def test_it_learns_and_writes():
    (state, found), rows = whole()
    assert int(state.step) == 12
    assert found["loss"] < rows[0]["loss"]
    assert found["top1"] > 0.25
    assert [row["id"] for row in rows] == [
        *("train 2", "train 3", "train 4", "train 6", "eval 6"),
        *("train 8", "train 9", "train 10", "train 12", "eval 12"),
    ]
    assert rows[-1]["top1"] == found["top1"]
    assert rows[3]["epoch"] == 1


def test_a_stopped_training_goes_on_bit_by_bit(tmp_path):
    """It stops by an image that cannot be read, after a step between two checkpoints."""

    def broken(start):
        for i, batch in enumerate(Pipeline(pool(), 8, 1, 8, AUGMENT).training(start), start):
            if i == 8:
                raise ValueError("cannot read the image x.png: it is broken.")
            yield batch

    rows = []
    with Checkpoints(tmp_path, {"run": 1}) as checkpoints:
        with pytest.raises(ValueError, match=r"x\.png"):
            fit(rows, checkpoints, batches=broken)
        assert rows[-1]["id"] == "train 8"
        state, found = fit(rows, checkpoints)
    (expected, expected_found), expected_rows = whole()
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    assert found == expected_found
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {row["id"] for row in expected_rows}


def test_a_finished_training_only_validates(tmp_path):
    with Checkpoints(tmp_path, {"run": 1}) as checkpoints:
        fit([], checkpoints)
        _, found = fit([], checkpoints, batches=lambda _: iter(()))
    assert found == whole()[0][1]


def test_checkpoints_of_another_run_are_refused(tmp_path):
    with Checkpoints(tmp_path, {"run": 1}) as checkpoints:
        fit([], checkpoints)
    with (
        Checkpoints(tmp_path, {"run": 2}) as checkpoints,
        pytest.raises(ValueError, match="holds checkpoints of another run") as error,
    ):
        fit([], checkpoints)
    message(error)


def test_divergence_stops_with_step_loss_and_learning_rate(tmp_path):
    def poisoned(start):
        for i, batch in enumerate(Pipeline(pool(), 8, 1, 8, AUGMENT).training(start), start):
            image = batch["image"].astype(np.float32)
            yield batch | {"image": image * (np.nan if i == 4 else 1)}

    with (
        Checkpoints(tmp_path, {}) as checkpoints,
        pytest.raises(
            ValueError, match=r"diverged at step 4: loss nan, .*, learning rate 0.02"
        ) as error,
    ):
        fit([], checkpoints, batches=poisoned)
    message(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    """Files may not grow beyond a size, as on a full disk; in a process of its own."""
    script = f"""
import resource, sys
import jax, numpy as np
from lswag_jax.training.checkpoints import Checkpoints
with Checkpoints({str(tmp_path)!r}, {{}}) as checkpoints:
    checkpoints.save(1, {{"w": jax.numpy.ones(8)}})
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
        checkpoints.save(2, {{"w": jax.random.normal(jax.random.key(0), (100_000,))}})
    except OSError as error:
        assert "\\n" not in str(error) and "earlier ones stay" in str(error), error
        print("refused")
with Checkpoints({str(tmp_path)!r}, {{}}) as checkpoints:
    print(checkpoints.restore({{"w": jax.numpy.zeros(8)}}))
"""
    output = run_script(script)
    assert "refused" in output
    assert "'w': Array([1., 1., 1., 1., 1., 1., 1., 1.]" in output


def test_four_devices_give_what_one_gives():
    script = """
import jax
from tests.training import test_loop as t
from lswag_jax.training import loop
print(len(jax.devices()))
rows = []
state, found = t.fit(rows, devices=loop.Devices(8))
print(state.params["head"]["bias"].sharding.num_devices, found["top1"], found["loss"])
try:
    loop.Devices(6)
except ValueError as error:
    print(error)
"""
    lines = run_script(script, "--xla_force_host_platform_device_count=4").splitlines()
    assert lines[0] == "4"
    devices, top1, loss = lines[1].split()
    assert devices == "4"
    expected = whole()[0][1]
    assert float(top1) == expected["top1"]
    np.testing.assert_allclose(float(loss), expected["loss"], rtol=1e-5)
    assert lines[2].startswith("batch_size over accumulate must be a multiple of the 4 devices")


def run_script(script: str, flags: str = "") -> str:
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
