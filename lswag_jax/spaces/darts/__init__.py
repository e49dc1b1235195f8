"""DARTS cells, by default in the scoring network of NAS-Bench-301."""

from lswag_jax.spaces.darts.genotype import DartsGenotype
from lswag_jax.spaces.darts.space import Darts
from lswag_jax.spaces.darts.supernet import DartsSupernet

__all__ = ["Darts", "DartsGenotype", "DartsSupernet"]
