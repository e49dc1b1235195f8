"""Figures of scores, searches, layer profiles, correlations and LIBRA's choice.

Each function returns a `matplotlib.figure.Figure` made without pyplot: nothing global is touched
and no display is needed. Matplotlib is imported where a figure is made. Colours are of the
Okabe-Ito palette, which colour-blind readers can tell apart; legends stand outside of the axes.
"""

from lswag_jax.analysis.plots.agreement import rank_panels, ranks
from lswag_jax.analysis.plots.fronts import front
from lswag_jax.analysis.plots.grids import averages, heat_map
from lswag_jax.analysis.plots.layers import layer_factors, profile
from lswag_jax.analysis.plots.runs import best_so_far, score_against_params, training
from lswag_jax.analysis.plots.selections import candidates
from lswag_jax.analysis.plots.style import FORMATS, save

__all__ = [
    "FORMATS",
    "averages",
    "best_so_far",
    "candidates",
    "front",
    "heat_map",
    "layer_factors",
    "profile",
    "rank_panels",
    "ranks",
    "save",
    "score_against_params",
    "training",
]
