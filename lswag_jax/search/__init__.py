"""Searching a space by zero-cost scores: evolution or at random, resumable."""

from lswag_jax.search.archive import Archive, extend
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.random_search import RandomOptions
from lswag_jax.search.results import SearchResult, write_results
from lswag_jax.search.runner import Progress, data_sha256, run, search
from lswag_jax.search.shards import Shard, open_archive, reuse

__all__ = [
    "Archive",
    "EvolutionOptions",
    "Progress",
    "RandomOptions",
    "SearchResult",
    "Shard",
    "data_sha256",
    "extend",
    "open_archive",
    "reuse",
    "run",
    "search",
    "write_results",
]
