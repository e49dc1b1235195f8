"""What `score` does not need is an extra, and a sentence names it where it is missing."""

import ast
import pathlib
import sys
import tomllib
import typing

import pytest
from packaging.version import Version

import lswag_jax
from lswag_jax import extras, files

PACKAGE = pathlib.Path(lswag_jax.__file__).parent
PROJECT = PACKAGE.parent / "pyproject.toml"
LOWEST = PACKAGE.parent / ".ci" / "lowest.txt"
# What `pip install lswag_jax` brings: its dependencies, and what Flax itself imports.
HARD = {"flax", "jax", "numpy", "scipy"} | {"absl", "optax"}
CHECKED_ONCE = {"cli": {"ml_collections", "rich"}}  # by the __init__.py of the room
USERS = {"equinox"}  # of whom a model comes has the package that made it


def guarded(tree: ast.Module) -> set[ast.AST]:
    """Imports inside of `with extra(...)`."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    calls = [(block, block.items[0].context_expr) for block in blocks]
    return {
        node
        for block, call in calls
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "extra"
        for node in ast.walk(block)
    }


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_optional_imports_name_their_extra(path):
    tree = ast.parse(path.read_text())
    room = path.relative_to(PACKAGE).parts[0]
    free = HARD | sys.stdlib_module_names | {"lswag_jax"} | CHECKED_ONCE.get(room, set())
    free |= USERS if room == "capture" else set()
    for node in set(ast.walk(tree)) - guarded(tree):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert name.partition(".")[0] in free, f"line {node.lineno} imports {name}"


def test_extras_are_those_of_the_package():
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert set(typing.get_args(extras.Extra)) <= set(project["optional-dependencies"])
    assert len(project["dependencies"]) == 4


def test_a_missing_package_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError) as error:
        files.write_parquet(tmp_path / "a.parquet", {"a": [1]})
    assert str(error.value) == "the package pyarrow is missing: pip install 'lswag_jax[analysis]'."


def test_the_lowest_versions_are_those_that_are_allowed():
    """`.ci/lowest` tries the floors of what score, the binaries and training need."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    needed = list(project["dependencies"])
    for name in ("analysis", "cli", "data", "train"):
        needed += project["optional-dependencies"][name]
    texts = [text.partition(";")[0] for text in needed if not text.startswith("lswag_jax")]
    floors = {name: Version(lowest) for name, _, lowest in (t.partition(">=") for t in texts)}
    lines = [line for line in LOWEST.read_text().splitlines() if not line.startswith("#")]
    pinned = {name: Version(lowest) for name, _, lowest in (t.partition("==") for t in lines)}
    assert pinned == floors
    accelerators = [project["optional-dependencies"][name][0] for name in ("cuda12", "tpu")]
    jax = next(text.partition(">=")[2] for text in needed if text.startswith("jax>="))
    assert {text.partition(">=")[2] for text in accelerators} == {jax}
