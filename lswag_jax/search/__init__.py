"""Searching a space by zero-cost scores: evolution, at random or by pruning, resumable."""

from lswag_jax.search.archive import Archive, extend
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.pruning import PruningOptions
from lswag_jax.search.random_search import RandomOptions
from lswag_jax.search.results import SearchResult, write_results
from lswag_jax.search.runner import Progress, data_sha256, run, search, total
from lswag_jax.search.shards import Shard, open_archive, reuse

__all__ = [
    "Archive",
    "EvolutionOptions",
    "Progress",
    "PruningOptions",
    "RandomOptions",
    "SearchResult",
    "Shard",
    "data_sha256",
    "extend",
    "open_archive",
    "reuse",
    "run",
    "search",
    "total",
    "write_results",
]
