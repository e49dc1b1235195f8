"""The layers of an AutoFormer network."""

import functools
from typing import TYPE_CHECKING

from lswag_jax.spaces.autoformer.genotype import AutoFormerGenotype
from lswag_jax.spaces.autoformer.network import MAX_DISTANCE
from lswag_jax.spaces.plan import Layer, Plan, dense

if TYPE_CHECKING:
    from lswag_jax.spaces.autoformer.space import AutoFormer


def network(space: "AutoFormer", g: AutoFormerGenotype) -> Plan:
    """Patch embedding, pre-norm blocks in the places of the deepest network's, head."""
    d, tokens = g.embed_dim, space.num_patches + 1
    parts: dict[str, Layer | Plan] = {
        "patch_embed": dense(space.patch_size**2 * space.channels, d, space.num_patches),
        "cls_token": _table(1, 1, d),
        "pos_embed": _table(1, tokens, d),
    }
    for i in range(max(space.depths)):
        # What the first block has stands for the sizes of blocks that are absent.
        heads, hidden = (g.num_heads[i], g.hidden[i]) if i < g.depth else (1, d)
        head_dim = space.head_dim or d // heads
        block = _block(d, heads, head_dim, hidden, tokens, space.relative_position)
        parts[f"blocks_{i}"] = block.only_if(i < g.depth)
    head = dense(d, space.task.outputs, space.num_patches if space.is_detector else 1)
    return Plan(parts | {"norm": _norm(d, tokens), "head": head})


@functools.lru_cache(maxsize=1024)
def _block(
    d: int, heads: int, head_dim: int, hidden: int, tokens: int, relative_position: bool
) -> Plan:
    """Attention, then MLP; a product with keys or values costs tokens^2 * width."""
    width = heads * head_dim
    product = Layer("product", width, width, tokens, tokens)
    qkv = dense(d, 3 * width, tokens)._replace(shape=(d, 3, heads, head_dim))
    tables = _relative_tables(head_dim, product) if relative_position else {}
    attention = {"qkv": qkv, "logits": product, "values": product, **tables}
    return Plan(
        {
            "attn_norm": _norm(d, tokens),
            "attn": Plan(attention | {"proj": dense(width, d, tokens)}),
            "mlp_norm": _norm(d, tokens),
            "mlp": Plan(
                {
                    "fc1": dense(d, hidden, tokens),
                    "gelu": Layer("gelu", hidden, hidden, tokens, tokens),
                    "fc2": dense(hidden, d, tokens),
                }
            ),
        }
    )


def _relative_tables(head_dim: int, product: Layer) -> dict[str, Plan]:
    """Tables of relative positions for keys and for values, each with a product."""
    table = _table(2 * MAX_DISTANCE + 2, head_dim)
    tables = Plan({"vertical": table, "horizontal": table, "product": product})
    return {"rel_k": tables, "rel_v": tables}


def _table(*shape: int) -> Layer:
    return Layer("table", shape[-1], shape[-1], shape=shape)


def _norm(d: int, tokens: int) -> Plan:
    return Plan({"norm": Layer("layer_norm", d, d, tokens, tokens, bias=True)})


def cream_macs(space: "AutoFormer", g: AutoFormerGenotype) -> int:
    """The published counter `get_complexity` of microsoft/Cream, with its off-by-one token count.

    It counts LayerNorms, half of the position table and the bias of the patch embedding, relative
    positions by a formula that no product has, and the head for every token.
    """
    d, tokens = g.embed_dim, space.num_patches + 1
    n, layers = tokens + 1, dict(network(space, g).named_layers())
    total = layers["patch_embed",].macs + tokens * d // 2 + d + tokens * d * space.task.outputs
    for path, layer in layers.items():
        if layer.present and layer.kind == "dense" and len(path) > 1:  # of a block
            total += n * layer.weights
    for heads in g.num_heads:
        width = d if space.head_dim is None else heads * space.head_dim
        total += 2 * n * n * width + 2 * n * d + 28 * n * n + n * n // 2 + n * width // 2
    return total
