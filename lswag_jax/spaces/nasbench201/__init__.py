"""NAS-Bench-201: cells of six edges with five operations each."""

from lswag_jax.spaces.nasbench201.genotype import NasBench201Genotype
from lswag_jax.spaces.nasbench201.space import NasBench201
from lswag_jax.spaces.nasbench201.supernet import NasBench201Supernet

__all__ = ["NasBench201", "NasBench201Genotype", "NasBench201Supernet"]
