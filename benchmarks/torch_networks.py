"""Networks of the AutoFormer spaces and of NAS-Bench-201 in PyTorch, with our weights."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MAX_DISTANCE = 14  # of relative positions
Tensor = torch.Tensor


class RelativePosition(nn.Module):
    """The published 2-D relative position embeddings [N, N, K], an embedding for each pair."""

    def __init__(self, head_dim: int, grid: int):
        super().__init__()
        self.vertical = nn.Parameter(torch.zeros(2 * MAX_DISTANCE + 2, head_dim))
        self.horizontal = nn.Parameter(torch.zeros(2 * MAX_DISTANCE + 2, head_dim))
        rows, columns = np.divmod(np.arange(grid * grid), grid)
        for name, place in (("rows", rows), ("columns", columns)):
            delta = np.clip(place[None] - place[:, None], -MAX_DISTANCE, MAX_DISTANCE)
            index = np.pad(delta + MAX_DISTANCE + 1, ((1, 0), (1, 0)))  # 0: with the class token
            self.register_buffer(name, torch.tensor(index))

    def forward(self) -> Tensor:
        """One embedding for each query and key."""
        return self.vertical[self.rows] + self.horizontal[self.columns]


class Attention(nn.Module):
    """Multi-head attention, with relative position where the space has it."""

    def __init__(self, dim: int, heads: int, head_dim: int, grid: int, relative: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * heads * head_dim)
        self.proj = nn.Linear(heads * head_dim, dim)
        self.rel_k = RelativePosition(head_dim, grid) if relative else None
        self.rel_v = RelativePosition(head_dim, grid) if relative else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, D] to the same shape."""
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rel_k is None:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            logits = q @ k.transpose(-2, -1)
            logits = logits + torch.einsum("bhnk,nmk->bhnm", q, self.rel_k())
            attention = (logits * q.shape[-1] ** -0.5).softmax(-1)
            y = attention @ v + torch.einsum("bhnm,nmk->bhnk", attention, self.rel_v())
        return self.proj(y.transpose(1, 2).reshape(b, n, -1))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim, heads, head_dim, hidden, grid, relative, eps):
        super().__init__()
        self.attn_norm, self.mlp_norm = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn = Attention(dim, heads, head_dim, grid, relative)
        self.fc1, self.gelu, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, N, D] to the same shape."""
        x = x + self.attn(self.attn_norm(x))
        return x + self.fc2(self.gelu(self.fc1(self.mlp_norm(x))))


class ViT(nn.Module):
    """A ViT of the AutoFormer spaces, of one genotype's sizes, with our weights."""

    def __init__(self, space, g, params):
        super().__init__()
        grid, dim = space.image_size // space.patch_size, g.embed_dim
        self.patch_embed = nn.Conv2d(3, dim, space.patch_size, space.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid + 1, dim))
        sizes = [
            (h, space.head_dim or dim // h, m) for h, m in zip(g.num_heads, g.hidden, strict=True)
        ]
        self.blocks = nn.Sequential(
            *(Block(dim, *s, grid, space.relative_position, space.norm_eps) for s in sizes)
        )
        self.norm, self.head = nn.LayerNorm(dim, space.norm_eps), nn.Linear(dim, space.num_classes)
        _load_vit(self, params, space.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images [B, 3, H, W]."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 1:].mean(1))


def _load_vit(model: ViT, params: dict, patch: int) -> None:
    """Copies the variables of the exact network."""

    def put(to: nn.Module, own: dict) -> None:
        kernel = torch.tensor(np.asarray(own.get("kernel", own.get("scale"))))
        if isinstance(to, nn.Conv2d):
            kernel = kernel.reshape(patch, patch, 3, -1).permute(3, 2, 0, 1)
        elif isinstance(to, nn.Linear):
            kernel = kernel.reshape(len(kernel), -1).T
        to.weight.data = kernel.contiguous()
        to.bias.data = torch.tensor(np.asarray(own["bias"]))

    def table(to: nn.Parameter, own: np.ndarray) -> None:
        to.data = torch.tensor(np.asarray(own))

    for i, block in enumerate(model.blocks):
        ours = params[f"blocks_{i}"]
        for name in ("attn_norm", "mlp_norm"):
            put(getattr(block, name), ours[name]["norm"])
        put(block.attn.qkv, ours["attn"]["qkv"])
        put(block.attn.proj, ours["attn"]["proj"])
        put(block.fc1, ours["mlp"]["fc1"])
        put(block.fc2, ours["mlp"]["fc2"])
        for side in ("rel_k", "rel_v") if block.attn.rel_k is not None else ():
            for axis in ("vertical", "horizontal"):
                table(getattr(getattr(block.attn, side), axis), ours["attn"][side][axis])
    put(model.patch_embed, params["patch_embed"])
    put(model.norm, params["norm"]["norm"])
    put(model.head, params["head"])
    table(model.cls_token, params["cls_token"])
    table(model.pos_embed, params["pos_embed"])


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, BatchNorm."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, strides: int = 1):
        conv = nn.Conv2d(inputs, outputs, size, strides, size // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


class Cell(nn.Module):
    """A cell of NAS-Bench-201; edges in the order of the string."""

    def __init__(self, ops: list[str], width: int):
        super().__init__()
        made = {"nor_conv_3x3": 3, "nor_conv_1x1": 1}
        self.edges = nn.ModuleList(
            ReLUConvBN(width, width, made[op]) if op in made else nn.Identity() for op in ops
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to the same shape."""
        nodes, edges = [x], iter(self.edges)
        for _ in range(3):
            nodes.append(sum(next(edges)(node) for node in list(nodes)))
        return nodes[-1]


class Residual(nn.Module):
    """Between stages: half the resolution, twice the channels."""

    def __init__(self, inputs: int):
        super().__init__()
        self.conv_a = ReLUConvBN(inputs, 2 * inputs, strides=2)
        self.conv_b = ReLUConvBN(2 * inputs, 2 * inputs)
        self.pool = nn.AvgPool2d(2)
        self.downsample = nn.Conv2d(inputs, 2 * inputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, 2 C, H / 2, W / 2]."""
        return self.conv_b(self.conv_a(x)) + self.downsample(self.pool(x))


class Network201(nn.Module):
    """A network of NAS-Bench-201 with our weights; its cell has convolutions and skips only."""

    def __init__(self, space, genotype, params):
        super().__init__()
        ops, width = genotype.ops, space.width
        self.stem_conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        cells = []
        for stage in range(3):
            cells += [Cell(ops, width << stage) for _ in range(space.cells)]
            cells += [Residual(width << stage)] if stage < 2 else []
        self.cells = nn.Sequential(*cells)
        self.norm, self.relu = nn.BatchNorm2d(width << 2), nn.ReLU()
        self.head = nn.Linear(width << 2, space.num_classes)
        _load_convolutions(self, params)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images [B, 3, H, W]."""
        x = self.cells(self.stem_norm(self.stem_conv(images)))
        return self.head(self.relu(self.norm(x)).mean((2, 3)))


def _load_convolutions(model: Network201, params: dict) -> None:
    """Copies the kernels and the classifier; BatchNorm starts at 1 and 0 on both sides."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            own = params
            for part in _path_201(name):
                own = own[part]
            kernel = np.asarray(own["kernel"]).transpose(3, 2, 0, 1)
            layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    model.head.weight.data = torch.tensor(np.asarray(params["head"]["kernel"]).T.copy())
    model.head.bias.data = torch.tensor(np.asarray(params["head"]["bias"]))


def _path_201(name: str) -> list[str]:
    """Where our variables have a convolution called `name` there."""
    parts = name.split(".")
    if parts[0] != "cells":
        return parts
    if parts[2] == "edges":
        return [f"cells_{parts[1]}", f"edge_{parts[3]}", "conv"]
    return [f"cells_{parts[1]}", parts[2]] + (["conv"] if len(parts) == 4 else [])
