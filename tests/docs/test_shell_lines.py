"""Every shell line of README and docs: run as printed or small, or, where what it needs is not
here (a benchmark's file, a cluster), checked down to its last key."""

import pathlib
import re
import runpy
import shlex

import numpy as np
import pytest
from PIL import Image

from lswag_jax.cli import configs
from tests.helpers import ROOT
from tests.helpers.binaries import run

PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
BINARIES = ("score", "profile", "search", "correlate", "libra", "train", "report")
SMALL = "--config.space.depths=(2,) "  # of 12 to 14 blocks, which take minutes to compile
TINY = SMALL + "--config.proxies=params,zico --config.search.epochs=1 --config.search.population=4 "
TINY += "--config.search.select=2 --config.search.crossover=2 --config.search.mutation=2 "
TINY += "--config.search.params_window=(0.0,9.0)"
COUNTS = SMALL + "--config.proxies=params,macs --config.score.num=12"
TWO = f"{TINY} --config.search.strategy=random --config.search.num=2 --config.proxies=params"
EPOCH = SMALL + "--config.train.epochs=1 --config.optimizer.warmup_epochs=0"

# Lines that are run, in this order and in one folder, and what makes each small; "" runs it as it
# is printed. A line is told by what it contains.
RUN = {
    "train.md": {
        "lswag-search --config=configs/quickstart.py --workdir=results/quickstart": TINY,
        "configs/train_fashion_mnist.py:quickstart --config.genotype=results": EPOCH,
        "--config.genotype=supernet": EPOCH,
        "--config.search.supernet=results/supernet": TINY,
    },
    "README.md": {
        ".venv/bin/python -m lswag_jax.cli.search": TINY,
    },
    "tutorial.md": {
        "lswag-score": f"{SMALL} --config.score.num=3",
        "lswag-search": f"{SMALL} --config.search.num=3 --config.search.params_window=(0.0,9.0)",
        "lswag-train": EPOCH,
        "lswag-correlate": SMALL,
        "lswag-libra": "",
        "lswag-report": "",
        "lswag-profile": f"{SMALL} --config.profile.num=3",
    },
    "outputs.md": {
        "lswag-report results/quickstart #": "",
        "lswag-report results/quickstart --by=": "--by=zico,params",
    },
    "data.md": {
        "lswag-score": "--config.proxies=params --config.score.num=3",
        "lswag-train": "--config.train.epochs=1",
    },
    "trust_a_score.md": {
        "--workdir=results/once": COUNTS,
        "--workdir=results/again": COUNTS,
        "--again=results/again": "",
    },
    "search.md": {
        "--config.search.strategy=evolution": TINY,
        "objectives=lswag,macs": f"{TWO} --config.search.objectives=+params,macs",
        "objectives=lswag,latency": f"{TWO} --config.search.objectives=+params,latency "
        "'--config.search.latency_window=(0.0, 9999.0)'",
    },
}
# Lines that are not run by a test, and why; those of our binaries are checked key by key.
NEEDS = {
    "pip install": "the network",
    "-m pytest": "this is that",
    ".venv/bin/activate": "an environment",
    "zc_nasbench201.json": "a benchmark's file",
    "nasbench201.csv.gz": "a benchmark's file",
    "nasbench301.csv.gz": "a benchmark's file",
    "vitbench.csv": "a benchmark's file",
    "vitbench101_autoformer.csv": "a benchmark's file",
    "transnas.csv.gz": "a benchmark's file",
    "cifar100.npz": "a data set",
    "cifar10.npz": "a data set",
    "gcloud": "a TPU pod",
    "srun": "a Slurm cluster",
    "sbatch": "a Slurm cluster",
    "#SBATCH": "a Slurm cluster",
    "--trained=": "trained networks",
    "million": "a Slurm cluster",
    "autoformer.py:small": "hours",
    "=my_": "files of one's own; tests/cli/test_own.py calls all binaries with such",
    "run.py vit_tasks": "hours; tests/training/test_vit_tasks.py runs small ones",
    " detection --": "minutes; tests/training/test_detection.py runs small ones",
    "--distributed": "two hosts; tests/runs/test_processes.py runs such a job",
}


def lines(page: str) -> list[str]:
    """Shell lines of a page: those of `sh` blocks, and indented ones that begin with a binary."""
    text = PAGES[page].replace("\\\n", " ")
    found = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    found += re.findall(r"(?m)^    ((?:lswag-|python )\S.*)$", text)
    return [re.sub(r" +", " ", line).strip() for line in found if line.strip()]


def is_comment(line: str) -> bool:
    return line.startswith("#") and not line.startswith("#SBATCH")


ALL = [(page, line) for page in PAGES for line in lines(page) if not is_comment(line)]


def what_is_done(page: str, line: str) -> list[str]:
    return [key for key in (*RUN.get(page, ()), *NEEDS) if key in line]


@pytest.mark.parametrize(("page", "line"), ALL)
def test_every_line_is_run_or_says_why_not(page, line):
    assert what_is_done(page, line), line


@pytest.mark.parametrize(
    ("page", "key"), [(page, key) for page, entries in RUN.items() for key in entries]
)
def test_no_entry_is_left_over(page, key):
    assert any(key in line for line in lines(page))


def ours(line: str) -> list[str]:
    """Arguments of the binary of ours that a line calls, its name first; none if it calls none."""
    match = re.search(r"(?:lswag-|lswag_jax\.cli\.)(\w+) (.*)", line)
    if not match or match[1] not in BINARIES or "..." in line:
        return []
    arguments = match[2].partition(" #")[0].split('"')[0]
    return [match[1], *shlex.split(arguments)]


@pytest.mark.parametrize(("page", "line"), [pair for pair in ALL if ours(pair[1])])
def test_configs_and_keys_are_there(page, line):
    binary, *flags = ours(line)
    if binary == "report":
        return
    (config,) = [flag for flag in flags if flag.startswith("--config=")]
    path, _, variant = configs.find(config.removeprefix("--config=")).partition(":")
    values = runpy.run_path(str(ROOT / path))["get_config"](variant)
    assert binary in values or (binary == "train" and "train" in values)
    for flag in flags:
        if flag.startswith("--config."):
            room = values
            for key in flag.partition("=")[0].split(".")[1:]:
                assert key in room, flag
                room = room[key]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Where the lines are run, with a folder of photos of two classes."""
    folder, rng = tmp_path_factory.mktemp("shell"), np.random.default_rng(0)
    for i in range(80):
        path = folder / "photos" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "key"), [(page, key) for page, keys in RUN.items() for key in keys]
)
def test_line_runs(page, key, folder):
    line = next(line for line in lines(page) if key in line)
    binary, *flags = [*ours(line), *shlex.split(RUN[page][key])]
    flags = [re.sub(r"(^|=)(results|photos)(/|$)", rf"\1{folder}/\2\3", flag) for flag in flags]
    run(binary, *flags)
    workdir = next((flag[10:] for flag in flags if flag.startswith("--workdir=")), folder)
    assert any(pathlib.Path(workdir).iterdir())
