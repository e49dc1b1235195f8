"""Benchmarks: each has a name and a line, their results are data, and pages show what they hold."""

import ast
import datetime
import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

FOLDER = ROOT / "benchmarks"
RESULTS = sorted((FOLDER / "results").glob("*.json"))
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem != "run" and "\ndef main()" in path.read_text()
)


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import tables

    yield tables
    tables.shown.clear()


def call(*arguments, folder=ROOT):
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_without_a_name_it_says_which_there_are():
    lines = call().stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    for line in lines:
        assert line.split(maxsplit=1)[1].endswith(".")
    unknown = call("speeds")
    assert unknown.returncode == 2
    assert "no benchmark 'speeds'" in unknown.stdout


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_import_what_there_is(name, monkeypatch):
    """They take hours: here only every name that they take from the package is looked up."""
    monkeypatch.syspath_prepend(FOLDER)
    source = (FOLDER / f"{name}.py").read_text()
    if "\nimport torch\n" in source:
        pytest.importorskip("torch")
    module = __import__(name)
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        owner = getattr(module, node.value.id, None)
        if getattr(owner, "__name__", "").startswith(("lswag_jax", "tables")):
            assert hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_where_they_come_from(path):
    result = json.loads(path.read_text())
    assert datetime.date.fromisoformat(result["date"]) > datetime.date(2026, 11, 1)
    assert result["command"].startswith("python ")
    assert result["hardware"]
    assert "jax" in result["versions"]
    for table in result["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert len(row) == len(table["columns"])


@pytest.mark.parametrize(
    ("page", "marks"), [("README.md", 1), ("benchmarks/RESULTS.md", 5), ("docs/results.md", 40)]
)
def test_pages_are_made_of_the_results(page, marks, tables):
    text = (ROOT / page).read_text()
    assert page in tables.PAGES
    assert text.count("<!-- table: ") >= marks
    assert tables.rewritten(text) == text, "run `python benchmarks/run.py tables`"


def test_results_are_short():
    assert len((FOLDER / "RESULTS.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_table_is_on_the_page_of_all(path):
    page = (ROOT / "docs" / "results.md").read_text()
    for table in json.loads(path.read_text())["tables"]:
        assert f"<!-- table: {path.stem}: {table['title']} -->" in page


def test_shown_tables_are_kept_and_printed(tables, capsys):
    rows = [{"proxy": "lswag", "rho": 0.25, "interval": (0.1, 0.4)}]
    rows.append({"proxy": "params", "rho": None, "interval": None})
    tables.show("some", rows, {"rho": 2}, n=3)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "some",
        "",
        "| proxy | rho | interval |",
        "|---|---|---|",
        "| lswag | 0.25 | [0.100, 0.400] |",
        "| params |  |  |",
    ]
    (table,) = json.loads(json.dumps(tables.shown))
    assert table["n"] == 3
    assert table["rows"] == [["lswag", 0.25, [0.1, 0.4]], ["params", None, None]]
