"""LIBRA: the proxies of a benchmark that complement each other, chosen by its accuracies.

Source: Algorithm 1 of the L-SWAG paper (Casarin et al., CVPR 2025, arXiv 2505.07300); what it
leaves open are the options. P architectures.

    rho_z = Spearman(z, y)                    z1 = argmax rho_z
    W     = {z != z1 : rho_z1 - 0.1 < rho_z <= rho_z1}
    IG(z) = H(y | z1) - H(y | z1, z)          z2 = argmin over W of IG(z)
    b_v   = Spearman(v, #params)              z3 = argmin over W without z2 of |b_y - b_z|

Ties go to the first name of the alphabet; where W is empty or has one proxy, one or two are
chosen. The choice uses labels, so what it is worth must be read off architectures that it has not
seen: `evaluate`.
"""

from lswag_jax.analysis.libra.choice import PRESETS, Candidate, LibraOptions, choose
from lswag_jax.analysis.libra.evaluation import Evaluation, evaluate, halves
from lswag_jax.analysis.libra.gather import Benchmark, gather
from lswag_jax.analysis.libra.selection import Selection, select

__all__ = [
    "PRESETS",
    "Benchmark",
    "Candidate",
    "Evaluation",
    "LibraOptions",
    "Selection",
    "choose",
    "evaluate",
    "gather",
    "halves",
    "select",
]
