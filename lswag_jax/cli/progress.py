"""How far a binary is, and what its seconds went into."""

import logging as python_logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

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


def progress_bar(title: str, total: int) -> AbstractContextManager[Callable[[int, str], None]]:
    """A progress bar on a terminal, log lines otherwise; see `scoring.progress.shown`."""
    from lswag_jax.scoring.progress import shown

    return shown(title, total, lambda text: logging.info("%s", text), _logging_above)


@contextmanager
def _logging_above() -> Iterator[None]:
    """Lets the log write above a live bar, not into it."""
    handler = logging.get_absl_handler().python_handler
    before = handler.stream
    handler.stream = sys.stderr  # the bar's own, which prints above it
    try:
        yield
    finally:
        handler.stream = before


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
