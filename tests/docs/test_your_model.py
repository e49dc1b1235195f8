"""The page on users' own models runs as it is written."""

import re

from tests.helpers import ROOT


def test_the_page_runs():
    page = (ROOT / "docs" / "your_model.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "your_model.md", "exec"), names)
    assert names["table"].status[0] == "ok"
    assert names["table"].rows[0]["coverage"]["share"] == 1
