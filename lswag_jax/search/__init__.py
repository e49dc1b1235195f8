"""Searching a space by zero-cost scores: evolution or at random, resumable."""

from lswag_jax.search.archive import Archive
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.random_search import RandomOptions
from lswag_jax.search.results import SearchResult, write_results
from lswag_jax.search.runner import Progress, run, search

__all__ = [
    "Archive",
    "EvolutionOptions",
    "Progress",
    "RandomOptions",
    "SearchResult",
    "run",
    "search",
    "write_results",
]
