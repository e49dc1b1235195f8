"""How far a job is: a bar on a terminal or in a notebook, a line every few seconds elsewhere."""

import datetime
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from lswag_jax.extras import extra
from lswag_jax.scoring import devices, waiting
from lswag_jax.scoring.rows import Row

Show = Callable[[int, str], None]  # of what is done, and what to say beside it


class Progress(NamedTuple):
    """Where a call stands: networks done, networks in total; of a search the best row so far.

    The best is looked for whenever the archive has grown by a tenth, since scores may depend on
    the pool. Of pruning it is the best super-network. Of `score_model` what is done are programs,
    each compiled and then run.
    """

    done: int
    total: int
    best: Row | None = None
    fitness: float = float("nan")


Watch = bool | Callable[[Progress], None]


@contextmanager
def watched(
    progress: Watch, title: str, total: int, beside: Callable[[Progress], str] = lambda _: ""
) -> Iterator[Callable[[Progress], None]]:
    """Yields the function that a library call reports its `Progress` to.

    Args:
        progress: a function of a `Progress`; True for a bar; False for nothing.
        title: of the bar.
        total: how much there is to do.
        beside: what to say beside the bar.

    Raises:
        ModuleNotFoundError: neither rich nor tqdm is installed.

    Example:
        >>> told = []
        >>> with watched(told.append, "score", 2) as tell:
        ...     tell(Progress(1, 2))
        >>> told[0].done
        1
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield lambda _: None
    else:
        with shown(title, total) as show, waiting.told(lambda text: show(-1, text)):
            yield lambda at: show(at.done, beside(at))


@contextmanager
def shown(
    title: str,
    total: int,
    say: Callable[[str], None] | None = None,
    above: Callable[[], AbstractContextManager] | None = None,
) -> Iterator[Show]:
    """A progress bar on a terminal, a plain line every few seconds otherwise; of the first process.

    Args:
        title: of the bar.
        total: how much there is to do.
        say: takes lines in place of a bar; None writes them to standard error.
        above: lets a log write above a bar for as long as there is one.

    Yields:
        `show(done, text)`: -1 for `done` leaves the count as it is; `text` stands beside the bar.
    """
    say = say or (lambda text: _write(f"{text}\n"))
    if not devices.is_first():
        yield lambda done, text: None
        return
    make = _bar_maker()
    if make is None:
        yield _lines(title, total, say)
        return
    with make(title, total) as show:
        if above is None:
            yield show
        else:
            with above():
                yield show


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _lines(title: str, total: int, say: Callable[[str], None]) -> Show:
    """Lines of what is done, at most one in five seconds but for the last."""
    began, last = None, 0.0

    def show(done: int, text: str) -> None:
        nonlocal began, last
        if done < 0:
            say(text)
            return
        now = time.monotonic()
        began = began or (done, now)  # the first one came after compiling
        if done == total or now - last > 5:
            last = now
            beside = " ".join(filter(None, (text, time_left(*began, done, total))))
            say(f"{title} {done}/{total} {beside}".rstrip())

    say(f"{title}: {total} to do")
    return show


def time_left(first: int, began: float, done: int, total: int) -> str:
    """Time left at the pace since `began`, when `first` were done; empty where it is not known."""
    if done in (first, total):
        return ""
    pace = (time.monotonic() - began) / (done - first)
    return f"{datetime.timedelta(seconds=round(pace * (total - done)))} left"


def _bar_maker() -> Callable[[str, int], AbstractContextManager[Show]] | None:
    """What makes a bar where one can be seen: rich's, or tqdm's where that alone is installed.

    Raises:
        ModuleNotFoundError: neither is.
    """
    if not importlib.util.find_spec("rich") and importlib.util.find_spec("tqdm"):
        return _of_tqdm if sys.stderr.isatty() else None
    with extra("cli"):
        from rich.console import Console
    # In a notebook rich draws by ipywidgets.
    in_notebook = Console(stderr=True).is_jupyter and importlib.util.find_spec("ipywidgets")
    return _of_rich if sys.stderr.isatty() or in_notebook else None


@contextmanager
def _of_rich(title: str, total: int) -> Iterator[Show]:
    """A bar on standard error in one line: title, bar, rows done, time left, what is said."""
    with extra("cli"):
        from rich import progress
        from rich.console import Console
        from rich.table import Column

    bar = progress.Progress(
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
    with bar:
        task = bar.add_task(title, total=total, beside="")

        def show(done: int, text: str) -> None:
            bar.update(task, completed=None if done < 0 else done, beside=text)

        yield show


@contextmanager
def _of_tqdm(title: str, total: int) -> Iterator[Show]:
    """A bar of tqdm."""
    with extra("cli"):
        from tqdm import tqdm

    form = "{desc} {bar:16} {n_fmt}/{total_fmt} {remaining}{postfix}"
    with tqdm(total=total, desc=title, dynamic_ncols=True, bar_format=form) as bar:

        def show(done: int, text: str) -> None:
            if done >= 0:
                bar.n = done
            bar.set_postfix_str(text)

        yield show
