"""Multiply-accumulates: what is multiplied counts, what only moves does not."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lswag_jax import spaces, tasks
from lswag_jax.spaces.macs import count_macs

DIMS = ("NHWC", "HWIO", "NHWC")


def convolved(x, k, **options):
    arrays = (jax.ShapeDtypeStruct(s, np.float32) for s in (x, k))
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": DIMS} | options
    return count_macs(lambda x, k: lax.conv_general_dilated(x, k, **options), *arrays)


def test_plain_grouped_and_dilated():
    assert convolved((1, 8, 8, 4), (3, 3, 4, 6)) == 64 * 9 * 4 * 6
    assert convolved((1, 8, 8, 4), (3, 3, 1, 8), feature_group_count=4) == 64 * 9 * 8
    assert convolved((1, 8, 8, 4), (3, 3, 4, 6), rhs_dilation=(2, 2)) == 64 * 9 * 4 * 6
    assert convolved((1, 8, 8, 4), (3, 3, 4, 6), window_strides=(2, 2)) == 16 * 9 * 4 * 6
    assert convolved((4, 8, 8, 4), (3, 3, 4, 6), batch_group_count=2) == 2 * 64 * 9 * 4 * 6


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [*itertools.product((4, 5), (2, 3, 4), (2, 3))]
)
def test_transposed(size, kernel, stride):
    """Every pixel meets every tap once, unless the border cuts it off or adds padding."""
    layer = nn.ConvTranspose(5, (kernel, kernel), strides=(stride, stride), padding="VALID")
    x = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    v = jax.eval_shape(layer.init, jax.random.key(0), x)
    (out,) = {jax.eval_shape(layer.apply, v, x).shape[1]}
    # By hand: pairs of an output and a tap that meet no zero between the pixels.
    pad = kernel - 1
    pairs = sum((o + t - pad) % stride == 0 for o in range(out) for t in range(kernel))
    assert count_macs(layer.apply, v, x) == pairs**2 * 3 * 5


def test_grouped_transposed():
    """Half as many inputs for each output."""
    by_groups = {
        g: convolved((1, 4, 4, 4), (2, 2, 4 // g, 6), lhs_dilation=(2, 2), padding=((1, 1), (1, 1)),
                     feature_group_count=g) for g in (1, 2)
    }  # fmt: skip
    assert by_groups == {1: 4 * 4 * 4 * 4 * 6, 2: 4 * 4 * 4 * 2 * 6}


@pytest.mark.parametrize("low", [0, 1])
def test_zeros_put_between_by_hand(low):
    def doubled(x, k):
        gaps = ((0, 0, 0), (low, 1 - low, 1), (low, 1 - low, 1), (0, 0, 0))
        return lax.conv_general_dilated(
            lax.pad(x, 0.0, gaps), k, (1, 1), "SAME", dimension_numbers=DIMS
        )

    assert count_macs(doubled, jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 5))) == 16 * 9 * 3 * 5


def test_moving_counts_nothing():
    patches = lambda x: lax.conv_general_dilated_patches(  # noqa: E731
        x, (2, 2), (2, 2), "VALID", dimension_numbers=DIMS
    )
    assert count_macs(patches, jnp.ones((1, 8, 8, 3))) == 0
    assert count_macs(lambda x: x @ jnp.eye(5)[::-1], jnp.ones((4, 5))) == 0
    assert count_macs(lambda x: x @ (2 * jnp.eye(5)), jnp.ones((4, 5))) == 4 * 5 * 5


def test_dead_code():
    def f(x, k):
        x @ k @ k
        return x @ k

    arrays = jnp.ones((2, 3)), jnp.ones((3, 3))
    assert count_macs(f, *arrays) == 18
    assert count_macs(f, *arrays, dead=True) == 54


SPACES = {
    "nasbench201": {"width": 4, "cells": 1, "image_size": 8},
    "nasbench101": {"width": 8},
    "darts": {"width": 4, "layers": 3},
    "autoformer_tiny": {},
    "vitbench_autoformer": {},
}
SIZES = {"width": 4, "decoder_width": 64, "image_size": 64}
KINDS = itertools.product(tasks.names(), ("transnas_micro", "transnas_macro"))
TASKS = {f"{kind}-{task}": (kind, {"task": task} | SIZES) for task, kind in KINDS}
EVERY = {name: (name, fields) for name, fields in SPACES.items()} | TASKS


@pytest.mark.parametrize("name", EVERY)
def test_every_space(name):
    """What its figures say is what the program of `build` multiplies."""
    check_counts(*EVERY[name], np.float32)


@pytest.mark.parametrize("name", ["nasbench201", "autoformer_tiny", "transnas_micro-class_scene"])
def test_float64_multiplies_as_often(x64, name):
    check_counts(*EVERY[name], np.float64)


def check_counts(kind, fields, dtype):
    space = spaces.get(kind, **fields)
    (g,) = space.sample(np.random.default_rng(0), 1)
    module = space.build(g)
    x = jax.ShapeDtypeStruct((1, *space.image_shape), dtype)
    v = jax.eval_shape(module.init, jax.random.key(0), x)
    v = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), v)
    dead = getattr(module, "counts_dead_code", False)
    assert count_macs(module.apply, v, x, dead=dead) == space.macs(g)
