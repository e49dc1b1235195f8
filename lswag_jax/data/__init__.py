"""Input batches: drawn by class, resized and normalised, from several sources."""

from lswag_jax.data.batch import Batch, convert, load_batch, make_batch, statistics
from lswag_jax.data.pool import Pool, array_pool, hold_out, label_of, per_class, some
from lswag_jax.data.sources import open_pool, split_names

__all__ = [
    "Batch",
    "Pool",
    "array_pool",
    "convert",
    "hold_out",
    "label_of",
    "load_batch",
    "make_batch",
    "open_pool",
    "per_class",
    "some",
    "split_names",
    "statistics",
]
