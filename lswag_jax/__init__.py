"""L-SWAG, LIBRA-NAS and other zero-cost proxies in JAX: rank vision architectures untrained.

Example:
    >>> import numpy as np, lswag_jax
    >>> space = lswag_jax.spaces.get("autoformer_tiny", image_size=32, patch_size=4, num_classes=10)
    >>> space.format(space.sample(np.random.default_rng(0), 1)[0]).split("/")[0]
    '240'
"""

from lswag_jax import proxies, spaces
from lswag_jax.scoring.model import score_model
from lswag_jax.scoring.population import make_scorer, score
from lswag_jax.scoring.table import ScoreTable
from lswag_jax.spaces.torch_weights import from_torch
from lswag_jax.training.model_files import load

__version__ = "0.1.0"
__all__ = [
    "ScoreTable",
    "from_torch",
    "load",
    "make_scorer",
    "proxies",
    "score",
    "score_model",
    "spaces",
]
