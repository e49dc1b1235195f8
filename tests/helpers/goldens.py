"""The files of golden values: small ones of the repository, the others beside it."""

import functools
import json

import numpy as np

from tests.helpers import ROOT, redraw, shared

SMALL = ROOT / "tests" / "goldens"


@functools.cache
def read(file: str, whole: bool = False) -> dict[str, np.ndarray]:
    """Arrays of a file of this name.

    Args:
        file: name without ending.
        whole: if also those arrays are needed that a small file lacks.
    """
    small = SMALL / f"{file}.npz"
    if small.exists() and not whole:
        return _redrawn(_load(small))
    return _load(shared("goldens") / f"{file}.npz")


def _load(path):
    with np.load(path) as arrays:
        return dict(arrays)


def _redrawn(arrays):
    """With the arrays that the small file describes by their seeds."""
    if "recipes" not in arrays:
        return arrays
    ulps, drawn = arrays.pop("ulps"), {}
    for key, fields in json.loads(arrays.pop("recipes").item()).items():
        size = int(np.prod(fields["shape"]))
        drawn[key] = redraw.draw(**fields, ulps=ulps[:size].reshape(fields["shape"]))
        ulps = ulps[size:]
    return arrays | drawn
