"""What genotypes of all spaces have: their JSON form, and the choosing and mixing of genes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np


class BaseGenotype:
    """A frozen dataclass of numbers, names and nested tuples of them, which it checks itself."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # of every subclass

    @classmethod
    def of(cls, *fields: Any) -> Self:
        """A genotype of fields as they come: sequences of any kind, which it makes tuples."""
        make: Callable[..., Self] = cls
        return make(*fields)

    def to_json(self) -> dict[str, Any]:
        """The genotype as a dictionary that `json.dumps` takes."""
        return {field: _as_lists(getattr(self, field)) for field in self._fields()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `to_json` writes.

        Raises:
            ValueError: a key is missing or unknown, or a value is not of a genotype.
        """
        if not isinstance(data, Mapping) or set(data) != set(cls._fields()):
            raise ValueError(
                f"{cls.__name__} has the keys {cls._fields()}, got "
                f"{sorted(data) if isinstance(data, Mapping) else data!r}."
            )
        return cls(**data)

    @property
    def genes(self) -> tuple[Any, ...]:
        """Entries of the only field, of a genotype that has one."""
        (field,) = self._fields()
        return getattr(self, field)

    @classmethod
    def _fields(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]


def _as_lists(value: Any) -> Any:
    """Tuples, nested ones too, as lists."""
    return [_as_lists(entry) for entry in value] if isinstance(value, tuple) else value


def choose(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    """One of the choices, uniformly."""
    return choices[int(rng.integers(len(choices)))]


def mix(pick: np.ndarray, a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    """Genes of `a` where picked, else those of `b`.

    Example:
        >>> mix(np.array([True, False]), ("conv", "pool"), ("skip", "none"))
        ['conv', 'none']
    """
    return [ours if first else theirs for first, ours, theirs in zip(pick, a, b, strict=True)]
