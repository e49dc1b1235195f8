"""Follows the samples through look-ups whose constants number them.

In `h[jnp.arange(B), last]` one coordinate of the index is the number of a sample. Constants hold no
samples that could be followed, so that their values are computed: where row b has the number b the
samples stay in their order, and any other numbers mix them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from lswag_jax.arrays import bind, shaped
from lswag_jax.capture.program import Flat
from lswag_jax.capture.rows import Place
from lswag_jax.capture.samples import places

_MOST = 10**6  # elements of an index that are looked at


class Lookups:
    """`samples.places` of the equations of a flat program, its numbered look-ups too.

    Args:
        flat: the program.
    """

    def __init__(self, flat: Flat) -> None:
        self._made_by = {v: eqn for eqn in flat.jaxpr.eqns for v in eqn.outvars}
        self._consts = dict(zip(flat.jaxpr.constvars, flat.consts, strict=True))
        self._values: dict[Any, np.ndarray | None] = {}

    def places(
        self,
        eqn: core.JaxprEqn,
        known: Sequence[Place | None],
        batch: int,
        mixing: list | None = None,
    ) -> list[Place | None]:
        """Places of the samples in the outputs of an equation, as `samples.places`."""
        are_numbered, place = self._numbered(eqn, known, batch)
        if not are_numbered:
            return places(eqn, known, batch, mixing)
        if mixing is not None and place is None:
            mixing.append(eqn)
        return [place]

    def _numbered(self, eqn, known, batch: int) -> tuple[bool, Place | None]:
        """Whether constants number the samples that are looked up, and their place then."""
        kind = eqn.primitive.name
        if batch > 1 and kind == "gather":
            return self._gathered(eqn, known, batch)
        if batch > 1 and kind.startswith("scatter"):
            return self._scattered(eqn, known, batch)
        return False, None

    def _gathered(self, eqn, known, batch: int) -> tuple[bool, Place | None]:
        at, numbers = known[0], eqn.params["dimension_numbers"]
        if at is None or any(at[2:]) or eqn.params["slice_sizes"][at.axis] != 1:
            return False, None
        rows = self._column(eqn.invars[1], numbers.start_index_map, at.axis)
        if rows is None:
            return False, None
        behind = [d for d in range(shaped(eqn.outvars[0]).ndim) if d not in numbers.offset_dims]
        for axis, size in enumerate(rows.shape):
            for inner in dict.fromkeys((max(size // batch, 1), 1)):
                if _are_of_samples(rows // at.inner % batch, Place(axis, inner), batch):
                    return True, Place(behind[axis], inner)
        return True, None

    def _scattered(self, eqn, known, batch: int) -> tuple[bool, Place | None]:
        at, numbers = known[2], eqn.params["dimension_numbers"]
        if at is None or any(at[2:]) or at.axis in numbers.update_window_dims:
            return False, None
        into = known[0] or Place(0)
        rows = self._column(eqn.invars[1], numbers.scatter_dims_to_operand_dims, into.axis)
        if rows is None or any(into[2:]):
            return False, None
        among = [
            d for d in range(shaped(eqn.invars[2]).ndim) if d not in numbers.update_window_dims
        ]
        place = Place(among.index(at.axis), at.inner)
        return not _are_of_samples(rows // into.inner % batch, place, batch), None

    def _column(self, index: Any, axes: Sequence[int], axis: int) -> np.ndarray | None:
        """The coordinate [...] along an axis of an index [..., axes]; None if not constant."""
        return self._at(index, axes.index(axis)) if axis in axes else None

    def _at(self, index: Any, position: int) -> np.ndarray | None:
        """The coordinate [...] at a position of the last axis of an index; None if not constant."""
        eqn, last = self._made_by.get(index), shaped(index).ndim - 1
        kind = eqn.primitive.name if eqn else ""
        if eqn and kind == "convert_element_type":
            return self._at(eqn.invars[0], position)
        if eqn and kind == "concatenate" and eqn.params["dimension"] == last:
            for part in eqn.invars:
                width = shaped(part).shape[last]
                if position < width:
                    return self._at(part, position)
                position -= width
        value = self.value(index)
        return None if value is None else value[..., position]

    def value(self, var: Any) -> np.ndarray | None:
        """The value of an array of integers; None where it is not constant."""
        if isinstance(var, core.Literal):
            return np.asarray(var.val)
        if var not in self._values:
            self._values[var] = self._computed(var)
        return self._values[var]

    def _computed(self, var: Any) -> np.ndarray | None:
        if shaped(var).dtype.kind not in "iub" or shaped(var).size > _MOST:
            return None
        if var in self._consts:
            return np.asarray(self._consts[var])
        eqn = self._made_by.get(var)
        if eqn is None or eqn.effects:
            return None
        operands = [self.value(v) for v in eqn.invars]
        if any(value is None for value in operands):
            return None
        with jax.ensure_compile_time_eval():
            outputs = bind(eqn, [jnp.asarray(value) for value in operands])
        return np.asarray(outputs[eqn.outvars.index(var)])


def _are_of_samples(numbers: np.ndarray, place: Place, batch: int) -> bool:
    """Whether numbers [...] are those of the samples that lie at a place."""
    size = numbers.shape[place.axis]
    along = np.arange(size) // place.inner % batch
    shape = [-1 if axis == place.axis else 1 for axis in range(numbers.ndim)]
    return size % batch == 0 and bool((numbers == along.reshape(shape)).all())
