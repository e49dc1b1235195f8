"""Scores of whole populations and of single models, and the table that holds them."""

from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.model import score_model
from lswag_jax.scoring.population import make_scorer, score, stream
from lswag_jax.scoring.table import Row, ScoreTable

__all__ = ["Fitness", "Row", "ScoreTable", "make_scorer", "score", "score_model", "stream"]
