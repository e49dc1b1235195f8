"""Weights of PyTorch models: files, and sentences for those that do not fit."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import lswag_jax
from tests.helpers.autoformer_goldens import load
from tests.helpers.spaces import SPLIT, WIDE


def test_files(tmp_path):
    """`.npz` and `.safetensors` give the same variables as the arrays themselves."""
    from safetensors.numpy import save_file

    golden = load("autoprox_micro64", "init", np.float32)
    weights = golden.state_dict("init/w/")
    np.savez(tmp_path / "w.npz", **weights)
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, tmp_path / "w.safetensors")
    for name in ("w.npz", "w.safetensors"):
        found = lswag_jax.from_torch(golden.module, tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, found, golden.variables)
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"read from .npz or .safetensors files, got w.pth"):
        lswag_jax.from_torch(golden.module, tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="no weights file"):
        lswag_jax.from_torch(golden.module, tmp_path / "none.npz")


def test_weights_that_do_not_fit():
    golden = load("autoprox_micro64", "init", np.float32)
    weights = golden.state_dict("init/w/")
    missing = {k: v for k, v in weights.items() if k != "head.bias"}
    with pytest.raises(ValueError, match=r"the state dict has no weight 'head.bias'"):
        lswag_jax.from_torch(golden.module, missing)
    with pytest.raises(ValueError, match="the state dict has 3 blocks, the module 2"):
        lswag_jax.from_torch(SPLIT.build(SPLIT.parse("12/1,1/2,2")), weights)
    with pytest.raises(ValueError, match=r"has shape .*, but the module has"):
        lswag_jax.from_torch(SPLIT.build(SPLIT.parse("12/1,1,1/2,2,2")), weights)
    with pytest.raises(ValueError, match=r"no weight 'blocks.0.attn.rel_pos_embed_k.sample_embed"):
        lswag_jax.from_torch(WIDE.build(WIDE.parse("12/1,1,1/2,2,2")), weights)
    with pytest.raises(ValueError, match="from_torch knows the networks VisionTransformer"):
        lswag_jax.from_torch(nn.Dense(2), weights)
    with pytest.raises(ValueError, match="module of from_torch must be a Module"):
        lswag_jax.from_torch(object(), weights)
