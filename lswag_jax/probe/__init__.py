"""What proxies may read of one architecture: its weights, gradients and activation patterns."""

from lswag_jax.probe.candidate import Candidate, Draws
from lswag_jax.probe.moments import GradientRequests, Moments
from lswag_jax.probe.probe import Probe, sizes_of

__all__ = ["Candidate", "Draws", "GradientRequests", "Moments", "Probe", "sizes_of"]
