"""The house: imports go downwards, in no circle, and `import lswag_jax` loads nothing heavy."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

import lswag_jax

PACKAGE = pathlib.Path(lswag_jax.__file__).parent
# From the ground up; rooms of one floor do not know each other.
FLOORS = (
    ("extras", "options"),
    ("arrays", "detection", "files", "marks", "own"),
    ("tasks",),
    ("data",),
    ("spaces",),
    ("capture",),
    ("probe",),
    ("proxies",),
    ("scoring",),
    ("runs",),
    ("search", "training", "analysis"),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, pathlib.Path]:
    """Every module of the package by its dotted name below `lswag_jax`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if name not in ("", "_moved")}


def imports(path: pathlib.Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports, also inside of functions.

    Imports for type checkers alone do not count: they never run.
    """
    found, tree = set(), ast.parse(path.read_text())
    unused = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lswag_jax"):
            base = node.module.removeprefix("lswag_jax").lstrip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".lstrip(".")
                found.add(name if name in known else base)
    return found - {""}


def test_every_module_is_in_a_room():
    assert {name.partition(".")[0] for name in modules()} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_import_goes_upwards(name):
    room = name.partition(".")[0]
    for other in imports(modules()[name], set(modules())):
        above = other.partition(".")[0]
        assert above == room or FLOOR[above] < FLOOR[room], f"{name} imports {other}"


def test_no_import_circle():
    found = modules()
    # A package's own file stands for its members, which may not import it in turn.
    graph = {name: imports(path, set(found)) - {name} for name, path in found.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_import_is_light():
    heavy = ("matplotlib", "pyarrow", "orbax", "grain", "PIL", "ml_collections", "safetensors")
    heavy += ("scipy.stats", "tensorflow_datasets", "lswag_jax.training", "lswag_jax.analysis")
    code = f"import sys, lswag_jax; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_old_paths_still_load_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"is now lswag_jax\.analysis\.tables"):
        from lswag_jax.tables import GroundTruth
    assert GroundTruth.__module__ == "lswag_jax.analysis.tables"
