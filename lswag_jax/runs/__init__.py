"""The resumable folder of a long job: an archive of rows, and shards that workers take."""

from lswag_jax.runs.archive import Archive, check_complete, extend
from lswag_jax.runs.draw import draw, shortage
from lswag_jax.runs.shards import Shard, open_archive, reuse

__all__ = [
    "Archive",
    "Shard",
    "check_complete",
    "draw",
    "extend",
    "open_archive",
    "reuse",
    "shortage",
]
