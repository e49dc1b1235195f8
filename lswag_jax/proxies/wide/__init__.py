"""Gradients whose size no floating-point type holds: see `program.gradient`."""

from lswag_jax.proxies.wide.arrays import Wide, flat, log, ordinary, stacked, total
from lswag_jax.proxies.wide.program import gradient

__all__ = ["Wide", "flat", "gradient", "log", "ordinary", "stacked", "total"]
