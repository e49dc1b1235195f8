"""What is a user's own, named as `module:NAME`: a space, a proxy, a source of images.

The module is looked for in the current directory and then wherever Python finds modules. It is
imported because the user names it; what is found in files is never imported.
"""

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from lswag_jax.options import typed

Kind = TypeVar("Kind")
FAULTS = (Exception, SystemExit)  # what a user's code may raise, where we run it
_NAMED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_named(text: Any) -> bool:
    """Whether a text has the form `module:NAME`.

    Example:
        >>> is_named("my_space:Tiny"), is_named("tfds:cifar10/config"), is_named("nasbench201")
        (True, False, False)
    """
    return isinstance(text, str) and _NAMED.fullmatch(text) is not None


@typed
def find(name: str) -> Any:
    """The object that `module:NAME` names; imports the module.

    Raises:
        ValueError: another form, no such module, one that cannot be imported, or no such name.

    Example:
        >>> find("fractions:Fraction")(1, 3)
        Fraction(1, 3)
        >>> find("fractions:Fracton")
        Traceback (most recent call last):
        ValueError: the module fractions has no 'Fracton': the nearest is Fraction.
    """
    if not is_named(name):
        raise ValueError(f"an object of your own is named as module:NAME, got {name!r}.")
    module_name, _, attribute = name.partition(":")
    module = _imported(module_name)
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=1, cutoff=0.0)
        said = f": the nearest is {near[0]}" if near else ""
        raise ValueError(f"the module {module_name} has no {attribute!r}{said}.")
    return getattr(module, attribute)


def _imported(name: str) -> Any:
    if not {"", os.getcwd()} & set(sys.path):  # of a console script its own folder is there instead
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()  # finds a file that was just written
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no module {error.name!r} in {os.getcwd()}, nor is one installed."
            ) from None
        raise ValueError(f"the module {name} imports {error.name!r}, which is missing.") from None
    except FAULTS as error:
        raise fault(f"the module {name} cannot be imported", error) from error


def fault(what: str, error: BaseException) -> ValueError:
    """One sentence of what a user's code raised.

    Args:
        what: went wrong.
        error: one of `FAULTS`.

    Example:
        >>> fault("my_space:Tiny failed", KeyError("width"))
        ValueError("my_space:Tiny failed: KeyError: 'width'.")
    """
    why = " ".join(f"{type(error).__name__}: {error}".split())
    return ValueError(f"{what}: {why.rstrip(':.')}.")


@typed
def make(name: str, kind: type[Kind], arguments: Mapping[str, Any] | None = None) -> Kind:
    """What `module:NAME` names, if it is of a kind; or what a class or function of it makes.

    Args:
        name: `module:NAME` of an object, a class or a function.
        kind: that it must be of.
        arguments: of the class or function; None for none.

    Raises:
        ValueError: as `find` and `call`, or it is of another kind.

    Example:
        >>> make("math:pi", float)
        3.141592653589793
        >>> make("math:pi", str)
        Traceback (most recent call last):
        ValueError: math:pi must be a str, or a class or function that makes one, got a float.
    """
    found = find(name)
    if not isinstance(found, kind) and callable(found):
        found = call(name, found, arguments or {})
    if not isinstance(found, kind):
        raise ValueError(
            f"{name} must be a {kind.__name__}, or a class or function that makes one, got a "
            f"{type(found).__name__}."
        )
    return found


def call(name: str, function: Any, arguments: Mapping[str, Any]) -> Any:
    """What a user's class or function gives.

    Raises:
        ValueError: it takes other arguments, or raised an error, which the message names.

    Example:
        >>> call("operator:neg", find("operator:neg"), {})
        Traceback (most recent call last):
        ValueError: operator:neg does not take the arguments given (none): missing a required \
argument: 'a'.
    """
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        given = ", ".join(arguments) or "none"
        raise ValueError(f"{name} does not take the arguments given ({given}): {error}.") from None
    except ValueError:  # a function without a signature
        pass
    try:
        return function(**arguments)
    except FAULTS as error:
        raise fault(f"{name} failed", error) from error
