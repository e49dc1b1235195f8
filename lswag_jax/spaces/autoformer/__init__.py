"""AutoFormer and the stand-alone vision transformers of ViT-Bench-101."""

from lswag_jax.spaces.autoformer.genotype import AutoFormerGenotype
from lswag_jax.spaces.autoformer.space import AutoFormer

__all__ = ["AutoFormer", "AutoFormerGenotype"]
