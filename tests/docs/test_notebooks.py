"""The notebooks run on small data, and their first cell prepares any machine."""

import glob
import json
import pathlib
import subprocess
from importlib import metadata

import jax
import pytest

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))


def first_cell(path: pathlib.Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


FIRST = first_cell(NOTEBOOKS[0])


def test_one_place_for_what_a_reader_sets():
    for path in NOTEBOOKS:
        assert first_cell(path) == FIRST
        assert path.read_text(encoding="utf-8").count('"SMALL = ') == 2  # False, or the variable's


@pytest.fixture
def installed(monkeypatch):
    """Arguments of pip and the constraints it was given, where the package is missing."""
    found = []

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    def run(command, **_):
        found.append((command, pathlib.Path(command[-1]).read_text().splitlines()))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(subprocess, "run", run)
    return found


def run_first(source: str = "") -> None:
    exec(FIRST.replace('SOURCE = ""', f'SOURCE = "{source}"'), {})


@pytest.mark.parametrize("source", ["", "git+https://host/owner/lswag_jax", "."])
def test_installs_beside_the_jax_of_the_image(source, installed, monkeypatch):
    monkeypatch.chdir(ROOT / "colabs")
    run_first(source)
    ((command, kept),) = installed
    here = f"{ROOT}[all]" if not source else f"{ROOT / 'colabs'}[all]"
    assert command[1:6] == ["-m", "pip", "install", "-q", command[5]]
    assert command[5] == (f"lswag_jax[all] @ {source}" if "git" in source else here)
    assert f"jax=={jax.__version__}" in kept
    assert not any(line.startswith(("jaxtyping", "flax")) for line in kept)


def test_no_source_is_a_sentence(installed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="there is no lswag_jax in the folders above: set SOURCE"):
        run_first()
    with pytest.raises(SystemExit, match=r"there is no lswag_jax in x\.whl"):
        run_first("x.whl")
    assert installed == []


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("", "JAX sees no accelerator and runs on the CPU: choose another runtime"),
        ("/dev/nvidia0", 'see the GPU of this machine: run %pip install "jax[cuda12]=='),
        ("/dev/accel0", 'see the TPU of this machine: run %pip install "jax[tpu]=='),
    ],
)
def test_an_accelerator_that_jax_does_not_see(device, expected, monkeypatch, capsys):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(glob, "glob", lambda pattern: [device] * (device[:8] == pattern[:8]))
    run_first()
    assert expected in capsys.readouterr().out
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    run_first()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, monkeypatch, tmp_path):
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("LSWAG_SMALL", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
