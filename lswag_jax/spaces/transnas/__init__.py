"""TransNAS-Bench-101: micro cells and macro skeletons, with seven tasks."""

from lswag_jax.spaces.transnas.genotype import TransNASMacroGenotype, TransNASMicroGenotype
from lswag_jax.spaces.transnas.macro import TransNASMacro
from lswag_jax.spaces.transnas.micro import TransNASMicro

__all__ = ["TransNASMacro", "TransNASMacroGenotype", "TransNASMicro", "TransNASMicroGenotype"]
