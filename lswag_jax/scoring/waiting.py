"""What is said while a program is traced and compiled, which may take a minute."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG = logging.getLogger("lswag_jax")
FIRST, EVERY = 3.0, 10.0  # seconds after which something is said, and between two lines
_listeners: list[Callable[[str], None]] = []


@contextmanager
def told(listener: Callable[[str], None]) -> Iterator[None]:
    """Tells a function, such as that of a bar, what `said` logs, for as long as this lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def said(what: str, first: float = FIRST, every: float = EVERY) -> Iterator[None]:
    """Logs at level INFO that work is under way, and for how long.

    Listeners (`told`) hear of it at once; work shorter than `first` seconds is not logged. Python
    hides INFO by default.

    Example:
        >>> logging.basicConfig(level=logging.INFO)
        >>> with said("compiling lswag for nasbench201"):
        ...     pass
    """
    began, is_done = time.monotonic(), threading.Event()

    def say(text: str) -> None:
        _LOG.info("%s", text)
        tell(text)

    def tell(text: str) -> None:
        for listener in tuple(_listeners):
            listener(text)

    def watch() -> None:
        pause = first
        while not is_done.wait(pause):
            say(f"{what}: {time.monotonic() - began:.0f} s so far")
            pause = every

    tell(what)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
        if time.monotonic() - began >= first:
            say(f"{what} took {time.monotonic() - began:.0f} s")
