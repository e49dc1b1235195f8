"""What each weight layer of a network is: of attention, of an MLP, or neither."""

from typing import Any

from lswag_jax.options import typed
from lswag_jax.proxies.lswag import check_window
from lswag_jax.spaces import Space
from lswag_jax.spaces.depth import BinRule, Window, can_be_in
from lswag_jax.spaces.plan import WEIGHTED

TOLD_APART = ("attention", "MLP")
_MODULES = {"attn": "attention", "mlp": "MLP"}


@typed
def layer_kinds(
    space: Space, g: Any, window: Window | None = None, rule: BinRule = "zero_based"
) -> tuple[str, ...]:
    """The kind of each weight layer that L-SWAG or a layer profile measures in a space.

    Args:
        space: of transformers, whose plans name `attn` and `mlp`.
        g: a genotype; those of an elastic network all have the same places for layers.
        window: of L-SWAG, which measures only layers that can be in it; None for all.
        rule: of the depth bins.

    Returns:
        "attention", "MLP" or "other" of each; empty where the space has no attention, or no plan.

    Example:
        >>> from lswag_jax import spaces
        >>> space = spaces.AutoFormer("mine", (16,), (2,), (1, 2), (1,), image_size=8, patch_size=4,
        ...                           num_classes=3)
        >>> g = space.parse("16/2/1")
        >>> layer_kinds(space, g)[:5]
        ('other', 'attention', 'attention', 'MLP', 'MLP')
    """
    window = check_window(window, rule)
    try:
        plan = space.plan(g).without(space.unscored)
    except NotImplementedError:  # of a space that is traced instead
        return ()
    paths = [path for path, layer in plan.named_layers() if layer.kind in WEIGHTED]
    kinds = [next((_MODULES[name] for name in path if name in _MODULES), "other") for path in paths]
    if not set(kinds) & set(TOLD_APART):
        return ()
    measured = can_be_in(space.bin_range(rule), window)
    return tuple(kind for kind, can in zip(kinds, measured, strict=True) if can)
