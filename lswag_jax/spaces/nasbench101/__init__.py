"""NAS-Bench-101: cells of up to seven vertices and nine edges."""

from lswag_jax.spaces.nasbench101.genotype import NasBench101Genotype
from lswag_jax.spaces.nasbench101.space import NasBench101

__all__ = ["NasBench101", "NasBench101Genotype"]
