"""L-SWAG and ZiCo beside PyTorch: the same networks, weights and images, on the same cores.

    pip install lswag_jax[torch]
    python benchmarks/run.py beside_torch

PyTorch runs one forward and backward pass of the batch, ZiCo (two of half the batch), and L-SWAG
in two ways: `vmap(grad)`, which is what one writes first, and hooks with one einsum a layer. Its
patterns are packed into 64-bit words. Here the scorer is the compiled program of the whole space,
so that a new network costs the same. Jobs of a case take turns, in a process a library; medians of
CPU seconds and of wall seconds are reported, and values of L-SWAG and ZiCo compared. About 10
minutes.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait do not count as work

import jax
import numpy as np
import tables
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

import lswag_jax
from lswag_jax.spaces import AutoFormerGenotype

BEST_201 = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
LARGEST = AutoFormerGenotype(240, (4,) * 14, (4.0,) * 14)
VIT, TINY = "vitbench_autoformer", "autoformer_tiny"
CASES = {  # space and its arguments, genotype, batch, rounds
    "ViT 240 x 14, 32 px, B = 32": (VIT, {"image_size": 32, "patch_size": 4}, LARGEST, 32, 3),
    "ViT 240 x 14, 224 px, B = 16": (VIT, {"image_size": 224, "patch_size": 16}, LARGEST, 16, 3),
    "autoformer_tiny, 32 px, B = 32": (TINY, {"image_size": 32, "patch_size": 4}, LARGEST, 32, 3),
    "NAS-Bench-201, best, B = 64": ("nasbench201", {}, BEST_201, 64, 3),
}
# 1 / |g_1 - g_2| of ZiCo's halves is large where they nearly agree, up to the rounding of float32.
RTOL = {"lswag": 2e-3, "zico": 1e-2}
MAX_DISTANCE = 14
Tensor = torch.Tensor


# Networks in PyTorch -------------------------------------------------------------------------


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


# L-SWAG and ZiCo in PyTorch ------------------------------------------------------------------


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers."""
    kinds = (nn.Conv2d, nn.Linear)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def freeze_statistics(model: nn.Module, images: Tensor) -> None:
    """Lets BatchNorm normalise by this batch's statistics as constants."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return
    model.train()
    handles = []
    for norm in norms:

        def keep(layer, inputs):
            x = inputs[0]
            layer.running_mean.copy_(x.mean((0, 2, 3)))
            layer.running_var.copy_(x.var((0, 2, 3), unbiased=False))

        handles.append(norm.register_forward_pre_hook(keep))
        norm.momentum = 0.0  # or its own update would follow
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    model.eval()


def log_sum(gradients_B: Tensor) -> Tensor:
    """log sum_w 1 / std_i |g_i|."""
    sigma = gradients_B.abs().std(0, unbiased=False)
    return (1 / sigma[sigma > 0]).sum().log()


def packed(post: Tensor) -> Tensor:
    """Patterns of all units, sample i's bit in bit i of a word."""
    bits = (post > 0).flatten(1).to(torch.int64)
    return (bits << torch.arange(len(bits))[:, None]).sum(0)


def record_activations(model: nn.Module, words: list[Tensor]) -> list:
    """Hooks that pack what every activation puts out."""
    kinds = (nn.ReLU, nn.GELU)
    hook = lambda layer, inputs, output: words.append(packed(output.detach()))  # noqa: E731
    return [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]


def forward_backward(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """One training step's gradient."""
    model.train()
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(images), labels).backward()


def lswag_vmap(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Every sample's gradient by vmap(grad), then its statistics.

    Attention runs as products and softmax, since PyTorch's fused one has no rule for vmap.
    """
    freeze_statistics(model, images)
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(params, image, label):
        return F.cross_entropy(functional_call(model, params, (image[None],)), label[None])

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        per_sample = vmap(grad(loss), (None, 0, 0))(params, images, labels)
    lam = sum(log_sum(per_sample[f"{name}.weight"]) for name in weight_layers(model))
    words: list[Tensor] = []
    handles = record_activations(model, words)
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return float(lam) * len(torch.cat(words).unique())


def _hooked(layer: nn.Module, x: Tensor, cotangent: Tensor) -> Tensor:
    """Every sample's gradient of one layer's weight."""
    if isinstance(layer, nn.Conv2d):
        patches = F.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride)
        return torch.einsum("bin,bon->boi", patches, cotangent.flatten(2))
    x, cotangent = (a.reshape(len(a), -1, a.shape[-1]) for a in (x, cotangent))
    return torch.einsum("bni,bno->boi", x, cotangent)


def lswag_hooks(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """One backward pass to the layers' outputs; an einsum and the statistics a layer."""
    freeze_statistics(model, images)
    inputs, terms, words = {}, [], []
    handles = record_activations(model, words)
    for p in model.parameters():
        p.requires_grad_(False)

    def remember(layer, given, output):
        inputs[layer] = given[0].detach()
        if not output.requires_grad:
            output.requires_grad_()  # the first layer: nothing before it has a gradient
        output.register_hook(lambda g: terms.append(log_sum(_hooked(layer, inputs.pop(layer), g))))

    handles += [m.register_forward_hook(remember) for m in weight_layers(model).values()]
    F.cross_entropy(model(images), labels, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    for p in model.parameters():
        p.requires_grad_(True)
    return float(sum(terms)) * len(torch.cat(words).unique())


def zico(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Two halves of the batch: log-sums of mean |g| over the standard deviation of g."""
    halves = []
    for x, y in zip(images.chunk(2), labels.chunk(2), strict=True):
        forward_backward(model, x, y)
        halves.append([layer.weight.grad for layer in weight_layers(model).values()])
    score = 0.0
    for pair in zip(*halves, strict=True):
        g = torch.stack(pair)
        mean, sigma = g.abs().mean(0), g.std(0, unbiased=False)
        score += float((mean[sigma > 0] / sigma[sigma > 0]).sum().log())
    return score


# Measuring -----------------------------------------------------------------------------------


def jobs_of(side: str, name: str) -> dict[str, Callable[[], float | None]]:
    """The jobs of one side of a case, by name."""
    space_name, arguments, genotype, batch, _ = CASES[name]
    space = lswag_jax.spaces.get(space_name, num_classes=100, **arguments)
    genotype = space.parse(genotype) if isinstance(genotype, str) else genotype
    size = space.image_size if hasattr(space, "image_size") else 32
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
    labels = np.arange(batch) % 100
    if side == "ours":
        return {
            f"ours: {proxy}": lambda p=proxy: float(
                lswag_jax.score(space, [genotype], images, labels, p)[p][0]
            )
            for proxy in ("lswag", "zico")
        }
    exact = space.extract(jax.jit(space.init)(jax.random.key(0)), genotype)["params"]
    model = (Network201 if space_name == "nasbench201" else ViT)(space, genotype, exact)
    x, y = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(labels)
    theirs = {
        "forward + backward": forward_backward,
        "zico": zico,
        "lswag, hooks": lswag_hooks,
        "lswag, vmap(grad)": lswag_vmap,
    }
    return {f"torch: {k}": lambda f=f: f(model, x, y) for k, f in theirs.items()}


def serve(side: str, name: str, pipe: Connection) -> None:
    """Says its jobs, then runs each that is asked for: seconds, CPU seconds and its value.

    It runs twice and the second time counts: the first finds memory as the other process left it.
    """
    jobs = jobs_of(side, name)
    pipe.send(list(jobs))
    while job := pipe.recv():
        jobs[job]()
        wall, cpu = time.perf_counter(), time.process_time()
        value = jobs[job]()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, value))


def measure(name: str, rounds: int | None) -> None:
    """Shows medians of a case's jobs, which take turns, and ratios; compares values."""
    spawn, sides = multiprocessing.get_context("spawn"), {}
    for side in ("torch", "ours"):
        pipe, other = spawn.Pipe()
        spawn.Process(target=serve, args=(side, name, other), daemon=True).start()
        sides |= dict.fromkeys(pipe.recv(), pipe)

    def run(job: str) -> tuple[float, float, float]:
        sides[job].send(job)
        return sides[job].recv()

    values = {job: run(job)[2] for job in sides}  # warm: compiled, memory there
    spent = [[run(job)[:2] for job in sides] for _ in range(rounds or CASES[name][-1])]
    for pipe in set(sides.values()):
        pipe.send(None)
    wall, cpu = (dict(zip(sides, of, strict=True)) for of in np.median(spent, axis=0).T)
    rows = [{"job": job, "CPU s": cpu[job], "s": wall[job], "value": values[job]} for job in sides]
    tables.show(name, rows, {"CPU s": 2, "s": 2})
    ours = cpu["ours: lswag"]
    ratios = {
        "ours over torch forward + backward (at most 1.5 wanted)": ours
        / cpu["torch: forward + backward"],
        "torch vmap(grad) over ours (8 wanted)": cpu["torch: lswag, vmap(grad)"] / ours,
        "torch hooks over ours (3 wanted)": cpu["torch: lswag, hooks"] / ours,
        "torch zico over ours": cpu["torch: zico"] / cpu["ours: zico"],
    }
    tables.show_figures(f"{name}: ratios", ratios, digits=2)
    for proxy, others in (("lswag", ("lswag, hooks", "lswag, vmap(grad)")), ("zico", ("zico",))):
        for other in others:
            np.testing.assert_allclose(
                values[f"torch: {other}"], values[f"ours: {proxy}"], rtol=RTOL[proxy], err_msg=name
            )


def main() -> None:
    """Runs the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), help="parts of their names")
    parser.add_argument("--rounds", type=int, default=None)
    arguments = parser.parse_args()
    for name in CASES:
        if any(part in name for part in arguments.cases):
            measure(name, arguments.rounds)


if __name__ == "__main__":
    main()
