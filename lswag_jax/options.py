"""Options that check themselves by the types of their fields.

A dataclass that derives from `Checked` raises one sentence for a value that its field's type does
not allow: a `Literal`'s choices, a bound such as `Count`, a pair, or the plain type itself.
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

Function = TypeVar("Function", bound=Callable[..., Any])


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
            return f"from {self.lowest:g} to {self.highest:g}"
        low = f"{'above' if self.above else 'of at least'} {self.lowest:g}"
        if math.isinf(self.highest):
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.highest:g}"


Natural = Annotated[int, Bound(0)]
Seed = Annotated[int, Bound(0, 2**63 - 1)]  # what JAX makes a key of
Count = Annotated[int, Bound(1)]
Several = Annotated[int, Bound(2)]
NonNegative = Annotated[float, Bound(0)]
Positive = Annotated[float, Bound(0, above=True)]
Share = Annotated[float, Bound(0, 1)]
BelowOne = Annotated[float, Bound(0, 1, below=True)]
AboveZero = Annotated[float, Bound(0, 1, above=True)]


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
        owner = getattr(self, "name", "")  # of a proxy, whose options messages name with it
        values = {field: getattr(self, field) for field in _hints(type(self))}
        check(type(self), values, owner if isinstance(owner, str) else "")

    @classmethod
    def of(cls, values: Mapping[str, Any], **more: Any) -> Self:
        """The options that a mapping such as a config's section holds; its other keys are left.

        Args:
            values: by name of the field.
            **more: fields in place of those.
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
        _check(hints.get(name, Any), name, value, owner)


def _check(hint: Any, name: str, value: Any, owner: str) -> None:
    if not _allows(hint, value):
        of, shown = f" of {owner}" if owner else "", " ".join(repr(value).split())
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise ValueError(f"{name}{of} must be {_describe(hint)}, got {shown}.")


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

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        hints = _parameters(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if signature.parameters[name].kind not in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            ):
                _check(hints.get(name, Any), name, value, function.__name__)
        return function(*args, **kwargs)

    return typing.cast(Function, checked)


@functools.cache
def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of a function's parameters, looked up when it is first called."""
    return typing.get_type_hints(function, include_extras=True)


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
        return isinstance(value, type(args[0])) and value in args
    if origin in (Union, types.UnionType):
        return any(_allows(arg, value) for arg in args)
    if origin is tuple:
        return _allows_tuple(args, value)
    if (origin or hint) is Callable:
        return callable(value)
    if origin is Sequence:
        return isinstance(value, Iterable) and not isinstance(value, str)
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "lswag_jax":
        return isinstance(value, hint)
    plain = {int: numbers.Integral, float: numbers.Real, bool: bool, str: str}
    plain |= {type(None): None, os.PathLike: os.PathLike}
    if hint not in plain:
        return True
    if hint is type(None):
        return value is None
    is_bool = isinstance(value, bool)  # which Python takes for an integer
    return isinstance(value, plain[hint]) and is_bool == (hint is bool)


def _allows_tuple(args: Sequence[Any], value: Any) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
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
    if (origin or hint) is Callable:
        return "a function"
    if origin is Sequence:
        return "a sequence"
    words = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}
    words[os.PathLike] = "a path"
    if isinstance(hint, type) and hint not in words and hint is not type(None):
        return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"
    return words.get(hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    return {int: "integers", float: "numbers", str: "texts"}.get(hint, "values")
