"""A classifier and pools of images that train in no time."""

import flax.linen as nn
import numpy as np

from lswag_jax import data


class Linear(nn.Module):
    """Logits linear in the pixels, called as the networks of the spaces are."""

    num_classes: int = 4
    norm: bool = False

    @nn.compact
    def __call__(self, images, encoded=None, train=False):
        x = images.reshape(images.shape[0], -1)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(self.num_classes, name="head")(x)


def pool(n=48, size=8, channels=1, num_classes=4, seed=0) -> data.Pool:
    """Images whose brightness tells their class, a little noisy."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % num_classes).astype(np.int32)
    images = rng.integers(0, 40, (n, size, size, channels)) + 60 * labels[:, None, None, None]
    return data.array_pool(images.astype(np.uint8), labels, "noise", "noise", num_classes)
