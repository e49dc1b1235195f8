"""L-SWAG, LIBRA-NAS and other zero-cost proxies in JAX: rank vision architectures untrained.

Example:
    >>> import numpy as np, lswag_jax
    >>> space = lswag_jax.spaces.get("autoformer_tiny", image_size=32, patch_size=4, num_classes=10)
    >>> space.format(space.sample(np.random.default_rng(0), 1)[0]).split("/")[0]
    '240'
"""

from typing import TYPE_CHECKING, Any

from lswag_jax import _moved, proxies, spaces
from lswag_jax.scoring import ScoreTable, explain_model, make_scorer, score, score_model
from lswag_jax.spaces.torch_weights import from_torch

if TYPE_CHECKING:
    from lswag_jax.training.model_files import load

__version__ = "0.2.0"
__all__ = [
    "ScoreTable",
    "explain_model",
    "from_torch",
    "load",
    "make_scorer",
    "proxies",
    "score",
    "score_model",
    "spaces",
]

globals().update(_moved.install())


def __getattr__(name: str) -> Any:
    """Loads what is heavy when it is first used."""
    if name == "load":
        from lswag_jax.training.model_files import load

        return load
    raise AttributeError(f"module 'lswag_jax' has no attribute {name!r}.")
