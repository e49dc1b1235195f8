"""Searching a space by zero-cost scores: evolution, at random or by pruning, resumable."""

from lswag_jax.scoring.objectives import Objectives
from lswag_jax.search.evolution import EvolutionOptions
from lswag_jax.search.pruning import PruningOptions
from lswag_jax.search.random_search import RandomOptions
from lswag_jax.search.results import SearchResult, write_results
from lswag_jax.search.runner import Progress, run, search, total

__all__ = [
    "EvolutionOptions",
    "Objectives",
    "Progress",
    "PruningOptions",
    "RandomOptions",
    "SearchResult",
    "run",
    "search",
    "total",
    "write_results",
]
