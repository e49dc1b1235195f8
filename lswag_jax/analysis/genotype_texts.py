"""Genotypes in the texts of their space, whatever a source has for them."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from lswag_jax.spaces import Space


def own_texts(texts: Iterable[Any], space: Space, source: Any, decode: Any = None) -> list[str]:
    """Genotypes in the text of their space.

    Args:
        texts: what a source has for them.
        space: of the genotypes.
        source: named in errors.
        decode: makes a genotype of what the source has; None is `space.parse`.

    Raises:
        ValueError: one is not of the space.
    """
    decode, found = decode or space.parse, []
    for i, text in enumerate(texts):
        try:
            g = decode(text)
            space.check(g)
        except (ValueError, TypeError, SyntaxError, KeyError) as error:
            raise ValueError(
                f"genotype {i} of {pathlib.Path(source).name} is not of {space.name}: {error}"
            ) from None
        found.append(space.format(g))
    return found


def find(place: Mapping[str, int], text: str, space: Space | None) -> int:
    """Row of a genotype in any spelling of the space, -1 where it has none."""
    if text in place or space is None:
        return place.get(text, -1)
    spellings = space.spellings(space.parse(text))
    return next((place[other] for other in spellings if other in place), -1)
