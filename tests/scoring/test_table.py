"""The best of a table, and a table from a file that a user may have edited."""

import json

import pytest

from lswag_jax import proxies
from lswag_jax.scoring import ScoreTable

ZEN = proxies.resolve("zen")


def row(name, **changes):
    sizes = {"params": 7, "macs": 9, "seconds": 0.0, "genotype": {}}
    parts = {"zen": {"score": [1.0], "spare": [2.0]}}
    return {"id": name, **sizes, "degenerate": [False], "parts": parts, **changes}


def table(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return ScoreTable.from_jsonl(path, ZEN)


def test_the_best_of_rows_that_failed(tmp_path):
    nan = {"zen": {"score": [float("nan")], "spare": [2.0]}}
    found = table(tmp_path, row("a", parts=nan), row("b"))
    assert found.best("zen") == 1
    for rows in ((), (row("a", parts=nan),)):
        with pytest.raises(ValueError, match=f"none of the {len(rows)} architectures has a score"):
            table(tmp_path, *rows).best("zen")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "para', "line 2 of .*rows.jsonl is not a row of scores"),
        ("[1]", "line 2 of .*rows.jsonl is not a row of scores"),
        ('{"id": 3}', "line 2 of .*rows.jsonl is not a row of scores"),
        ({"id": "b"}, r"line 2 of .*rows.jsonl \('b'\) lacks genotype, params, macs, seconds"),
        (row("b", params="many"), "params"),
        (row("b", parts={"zen": [1.0]}), "parts.zen"),
        (row("b", parts={"zen": {"score": [1.0]}}), "row 'b' of scores lacks parts.zen.spare"),
        (row("b", parts={}), "row 'b' of scores lacks zen"),
    ],
    ids=range(8),
)
def test_a_damaged_line_is_named(line, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        table(tmp_path, row("a"), line)


def test_a_proxy_may_apply_to_some_networks_alone(tmp_path):
    nothing = {"zen": {"score": [float("nan")], "not_applicable": [True]}}
    found = table(tmp_path, row("a", parts=nothing), row("b"))
    assert found.statuses["zen"].tolist() == ["not_applicable", "ok"]
    assert found.best("zen") == 1
    assert found["zen"][1] == 1
    assert table(tmp_path, row("a", parts=nothing)).statuses["zen"].tolist() == ["not_applicable"]
