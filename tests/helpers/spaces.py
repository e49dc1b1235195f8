"""Small search spaces and a network for tests."""

import flax.linen as nn
import numpy as np

from lswag_jax.spaces import AutoFormer
from tests.helpers.batches import Batch

SIZES = {"image_size": 8, "patch_size": 4, "channels": 3, "num_classes": 4}
CHOICES = ((12, 24), (1, 2), (2.0, 3.0), (1, 2, 3))
WIDE = AutoFormer("wide", *CHOICES, head_dim=8, **SIZES)
# Without tables of relative positions half as much compiles: for tests that are not of them.
PLAIN = AutoFormer("plain", *CHOICES, head_dim=8, relative_position=False, **SIZES)
SPLIT = AutoFormer("split", *CHOICES, head_dim=None, relative_position=False, **SIZES)
DETECTOR = AutoFormer(
    "detector", *CHOICES, head_dim=8, relative_position=False, head="detection", **SIZES
)


def batch(space: AutoFormer, size: int = 8, seed: int = 0) -> Batch:
    """Random images and labels, every class among them."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(size, *space.image_shape)).astype(np.float32)
    return Batch(images, np.arange(size) % space.num_classes)


class MLP(nn.Module):
    """A network without token sharing."""

    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for width in (7, 6, 5):
            x = self.scale * nn.relu(nn.Dense(width)(x))
        return nn.Dense(4)(x)
