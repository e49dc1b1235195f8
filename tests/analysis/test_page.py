"""The page of a report: whole, escaped, in one file, and sorted by a real browser."""

import base64
import json
import re

import numpy as np
import pytest

from lswag_jax.analysis import plots
from lswag_jax.analysis.page import Picture, Table, render
from tests.helpers.pages import Page, browser, rendered

EVIL = "<script>alert('&')</script>$title"
COLUMNS = {
    "swap": [9.5, float("nan"), 100.25, None, -np.inf, np.float64(1e-7), np.int64(1200)],
    EVIL: ["b", "a2", "a10", EVIL, "d", "ü", "z"],
    "network": ["x" * 60] * 7,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    figure = plots.best_so_far([1.0, 3.0, 2.0])
    page = render(
        f"run {EVIL}",
        ["3 networks", EVIL],
        [Picture(figure, EVIL), Picture(figure, "twice")],
        [Table("Scores", COLUMNS, EVIL), Table("Empty", {"a": [], "b": []})],
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def test_every_table_row_and_picture_is_there(path):
    page = Page(path.read_text(encoding="utf-8"))
    scores, empty = page.tables
    assert scores[0] == list(COLUMNS)
    assert [row[0] for row in scores[1:]] == ["9.5", "nan", "100.25", "", "-inf", "1e-07", "1,200"]
    assert [row[1] for row in scores[1:]] == COLUMNS[EVIL]
    assert empty == [["a", "b"]]
    assert [image["alt"] for image in page.images] == [EVIL, "twice"]
    for image in page.images:
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert b"</svg>" in base64.b64decode(data)


def test_texts_are_escaped(path):
    """What a run is called is shown, and is no element; only the page's own script runs."""
    page = Page(path.read_text(encoding="utf-8"))
    shown = [text for tag, text in page.texts if EVIL in text and tag != "script"]
    assert len(shown) == 7  # title, heading, fact, caption, note, head and cell
    assert path.read_text(encoding="utf-8").count("<script>") == 1


def test_nothing_is_loaded_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|import\(", text)
    assert "default-src 'none'" in text


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError):
        render("a", [], tables=[Table("t", {"a": [1, 2], "b": [1]})])


SORTS = """
const heads = document.querySelectorAll("th button");
const rows = () => Array.from(document.querySelector("tbody").rows);
const column = k => rows().map(row => row.cells[k].textContent);
const order = k => heads[k].parentElement.getAttribute("aria-sort");
const seen = {};
window.addEventListener("load", () => {
  heads[0].click(); seen.up = column(0); seen.first = order(0);
  heads[0].click(); seen.down = column(0);
  heads[1].click(); seen.texts = column(1); seen.cleared = order(0) === null;
  seen.images = Array.from(document.images, i => i.complete && i.naturalWidth > 0);
  const page = document.documentElement;
  seen.fits = page.scrollWidth <= page.clientWidth;
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
"""


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_sorts_it(path, width):
    """Numbers by value, what is none last either way; texts as people count; pictures drawn."""
    page = rendered(path, SORTS, width)
    seen = json.loads(next(text for tag, text in page.texts if tag == "pre"))
    assert seen["up"] == ["-inf", "1e-07", "9.5", "100.25", "1,200", "nan", ""]
    assert seen["down"] == ["1,200", "100.25", "9.5", "1e-07", "-inf", "nan", ""]
    assert seen["texts"] == [EVIL, "a2", "a10", "b", "d", "ü", "z"]
    assert seen["first"] == "ascending"
    assert seen["cleared"]
    assert seen["images"] == [True, True]
    assert seen["fits"], "the page is wider than its window"
