"""How far a binary is, and what its seconds went into."""

import datetime
import logging as python_logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from absl import logging

# Libraries whose messages a user cannot act on, such as that of a missing TPU or of fonts in a PDF.
QUIET = ("matplotlib", "fontTools", "jax._src.xla_bridge")


class _Line(python_logging.Formatter):
    """The time of day and what is said; the severity where it is above information."""

    def format(self, record: python_logging.LogRecord) -> str:
        clock = self.formatTime(record, "%H:%M:%S")
        severity = "" if record.levelno <= python_logging.INFO else f"{record.levelname.lower()}: "
        return f"{clock} {severity}{super().format(record)}"


def set_up_log() -> None:
    """Lets a binary log short lines to the terminal, warnings of the library among them."""
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.use_absl_log_file = lambda program_name=None, log_dir=None: None
    handler.setFormatter(_Line())
    for name in QUIET:
        python_logging.getLogger(name).setLevel(python_logging.WARNING)

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        ours = issubclass(category, UserWarning) and "site-packages" not in filename
        logging.log(logging.WARNING if ours else logging.DEBUG, "%s", message)

    warnings.showwarning = show


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal, a plain line every few seconds otherwise; of the first process.

    Yields:
        A function of (rows done, what to say beside it).
    """
    from lswag_jax.scoring import devices as distributed

    if sys.stderr.isatty() and distributed.is_first():
        with _bar() as bar, _logging_above(bar):
            task = bar.add_task(title, total=total, beside="")
            yield lambda done, text: bar.update(task, completed=done, beside=text)
        return
    began, shown = None, 0.0

    def line(done: int, text: str) -> None:
        nonlocal began, shown
        now = time.monotonic()
        began = began or (done, now)  # the first one came after compiling
        if done == total or now - shown > 5:
            shown = now
            beside = " ".join(filter(None, (text, time_left(*began, done, total))))
            logging.info("%s", f"{title} {done}/{total} {beside}".rstrip())

    logging.info("%s: %d to do", title, total)
    yield line


def _bar():
    """A bar on standard error in one line: title, bar, rows done, time left, what is said."""
    from rich import progress
    from rich.console import Console
    from rich.table import Column

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=16),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn(
            "{task.fields[beside]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=Console(stderr=True),
        expand=True,
    )


@contextmanager
def _logging_above(bar) -> Iterator[None]:
    """Lets the log write above a live bar, not into it."""
    handler = logging.get_absl_handler().python_handler
    before = handler.stream
    handler.stream = sys.stderr  # the bar's own, which prints above it
    try:
        yield
    finally:
        handler.stream = before


def time_left(first: int, began: float, done: int, total: int) -> str:
    """Time left at the pace since `began`, when `first` were done; empty where it is not known."""
    if done in (first, total):
        return ""
    pace = (time.monotonic() - began) / (done - first)
    return f"{datetime.timedelta(seconds=round(pace * (total - done)))} left"


def statuses(table) -> list[str]:
    """How many networks of a score table have which status; proxies that agree in one line."""
    from lswag_jax.search.results import count_statuses

    groups: dict[str, list[str]] = {}
    for name in table:
        groups.setdefault(count_statuses(table, name), []).append(name)
    return [f"{', '.join(names)}: {counts}" for counts, names in groups.items()]


def log_statuses(table) -> None:
    """Logs how many networks of a score table have which status."""
    for text in statuses(table):
        logging.info("status of %s", text)


def log_seconds(timing: Mapping[str, float]) -> None:
    """Logs the seconds of a run, split by what they went into."""
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timing.items())
    logging.info("seconds: %s; total %.1f", parts, sum(timing.values()))
