"""Search spaces: genotypes, counts and elastic Flax networks."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, cast

from lswag_jax import options, own
from lswag_jax.files import nearest_first
from lswag_jax.spaces.autoformer import AutoFormer, AutoFormerGenotype
from lswag_jax.spaces.base import Block, NetworkError, Space
from lswag_jax.spaces.darts import Darts, DartsGenotype, DartsSupernet
from lswag_jax.spaces.nasbench101 import NasBench101, NasBench101Genotype
from lswag_jax.spaces.nasbench201 import NasBench201, NasBench201Genotype, NasBench201Supernet
from lswag_jax.spaces.simple import SimpleSpace
from lswag_jax.spaces.supernet import OpSets, Supernet
from lswag_jax.spaces.transnas import (
    TransNASMacro,
    TransNASMacroGenotype,
    TransNASMicro,
    TransNASMicroGenotype,
)

_AUTOFORMER_TINY = {
    "embed_dims": (192, 216, 240),
    "head_counts": (3, 4),
    "mlp_ratios": (3.5, 4.0),
    "depths": (12, 13, 14),
}
_AUTOFORMER_SMALL = {
    "embed_dims": (320, 384, 448),
    "head_counts": (5, 6, 7),
    "mlp_ratios": (3.0, 3.5, 4.0),
    "depths": (12, 13, 14),
}
_AUTOFORMER_BASE = {
    "embed_dims": (528, 576, 624),
    "head_counts": (8, 9, 10),
    "mlp_ratios": (3.0, 3.5, 4.0),
    "depths": (14, 15, 16),
}
# Small enough to train on a CPU. No choice alone decides the accuracy: its share of the variance
# is in docs/vit_tasks.md.
_AUTOFORMER_MINI = {
    "embed_dims": (24, 32, 40),
    "head_counts": (1, 2, 4),
    "mlp_ratios": (0.5, 1.0, 2.0, 4.0),
    "depths": (1, 2, 3),
    "head_dim": 8,
    "image_size": 32,
    "patch_size": 8,
    "num_classes": 10,
}
_VITBENCH = _AUTOFORMER_TINY | {"head_dim": None, "relative_position": False, "norm_eps": 1e-6}
_SPACES: dict[str, tuple[type[Space], dict[str, Any]]] = {
    "autoformer_tiny": (AutoFormer, _AUTOFORMER_TINY),
    "autoformer_small": (AutoFormer, _AUTOFORMER_SMALL),
    "autoformer_base": (AutoFormer, _AUTOFORMER_BASE),
    "autoformer_mini": (AutoFormer, _AUTOFORMER_MINI),
    "vitbench_autoformer": (AutoFormer, _VITBENCH),
    "nasbench101": (NasBench101, {}),
    "nasbench201": (NasBench201, {}),
    "darts": (Darts, {}),
    "transnas_micro": (TransNASMicro, {}),
    "transnas_macro": (TransNASMacro, {}),
}

_SUPERNETS: dict[type[Space], Callable[..., Supernet]] = {
    NasBench201: NasBench201Supernet,
    Darts: DartsSupernet,
}


def names() -> tuple[str, ...]:
    """Names that `get` knows, besides `module:NAME` of a space of your own."""
    return tuple(_SPACES)


def arguments(name: str) -> dict[str, Any]:
    """Arguments of the space called `name` and their defaults.

    Args:
        name: as in `get`.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> arguments("nasbench201")["width"]
        16
    """
    if own.is_named(name):
        return _own_arguments(own.find(name))
    _known(name)
    cls, changed = _SPACES[name]
    fields = {field.name: field.default for field in dataclasses.fields(cls)[1:]}
    return fields | changed


def _own_arguments(found: Any) -> dict[str, Any]:
    """Arguments of a user's space, or of the class or function that makes one."""
    if isinstance(found, Space):
        fields = dataclasses.fields(cast(Any, found))
        return {field.name: getattr(found, field.name) for field in fields if field.name != "name"}
    parameters = inspect.signature(found).parameters if callable(found) else {}
    return {key: value.default for key, value in parameters.items() if key != "name"}


def get(name: str, **fields: Any) -> Space:
    """The search space called `name`.

    Args:
        name: one of `names()`, or `module:NAME` of a space of your own, or of a class or function
            that makes one (`lswag_jax.own`).
        **fields: arguments of the space to change: `image_size`, `channels`, `num_classes`, and
            those of its class, such as `patch_size` or `width`.

    Raises:
        ValueError: an unknown name or argument, or no space.

    Example:
        >>> get("autoformer_tiny", image_size=32, patch_size=4, num_classes=10).num_patches
        64
    """
    known = arguments(name)
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"{name} has no argument {unknown[0]!r}, known are {', '.join(known)}.")
    if own.is_named(name):
        return _own(name, fields)
    cls, changed = _SPACES[name]
    options.check(cls, fields, name)
    make = cast(Callable[..., Space], cls)  # each has fields of its own
    return make(name=name, **(changed | fields))


def _own(name: str, fields: dict[str, Any]) -> Space:
    space = own.make(name, Space, fields)
    if fields and space is own.find(name):  # made before
        return dataclasses.replace(cast(Any, space), **fields)
    return space


@options.typed
def supernet_of(space: Space) -> Supernet:
    """The super-network of a space, whose genotypes have sets of operations.

    Raises:
        ValueError: the space has none.

    Example:
        >>> supernet_of(get("darts", layers=3, width=1)).name
        'darts_supernet'
    """
    if type(space) not in _SUPERNETS:
        known = ", ".join(name for name, (cls, _) in _SPACES.items() if cls in _SUPERNETS)
        raise ValueError(f"{space.name} has no super-network, spaces with one are {known}.")
    return _SUPERNETS[type(space)](space)


def _known(name: str) -> None:
    if not isinstance(name, str) or name not in _SPACES:
        raise ValueError(
            f"unknown search space {name!r}, known are {nearest_first(name, _SPACES)}, and "
            "module:NAME of your own."
        )


__all__ = [
    "AutoFormer",
    "AutoFormerGenotype",
    "Block",
    "Darts",
    "DartsGenotype",
    "DartsSupernet",
    "NasBench101",
    "NasBench101Genotype",
    "NasBench201",
    "NasBench201Genotype",
    "NasBench201Supernet",
    "NetworkError",
    "OpSets",
    "SimpleSpace",
    "Space",
    "Supernet",
    "TransNASMacro",
    "TransNASMacroGenotype",
    "TransNASMicro",
    "TransNASMicroGenotype",
    "arguments",
    "get",
    "names",
    "supernet_of",
]
