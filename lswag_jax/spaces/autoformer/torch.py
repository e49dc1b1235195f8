"""Names and layouts of the published AutoFormer weights (Cream, Auto-Prox)."""

import math
from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.autoformer.network import VisionTransformer

_CREAM = {
    "patch_embed": "patch_embed_super.proj",
    "attn_norm": "attn_layer_norm",
    "mlp_norm": "ffn_layer_norm",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "fc1": "fc1",
    "fc2": "fc2",
}
_AUTOPROX = {
    "patch_embed": "patch_embed.projection",
    "attn_norm": "norm1",
    "mlp_norm": "norm2",
    "qkv": "attn.qkv_transform",
    "proj": "attn.projection",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def convert(module: VisionTransformer, weights: Mapping[str, np.ndarray]):
    """All weights of a state dict of Cream or Auto-Prox in our layout.

    Returns:
        Flat variables, an image's shape, and whether they are a super-network's, which is larger
        than a genotype and is cut to the module's sizes.
    """
    names = _CREAM if f"{_CREAM['patch_embed']}.weight" in weights else _AUTOPROX
    patch = weights[f"{names['patch_embed']}.weight"]
    grid = math.isqrt(weights["pos_embed"].shape[1] - 1)
    image_shape = (grid * patch.shape[2], grid * patch.shape[3], patch.shape[1])
    is_super = "blocks.0.attn.rel_pos_embed_k.embeddings_table_v" in weights
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if not is_super and depth != len(module.num_heads):
        raise ValueError(f"the state dict has {depth} blocks, the module {len(module.num_heads)}.")
    flat = {
        ("cls_token",): weights["cls_token"],
        ("pos_embed",): weights["pos_embed"],
        ("patch_embed", "kernel"): patch.transpose(2, 3, 1, 0).reshape(-1, patch.shape[0]),
        ("patch_embed", "bias"): weights[f"{names['patch_embed']}.bias"],
        **_norm(weights, "norm", ("norm",)),
        ("head", "kernel"): weights["head.weight"].T,
        ("head", "bias"): weights["head.bias"],
    }
    for i in range(len(module.num_heads)):
        flat |= _block(module, weights, names, i, is_super)
    return {("params", *path): array for path, array in flat.items()}, image_shape, is_super


def _norm(weights, name: str, path: tuple[str, ...]) -> dict:
    return {
        (*path, "norm", "scale"): weights[f"{name}.weight"],
        (*path, "norm", "bias"): weights[f"{name}.bias"],
    }


def _block(module: VisionTransformer, weights, names: Mapping[str, str], i: int, is_super) -> dict:
    ours, theirs = f"blocks_{i}", f"blocks.{i}."
    kernel = weights[theirs + names["qkv"] + ".weight"]  # [3 * width, D]
    head_dim = module.head_dim or kernel.shape[0] // 3 // module.num_heads[i]
    if kernel.shape[0] % (3 * head_dim):
        raise ValueError(
            f"{theirs}{names['qkv']}.weight has {kernel.shape[0]} rows, which are no queries, keys "
            f"and values of {head_dim}-wide heads."
        )
    if is_super:  # rows are interleaved
        kernel = np.concatenate([kernel[part::3] for part in range(3)])
    flat = {
        (ours, "attn", "qkv", "kernel"): kernel.T.reshape(kernel.shape[1], 3, -1, head_dim),
        (ours, "attn", "qkv", "bias"): weights[theirs + names["qkv"] + ".bias"],
        **_norm(weights, theirs + names["attn_norm"], (ours, "attn_norm")),
        **_norm(weights, theirs + names["mlp_norm"], (ours, "mlp_norm")),
    }
    for module_name, layer in (("attn", "proj"), ("mlp", "fc1"), ("mlp", "fc2")):
        name = theirs + names[layer]
        flat[ours, module_name, layer, "kernel"] = weights[name + ".weight"].T
        flat[ours, module_name, layer, "bias"] = weights[name + ".bias"]
    prefix = "" if is_super else "sample_"
    for side in ("k", "v") if module.relative_position else ():
        for axis, short in (("vertical", "v"), ("horizontal", "h")):
            table = f"{theirs}attn.rel_pos_embed_{side}.{prefix}embeddings_table_{short}"
            flat[ours, "attn", f"rel_{side}", axis] = weights[table]
    return flat
