"""What the elastic DARTS network reads of a genotype."""

import numpy as np

from lswag_jax.spaces.darts.genotype import OPS, DartsGenotype
from lswag_jax.spaces.darts.plan import DEPTHWISE, SLOTS, edge_stride, slots

CODES = ("ops", "inputs", "sizes", "spacings", "dilations", "slots")


def edge_codes(g: DartsGenotype, pool_norm: bool) -> dict[str, np.ndarray]:
    """What the elastic network reads of a genotype, for both cells' edges [2, 8].

    Returns:
        `ops`, indices into `OPS`; `inputs`; `sizes`, 0 for no depthwise convolution, 1 for size 3
        and 2 for size 5; `spacings`, between an input's pixels on its map; `dilations` on that
        map; `slots` [2, 8, 8], which of `SLOTS` an edge has.
    """
    codes = [
        [_edge_code(op, source, reduces, pool_norm) for op, source in cell]
        for cell, reduces in ((g.normal, False), (g.reduce, True))
    ]
    columns = zip(*(zip(*cell, strict=True) for cell in codes), strict=True)
    return {key: np.array(column, np.int32) for key, column in zip(CODES, columns, strict=True)}


def _edge_code(op: str, source: int, reduces: bool, pool_norm: bool) -> tuple:
    """One edge's entries of `edge_codes`."""
    stride = edge_stride(reduces, source)
    size, dilation = DEPTHWISE.get(op, (0, 1))
    spacing = 2 if reduces and stride == 1 else 1
    present = [name in slots(op, stride, pool_norm) for name in SLOTS]
    return OPS.index(op), source, size // 2, spacing, dilation * spacing, present
