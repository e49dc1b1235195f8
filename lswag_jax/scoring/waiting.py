"""What is said while a program is traced and compiled, which may take a minute."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("lswag_jax")
FIRST, EVERY = 3.0, 10.0  # seconds after which something is said, and between two lines


@contextmanager
def said(what: str, first: float = FIRST, every: float = EVERY) -> Iterator[None]:
    """Logs, at the level of information, that something is going on and for how long.

    Nothing is said of what takes less than `first` seconds. A program that shows no information, as
    Python does by default, sees nothing of it.

    Example:
        >>> logging.basicConfig(level=logging.INFO)
        >>> with said("compiling lswag for nasbench201"):
        ...     pass
    """
    began, is_done = time.monotonic(), threading.Event()

    def watch() -> None:
        pause = first
        while not is_done.wait(pause):
            _LOG.info("%s: %.0f s so far", what, time.monotonic() - began)
            pause = every

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
        if time.monotonic() - began >= first:
            _LOG.info("%s took %.0f s", what, time.monotonic() - began)
