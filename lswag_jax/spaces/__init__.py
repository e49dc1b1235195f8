"""Search spaces: genotypes, counts and elastic Flax networks."""

import difflib
from typing import Any

from lswag_jax.spaces.autoformer import AutoFormer
from lswag_jax.spaces.autoformer_genotype import AutoFormerGenotype

Space = AutoFormer

_AUTOFORMER_TINY = {
    "embed_dims": (192, 216, 240),
    "head_counts": (3, 4),
    "mlp_ratios": (3.5, 4.0),
    "depths": (12, 13, 14),
}
_SPACES: dict[str, dict[str, Any]] = {
    "autoformer_tiny": _AUTOFORMER_TINY,
    "autoformer_small": {
        "embed_dims": (320, 384, 448),
        "head_counts": (5, 6, 7),
        "mlp_ratios": (3.0, 3.5, 4.0),
        "depths": (12, 13, 14),
    },
    "autoformer_base": {
        "embed_dims": (528, 576, 624),
        "head_counts": (8, 9, 10),
        "mlp_ratios": (3.0, 3.5, 4.0),
        "depths": (14, 15, 16),
    },
    "vitbench_autoformer": _AUTOFORMER_TINY
    | {"head_dim": None, "relative_position": False, "norm_eps": 1e-6},
}


def names() -> tuple[str, ...]:
    """Names that `get` knows."""
    return tuple(_SPACES)


def get(name: str, **arguments: Any) -> Space:
    """The search space called `name`.

    Args:
        name: one of `names()`.
        **arguments: fields of the space to change: `image_size`, `patch_size`, `channels`,
            `num_classes`, or the choices themselves.

    Raises:
        ValueError: an unknown name or argument.

    Example:
        >>> get("autoformer_tiny", image_size=32, patch_size=4, num_classes=10).num_patches
        64
    """
    if name not in _SPACES:
        near = difflib.get_close_matches(str(name), _SPACES, n=len(_SPACES), cutoff=0.0)
        raise ValueError(f"unknown search space {name!r}, known are {', '.join(near)}.")
    fields = AutoFormer.__dataclass_fields__
    unknown = sorted(set(arguments) - set(fields))
    if unknown:
        raise ValueError(
            f"{name} has no argument {unknown[0]!r}, known are {', '.join(list(fields)[1:])}."
        )
    return AutoFormer(name=name, **(_SPACES[name] | arguments))


__all__ = ["AutoFormer", "AutoFormerGenotype", "Space", "get", "names"]
