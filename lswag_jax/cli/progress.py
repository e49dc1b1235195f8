"""How far a binary is, and what its seconds went into."""

import datetime
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from absl import logging


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal, a plain line every few seconds otherwise; of the first process.

    Yields:
        A function of (rows done, what to say beside it).
    """
    from lswag_jax.scoring import devices as distributed

    if sys.stderr.isatty() and distributed.is_first():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done, text: bar.update(
                task, completed=done, description=f"{title} {text}".strip()
            )
        return
    began, shown = None, 0.0

    def line(done: int, text: str) -> None:
        nonlocal began, shown
        now = time.monotonic()
        began = began or (done, now)  # the first one came after compiling
        if done == total or now - shown > 5:
            shown = now
            beside = " ".join(filter(None, (text, _left(*began, done, total))))
            logging.info("%s %d/%d %s", title, done, total, beside)

    logging.info("%s: %d to do; nothing is said while programs are compiled", title, total)
    yield line


def _left(first: int, began: float, done: int, total: int) -> str:
    """Time left at the pace since `began`, when `first` were done; empty where it is not known."""
    if done in (first, total):
        return ""
    pace = (time.monotonic() - began) / (done - first)
    return f"{datetime.timedelta(seconds=round(pace * (total - done)))} left"


def log_seconds(timing: Mapping[str, float]) -> None:
    """Logs the seconds of a run, split by what they went into."""
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timing.items())
    logging.info("seconds: %s; total %.1f", parts, sum(timing.values()))
