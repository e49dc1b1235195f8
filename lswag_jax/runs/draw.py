"""Random genotypes that are all different, in an order that does not depend on how many."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lswag_jax.spaces import Space

PATIENCE = 10_000  # draws that may fail in a row


def draw(
    space: Space,
    rng: np.random.Generator,
    num: int,
    is_wanted: Callable[[Any], bool] | None = None,
    patience: int = PATIENCE,
) -> list[Any]:
    """Up to `num` different random genotypes; fewer where the space seems to have no more.

    A larger number begins with the same ones. Where draws find nothing new for long, a space that
    can list its genotypes gives the others in its own order.

    Args:
        space: of the genotypes.
        rng: source of randomness.
        num: genotypes wanted.
        is_wanted: whether one is to be taken, asked once for each that is drawn, in order; it may
            remember them. None takes those that were not drawn before.
        patience: draws that may fail in a row.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.get("transnas_micro")
        >>> len(draw(space, np.random.default_rng(0), 5000))
        4096
    """
    is_wanted = is_wanted or _new()
    found: list[Any] = []
    proposals = _proposals(space, rng, lambda: len(found), patience)
    while len(found) < num and (genotype := next(proposals, None)) is not None:
        if is_wanted(genotype):
            found.append(genotype)
    return found


def _new() -> Callable[[Any], bool]:
    seen: set[Any] = set()

    def is_new(genotype: Any) -> bool:
        before = len(seen)
        seen.add(genotype)
        return len(seen) > before

    return is_new


def _proposals(
    space: Space, rng: np.random.Generator, found: Callable[[], int], patience: int
) -> Iterator[Any]:
    """Random genotypes until nothing was found for long, then all that the space can list."""
    failed, before = 0, 0
    while failed < patience:
        yield space.sample(rng, 1)[0]
        failed = 0 if found() > before else failed + 1
        before = found()
    yield from getattr(space, "genotypes", tuple)()


def shortage(space: Space, found: int, asked: int) -> str:
    """What to say where fewer genotypes were found than asked for; empty where they suffice.

    Example:
        >>> from lswag_jax import spaces
        >>> shortage(spaces.get("transnas_micro"), 4096, 5000)
        'transnas_micro has 4,096 networks, fewer than the 5,000 asked for.'
    """
    if found >= asked:
        return ""
    if hasattr(space, "genotypes"):
        return f"{space.name} has {found:,} networks, fewer than the {asked:,} asked for."
    return (
        f"{found:,} networks of {space.name} could be drawn apart, fewer than the {asked:,} asked "
        f"for: then {PATIENCE:,} draws in a row were repetitions."
    )
