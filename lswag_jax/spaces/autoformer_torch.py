"""Names and layouts of the published AutoFormer weights (Cream, Auto-Prox)."""

import math
from collections.abc import Mapping

import numpy as np

from lswag_jax.spaces.autoformer_network import VisionTransformer

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
    """Our flat variables, and an image's shape, from a state dict of Cream or Auto-Prox.

    A super-network interleaves queries, keys and values row by row and is larger than any
    genotype: its rows are regrouped and cut to the module's sizes.
    """
    names = _CREAM if f"{_CREAM['patch_embed']}.weight" in weights else _AUTOPROX
    patch = weights[f"{names['patch_embed']}.weight"]
    grid = math.isqrt(weights["pos_embed"].shape[1] - 1)
    image_shape = (grid * patch.shape[2], grid * patch.shape[3], patch.shape[1])
    d = module.embed_dim
    flat = {
        ("cls_token",): weights["cls_token"][..., :d],
        ("pos_embed",): weights["pos_embed"][..., :d],
        ("patch_embed", "kernel"): patch.transpose(2, 3, 1, 0).reshape(-1, patch.shape[0])[:, :d],
        ("patch_embed", "bias"): weights[f"{names['patch_embed']}.bias"][:d],
        **_norm(weights, "norm", ("norm",), d),
        ("head", "kernel"): weights["head.weight"].T[:d],
        ("head", "bias"): weights["head.bias"],
    }
    for i in range(len(module.num_heads)):
        flat |= _block(module, weights, names, i)
    return {("params", *path): array for path, array in flat.items()}, image_shape


def _norm(weights, name: str, path: tuple[str, ...], d: int) -> dict:
    return {
        (*path, "norm", "scale"): weights[f"{name}.weight"][:d],
        (*path, "norm", "bias"): weights[f"{name}.bias"][:d],
    }


def _block(module: VisionTransformer, weights, names: Mapping[str, str], i: int) -> dict:
    d, heads, hidden = module.embed_dim, module.num_heads[i], module.hidden[i]
    head_dim = module.head_dim or d // heads
    ours, theirs = f"blocks_{i}", f"blocks.{i}."
    kernel = weights[theirs + names["qkv"] + ".weight"]
    if theirs + "attn.rel_pos_embed_k.embeddings_table_v" in weights:  # a super-network
        kernel = np.concatenate([kernel[part::3] for part in range(3)])
    kernel = kernel.T.reshape(kernel.shape[1], 3, -1, head_dim)
    flat = {
        (ours, "attn", "qkv", "kernel"): kernel[:d, :, :heads],
        (ours, "attn", "qkv", "bias"): weights[theirs + names["qkv"] + ".bias"][
            : 3 * heads * head_dim
        ],
        **_norm(weights, theirs + names["attn_norm"], (ours, "attn_norm"), d),
        **_norm(weights, theirs + names["mlp_norm"], (ours, "mlp_norm"), d),
    }
    sizes = {
        ("attn", "proj"): (heads * head_dim, d),
        ("mlp", "fc1"): (d, hidden),
        ("mlp", "fc2"): (hidden, d),
    }
    for (room, layer), (rows, columns) in sizes.items():
        name = theirs + names[layer]
        flat[ours, room, layer, "kernel"] = weights[name + ".weight"].T[:rows, :columns]
        flat[ours, room, layer, "bias"] = weights[name + ".bias"][:columns]
    if module.relative_position:
        for side in ("k", "v"):
            for axis, short in (("vertical", "v"), ("horizontal", "h")):
                name = f"{theirs}attn.rel_pos_embed_{side}.{{}}embeddings_table_{short}"
                table = weights.get(name.format("sample_"))
                flat[ours, "attn", f"rel_{side}", axis] = (
                    weights[name.format("")] if table is None else table
                )
    return flat
