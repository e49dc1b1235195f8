"""Long compilations say that they go on; short ones say nothing."""

import logging
import time

from lswag_jax.scoring.waiting import said


def test_says_how_long(caplog):
    with caplog.at_level(logging.INFO, "lswag_jax"), said("compiling", first=0.01, every=0.01):
        time.sleep(0.1)
    lines = [record.message for record in caplog.records]
    assert lines[0] == "compiling: 0 s so far"
    assert lines[-1] == "compiling took 0 s"
    assert len(lines) > 2


def test_short_is_silent(caplog):
    with caplog.at_level(logging.INFO, "lswag_jax"), said("compiling"):
        pass
    assert not caplog.records
