"""Options that check themselves by the types of their fields.

A dataclass that derives from `Checked` raises one sentence for a value that its field's type does
not allow: a `Literal`'s choices, a bound such as `Count`, a pair, or the plain type itself.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin


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
        for field, hint in _hints(type(self)).items():
            value = getattr(self, field)
            if not _allows(hint, value):
                of = f" of {owner}" if isinstance(owner, str) and owner else ""
                raise ValueError(f"{field}{of} must be {_describe(hint)}, got {value!r}.")

    @classmethod
    def of(cls, values: Mapping[str, Any], **more: Any) -> Self:
        """The options that a mapping such as a config's section holds; its other keys are left.

        Args:
            values: by name of the field.
            **more: fields in place of those.
        """
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in values.items() if key in names} | more)


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
    plain = {int: numbers.Integral, float: numbers.Real, bool: bool, str: str, type(None): None}
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
    words = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}
    return words.get(hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint)))


def _plural(hint: Any) -> str:
    return {int: "integers", float: "numbers", str: "texts"}.get(hint, "values")
