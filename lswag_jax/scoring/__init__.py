"""Scores of whole populations and of single models, and the table that holds them."""

from lswag_jax.scoring import model, programs
from lswag_jax.scoring.costs import Costs
from lswag_jax.scoring.fitness import Fitness
from lswag_jax.scoring.model import explain_model, score_model
from lswag_jax.scoring.objectives import Objectives
from lswag_jax.scoring.options import ScoreOptions
from lswag_jax.scoring.population import make_scorer, score, stream
from lswag_jax.scoring.progress import Progress
from lswag_jax.scoring.rows import Row
from lswag_jax.scoring.table import ScoreTable

__all__ = [
    "Costs",
    "Fitness",
    "Objectives",
    "Progress",
    "Row",
    "ScoreOptions",
    "ScoreTable",
    "clear_programs",
    "explain_model",
    "make_scorer",
    "num_programs",
    "score",
    "score_model",
    "stream",
]


def clear_programs() -> None:
    """Drops the compiled programs that are kept for later calls."""
    programs.clear()
    model.clear()


def num_programs() -> int:
    """How many compiled programs are kept for later calls."""
    return programs.count() + model.count()
