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
from torch_networks import Network201, ViT

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
RTOL = {"lswag": 1e-5, "zico": 1e-2}
Tensor = torch.Tensor


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
