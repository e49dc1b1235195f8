"""lswag-train: killed and continued it ends with the same weights; mistakes are one sentence."""

import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import lswag_jax
from lswag_jax import data
from lswag_jax.cli import common, train
from tests.helpers import ROOT

GENOTYPE = "24/1,2/3.5,4"


def command(config, workdir, *arguments):
    module = [sys.executable, "-m", "lswag_jax.cli.train", "--nocompile_cache"]
    return [*module, f"--config={config}", f"--workdir={workdir}", *arguments]


# The precision is that of the tests' own process.
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def run(config, workdir, *arguments):
    return subprocess.run(
        command(config, workdir, *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )


def run_here(config, workdir):
    """The same in this process, which has imported what it needs."""
    train.main(runpy.run_path(str(config))["get_config"](), str(workdir))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config of a tiny network with every random change that there is."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(
        "from lswag_jax.cli.default_train_config import default_train_config, shrink\n\n\n"
        "def get_config():\n"
        "    config = shrink(default_train_config('autoformer_tiny'))\n"
        "    config.space.update({'embed_dims': (12, 24), 'head_counts': (1, 2)})\n"
        "    config.space.update({'depths': (1, 2), 'head_dim': 8, 'relative_position': False})\n"
        f"    config.genotype = '{GENOTYPE}'\n"
        "    config.train.update({'drop_path': 0.1, 'checkpoint_every': 5, 'log_every': 1})\n"
        "    config.train.epochs = 3\n"
        "    config.augment.update({'crop': 'pad', 'flip': True, 'rand_augment': 1})\n"
        "    config.augment.update({'erase': 0.25, 'mixup': 0.8, 'cutmix': 1.0})\n"
        "    config.step.ema = 0.9\n"
        "    config.optimizer.clip_norm = 1.0\n"
        "    return config\n"
    )
    return path


def rows(workdir):
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


@pytest.mark.slow  # CI runs it; tests/training/test_loop.py stops and goes on within a process
def test_killed_and_continued(config, tmp_path):
    """SIGKILL between two checkpoints; the weights in the end are the same bytes."""
    run_here(config, tmp_path / "whole")
    killed = subprocess.Popen(
        command(config, tmp_path / "killed"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while len(rows(tmp_path / "killed")) < 12:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = rows(tmp_path / "killed")[-1]["step"]
    assert not (tmp_path / "killed" / "model").exists()
    run_here(config, tmp_path / "killed")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes(), f"killed after step {done}"
    strip = lambda row: {k: v for k, v in row.items() if k != "images_per_second"}  # noqa: E731
    kept = {row["id"]: strip(row) for row in rows(tmp_path / "killed")}
    assert kept == {row["id"]: strip(row) for row in rows(tmp_path / "whole")}
    check_model(tmp_path / "whole")
    other = runpy.run_path(str(config))["get_config"]()
    other.train.epochs = 4
    with pytest.raises(ValueError, match=r"differs in epochs \(3 there, 4 here\)"):
        train.main(other, str(tmp_path / "whole"))


def check_model(workdir):
    """The saved network predicts what was validated; both formats hold the same weights."""
    import orbax.checkpoint as ocp

    model = lswag_jax.load(workdir)
    assert model.space.format(model.genotype) == GENOTYPE
    _, held = data.hold_out(data.open_pool("embedded"), 0.1, seed=0)
    probabilities = model.predict([held.image(i) for i in range(held.size)])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    labels = [held.label(i) for i in range(held.size)]
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    assert abs(accuracy - model.metrics["top1"]) < 1e-6
    restored = ocp.StandardCheckpointer().restore((workdir / "model" / "orbax").resolve())
    head = restored["params"]["head"]["kernel"]
    np.testing.assert_array_equal(head, model.variables["params"]["head"]["kernel"])
    assert GENOTYPE in (workdir / "model" / "README.md").read_text()


def mistakes(folder):
    """Arguments of a mistaken command line and what the sentence must say."""
    (folder / "other.json").write_text('{"genotype": {"ops": ["none"]}}')
    (folder / "two.json").write_text(f'["{GENOTYPE}", "12/1/4"]')
    return {
        "no genotype": (("--config.genotype=",), "give a genotype"),
        "bad text": (("--config.genotype=13/1/4",), "embed_dim of autoformer_tiny must be one of"),
        "another space": ((f"--config.genotype={folder}/other.json",), "not of autoformer_tiny"),
        "two genotypes": ((f"--config.genotype={folder}/two.json",), "holds 2 genotypes"),
        "no file": (("--config.genotype=no.json",), "there is no genotype file no.json"),
        "more classes": (("--config.space.num_classes=3",), "has 10 classes, but the networks"),
        "bad crop": (("--config.augment.crop=centre",), "crop must be one of"),
        "no split": (("--config.data.eval_split=test",), "no split 'test' in embedded"),
        "batch": (("--config.train.batch_size=999",), "batch_size must be from 1 to the 461"),
        "no weights": (("--config.train.init=none.npz",), "there is no weights file none.npz"),
    }


@pytest.mark.slow
def test_mistakes_of_a_command_line(config, tmp_path):
    result = run(config, tmp_path / "out", "--config.genotype=")
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: give a genotype")


@pytest.mark.parametrize("name", mistakes(pathlib.Path("/tmp")))
def test_a_mistake_is_one_sentence(name, config, tmp_path):
    """In this process, which is quicker than ten of its own."""
    arguments, expected = mistakes(tmp_path)[name]
    loaded = runpy.run_path(str(config))["get_config"]()
    for argument in arguments:
        key, value = argument.removeprefix("--config.").split("=")
        *rooms, last = key.split(".")
        room = loaded
        for part in rooms:
            room = room[part]
        room[last] = type(room[last])(value)
    with pytest.raises(common.USER_ERRORS) as error:
        train.main(loaded, str(tmp_path / "out"))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "model").exists()
