"""Optional packages: where one is missing, a sentence names the extra that brings it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Extra = Literal["analysis", "cli", "data", "detection", "train"]


@contextmanager
def extra(name: Extra) -> Iterator[None]:
    """Wraps imports of packages that an extra of lswag_jax brings.

    Args:
        name: of the extra in pyproject.toml.

    Raises:
        ModuleNotFoundError: a package is missing; the message says what to install.

    Example:
        >>> with extra("data"):
        ...     import an_absent_one
        Traceback (most recent call last):
        ModuleNotFoundError: the package an_absent_one is missing: pip install 'lswag_jax[data]'.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the package {error.name} is missing: pip install 'lswag_jax[{name}]'.",
            name=error.name,
        ) from None
