"""Long compilations say that they go on; short ones say nothing."""

import logging
import re
import time

from lswag_jax.scoring.waiting import said


def test_says_how_long(caplog):
    with caplog.at_level(logging.INFO, "lswag_jax"), said("compiling", first=0.01, every=0.01):
        ends = time.monotonic() + 30  # of a machine that has no time for the thread that says so
        while len(caplog.records) < 2 and time.monotonic() < ends:
            time.sleep(0.01)
    lines = [record.message for record in caplog.records]
    assert re.fullmatch(r"compiling: \d+ s so far", lines[0])
    assert re.fullmatch(r"compiling took \d+ s", lines[-1])
    assert len(lines) > 2


def test_short_is_silent(caplog):
    with caplog.at_level(logging.INFO, "lswag_jax"), said("compiling", first=60):
        pass
    assert not caplog.records
