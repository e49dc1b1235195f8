"""Options and arguments that check themselves by their types.

A dataclass that derives from `Checked` raises one sentence for a value that its field's type does
not allow: a `Literal`'s choices, a bound such as `Count`, a pair, or the plain type itself. A
function that is `typed` does so for its arguments, a class with `typed_methods` for its methods'.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)
# Packages whose classes are checked by isinstance; arrays have several classes, so they are not.
_CLASSES = ("lswag_jax.", "flax.linen.", "jaxlib.", "numpy.random.")


@dataclasses.dataclass(frozen=True)
class Bound:
    """Bounds of a number, for `Annotated`.

    Args:
        lowest: the smallest value, or the limit that it must be above where `above`.
        highest: the largest value, or the limit that it must be below where `below`.
        above, below: whether the limits themselves are left out.
    """

    lowest: float = -math.inf
    highest: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        low = value > self.lowest if self.above else value >= self.lowest
        return low and (value < self.highest if self.below else value <= self.highest)

    def __str__(self) -> str:
        if (self.above, self.below) == (False, False) and math.isfinite(self.highest):
            return f"from {self.lowest:g} to {self._shown(self.highest)}"
        low = f"{'above' if self.above else 'of at least'} {self.lowest:g}"
        if math.isinf(self.highest):
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self._shown(self.highest)}"

    @staticmethod
    def _shown(limit: float) -> str:
        return f"{limit:.12g}" if limit < 1e12 else f"{limit:g}"


class _Numeric:
    """What arrays of numbers hold, for `Annotated`."""

    def __contains__(self, value: Any) -> bool:
        try:
            array = np.asarray(value)
            return array.ndim > 0 and array.dtype.kind in "biuf"
        except (TypeError, ValueError):  # rows of several lengths, or traced values
            return False

    def __str__(self) -> str:
        return "of numbers"


Numbers = Annotated[np.ndarray, _Numeric()]  # or what makes one
Natural = Annotated[int, Bound(0)]
Seed = Annotated[int, Bound(0, 2**63 - 1)]  # what JAX makes a key of
Count = Annotated[int, Bound(1)]
# Upper limits that no machine can build; below them memory may still run out, and says so.
Size = Annotated[int, Bound(1, 100_000)]  # channels, classes, repeats
ImageSize = Annotated[int, Bound(1, 10_000)]
Depth = Annotated[int, Bound(1, 1_000)]
MOST = 10_000_000  # networks that a call may be asked for, resamples and the like
Number = Annotated[int, Bound(1, MOST)]
NumberOrZero = Annotated[int, Bound(0, MOST)]
Several = Annotated[int, Bound(2)]
NonNegative = Annotated[float, Bound(0)]
Positive = Annotated[float, Bound(0, above=True)]
Share = Annotated[float, Bound(0, 1)]
ShareBelowOne = Annotated[float, Bound(0, 1, below=True)]
PositiveShare = Annotated[float, Bound(0, 1, above=True)]


class Checked:
    """Base of dataclasses whose fields are options.

    Raises:
        ValueError: a value that the field's type does not allow.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options(Checked):
        ...     rule: Literal["sum", "mean"] = "sum"
        ...     repeats: Count = 1
        >>> Options(repeats=0)
        Traceback (most recent call last):
        ValueError: repeats must be an integer of at least 1, got 0.
    """

    def __post_init__(self) -> None:
        owner = getattr(self, "name", "")  # a proxy's name, which messages add to the option's
        values = {field: getattr(self, field) for field in _hints(type(self))}
        check(type(self), values, owner if isinstance(owner, str) else "")

    @classmethod
    def of(cls, values: Mapping[str, Any], **more: Any) -> Self:
        """The options in a mapping, such as a config's section; keys that are no field are ignored.

        Args:
            values: by name of the field.
            **more: fields that override those of `values`.
        """
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in values.items() if key in names} | more)


def check(cls: type, values: Mapping[str, Any], owner: str = "") -> None:
    """Raises ValueError for a value that the type of a dataclass's field does not allow.

    Args:
        cls: the dataclass.
        values: by name of the field.
        owner: what messages name beside the field.
    """
    hints = _hints(cls)
    for name, value in values.items():
        check_value(hints.get(name, Any), name, value, owner)


def check_value(hint: Any, name: str, value: Any, owner: str = "") -> None:
    """Raises ValueError for a value that a type does not allow.

    Args:
        hint: the type.
        name: of the value, for the message.
        value: of any type.
        owner: what the message names beside it.
    """
    if not _allows(hint, value):
        of, shown = f" of {owner}" if owner else "", " ".join(repr(value).split())
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        bits = " within 64 bits" if _is_huge(value) else ""
        raise ValueError(f"{name}{of} must be {_describe(hint)}{bits}, got {shown}.")


def _is_huge(value: Any) -> bool:
    """Whether an integer does not fit into 64 bits."""
    return isinstance(value, numbers.Integral) and not -(2**63) <= int(value) < 2**63


def typed(function: Function) -> Function:
    """Lets a function refuse arguments that the types of its parameters do not allow.

    Types that say nothing here, such as arrays, are left to the function.

    Example:
        >>> @typed
        ... def repeat(text: str, times: Count = 1) -> str:
        ...     return text * times
        >>> repeat("ab", times=0)
        Traceback (most recent call last):
        ValueError: times of repeat must be an integer of at least 1, got 0.
    """
    signature = inspect.signature(function)
    outer, _, owner = function.__qualname__.rpartition(".")
    if owner in ("__init__", "__call__"):
        owner = outer.rpartition(".")[2]

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{owner}: {error}.") from None
        hints = _parameters(function)
        for name, value in given.items():
            kind = signature.parameters[name].kind
            if kind is not inspect.Parameter.VAR_KEYWORD:
                several = kind is inspect.Parameter.VAR_POSITIONAL
                for part in value if several else (value,):
                    check_value(hints.get(name, Any), name, part, owner)
        return function(*args, **kwargs)

    return typing.cast(Function, checked)


def typed_methods(cls: Class) -> Class:
    """Lets a class's own public methods refuse arguments as `typed` does.

    `check` is left out: to say what is wrong is all that it does.

    Example:
        >>> @typed_methods
        ... class Space:
        ...     def sample(self, n: Count) -> list[int]:
        ...         return list(range(n))
        >>> Space().sample(None)
        Traceback (most recent call last):
        ValueError: n of sample must be an integer of at least 1, got None.
    """
    for name, method in list(vars(cls).items()):
        if name.startswith("_") or name == "check":
            continue
        if isinstance(method, classmethod):
            setattr(cls, name, classmethod(typed(method.__func__)))
        elif inspect.isfunction(method):
            setattr(cls, name, typed(method))
    return cls


@functools.cache
def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of a function's parameters, looked up when it is first called.

    That of what it returns is left out: it may be known to type checkers alone.
    """
    own = inspect.unwrap(function)
    parameters = types.FunctionType(own.__code__, own.__globals__, closure=own.__closure__)
    parameters.__annotations__ = {k: v for k, v in own.__annotations__.items() if k != "return"}
    return typing.get_type_hints(parameters, include_extras=True)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields, with their bounds."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _allows(hint: Any, value: Any) -> bool:
    """Whether a type allows a value; one that is not known here allows all."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _allows(args[0], value) and value in args[1]
    if origin is Literal:
        is_bool = isinstance(value, bool)  # which Python takes for 0 or 1
        return any(isinstance(value, type(a)) and a == value for a in args) and (
            is_bool == isinstance(args[0], bool)
        )
    if origin in (Union, types.UnionType):
        return any(_allows(arg, value) for arg in args)
    if origin is tuple:
        return _allows_tuple(args, value)
    if isinstance(hint, TypeVar):
        return _allows(hint.__bound__ or Any, value)
    if (origin or hint) is Callable:
        return callable(value)
    if origin in (Mapping, dict) or typing.is_typeddict(hint):
        return isinstance(value, Mapping)
    if origin is list and not isinstance(value, list):
        return False
    if origin in (Iterable, Sequence, list):
        return _allows_items(origin, args[0], value)
    if _is_class(origin or hint):
        return isinstance(value, origin or hint)
    if hint is type(None):
        return value is None
    plain = {int: numbers.Integral, float: numbers.Real, bool: bool, str: str}
    plain[os.PathLike] = os.PathLike
    if hint not in plain:
        return True
    if hint is int and _is_huge(value):
        return False
    is_bool = isinstance(value, bool)  # which Python takes for an integer
    return isinstance(value, plain[hint]) and is_bool == (hint is bool)


def _is_class(hint: Any) -> bool:
    """Whether a type is a class whose instances are asked for."""
    return isinstance(hint, type) and f"{hint.__module__}.".startswith(_CLASSES)


def _allows_items(origin: Any, item: Any, value: Any) -> bool:
    """Whether a value has items of a type; those of an iterator are not looked at."""
    if isinstance(value, str | bytes | Mapping) or getattr(value, "shape", None) == ():
        return False
    if origin is Iterable and not hasattr(value, "__getitem__"):
        return isinstance(value, Iterable)
    if not hasattr(value, "__getitem__") or not hasattr(value, "__len__"):
        return False
    return item is Any or all(_allows(item, part) for part in value)


def _allows_tuple(args: Sequence[Any], value: Any) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    if len(args) == 2 and args[1] is Ellipsis:
        return all(_allows(args[0], item) for item in value)
    return len(args) == len(value) and all(map(_allows, args, value))


def _describe(hint: Any) -> str:
    """What a type allows, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_describe(args[0])} {args[1]}"
    if origin is Literal:
        return f"one of {args}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in args)
    if origin is tuple:
        several = len(args) == 2 and args[1] is Ellipsis
        return f"a tuple of {'' if several else f'{len(args)} '}{_plural(args[0])}"
    if isinstance(hint, TypeVar):
        return _describe(hint.__bound__)
    if (origin or hint) is Callable:
        return "a function"
    if origin in (Mapping, dict) or typing.is_typeddict(hint):
        return "a mapping"
    if origin in (Iterable, Sequence, list):
        kind = "a list" if origin is list else "a sequence"
        return kind if args[0] is Any else f"{kind} of {_plural(args[0])}"
    hint = origin or hint
    words = {int: "an integer", float: "a number", bool: "True or False", str: "a string"}
    words |= {os.PathLike: "a path", np.ndarray: "an array"}
    if isinstance(hint, type) and hint not in words and hint is not type(None):
        return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
    return words.get(hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    words = {int: "integers", float: "numbers", str: "strings"}
    if typing.is_typeddict(hint):
        return "mappings"
    if get_origin(hint) is Annotated:
        return f"{_plural(hint.__origin__)} {hint.__metadata__[0]}"
    return words.get(hint, f"{hint.__name__} objects" if _is_class(hint) else "values")
