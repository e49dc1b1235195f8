"""The AutoFormer goldens as networks of ours."""

import dataclasses
import json

import numpy as np

import lswag_jax
from lswag_jax import spaces
from lswag_jax.spaces import AutoFormerGenotype
from tests.helpers import goldens

FILES = ("autoprox_micro64", "autoprox_tiny216d4", "cream_micro")
SETS = [(file, "init") for file in FILES] + [("autoprox_micro64", "gauss")]


@dataclasses.dataclass
class Golden:
    """One file with one weight set, widened to `dtype`."""

    arrays: dict[str, np.ndarray]
    weights: str
    dtype: type

    @property
    def info(self) -> dict:
        return json.loads(self.arrays["genotype_json"].item())

    @property
    def is_cream(self) -> bool:
        return "super" in self.info

    @property
    def genotype(self) -> AutoFormerGenotype:
        dim = self.info["embed_dim"][0] if self.is_cream else self.info["hidden_dim"]
        return AutoFormerGenotype(dim, self.info["num_heads"], self.info["mlp_ratio"])

    @property
    def space(self) -> spaces.AutoFormer:
        """A space in which the genotype is not the largest."""
        size = {"image_size": self.info["img"], "patch_size": self.info["patch"]}
        size |= {"num_classes": self.info["classes"], "mlp_ratios": (3.0, 3.5, 4.0)}
        d, depth = self.genotype.embed_dim, self.genotype.depth
        if self.is_cream:
            size |= {"embed_dims": (96, 128), "head_counts": (1, 2), "depths": (3, 4)}
            return spaces.get("autoformer_tiny", **size)
        heads = tuple(h for h in (1, 2, 3, 4) if d % h == (d + 24) % h == 0)
        size |= {"embed_dims": (d, d + 24), "head_counts": heads, "depths": (depth, depth + 1)}
        return spaces.get("vitbench_autoformer", **size)

    @property
    def module(self):
        return self.space.build(self.genotype)

    @property
    def variables(self):
        return lswag_jax.from_torch(self.module, self.state_dict(f"{self.weights}/w/"))

    def state_dict(self, prefix: str) -> dict[str, np.ndarray]:
        return {
            key.removeprefix(prefix): value.astype(self.dtype)
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }

    def images(self, size: int = 8) -> np.ndarray:
        """The first images of the batch of 32; its first 8 are the file's batch."""
        return self.arrays["images_B32"][:size].transpose(0, 2, 3, 1).astype(self.dtype)

    def labels(self, size: int = 8) -> np.ndarray:
        return self.arrays["labels_B32"][:size].astype(np.int32)

    def value(self, key: str) -> np.ndarray:
        return self.arrays[f"{self.weights}/{key}"]


def load(file: str, weights: str, dtype: type = np.float64, whole: bool = False) -> Golden:
    """A golden network; `whole` as `goldens.read` has it."""
    return Golden(goldens.read(f"autoformer_{file}", whole), weights, dtype)
