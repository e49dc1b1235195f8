"""What a network ends with: logits, or probabilities that a loss would take for logits."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from lswag_jax.arrays import bind, shaped, vars_of
from lswag_jax.capture.record import Program
from lswag_jax.capture.uses import Use

_SPREAD = 5.0  # standard deviation of what stands for the last layers' outputs


def gives_probabilities(program: Program) -> bool:
    """Whether the outputs lie in [0, 1] whatever the last weight layers give, as a softmax's do.

    What follows those layers is run on random numbers in place of their outputs, with parameters
    of one; False where it reads anything else that depends on the images.
    """
    flat, eqns = program.flat, program.flat.jaxpr.eqns
    uses = {call.eqn for call in program.calls if isinstance(call, Use)}
    rng = np.random.default_rng(0)
    outputs = vars_of(flat.jaxpr.outvars)
    wanted, ending = set(outputs), []
    values = dict(zip(flat.jaxpr.constvars, flat.consts, strict=True))
    for i in reversed(range(len(eqns))):
        if wanted.isdisjoint(eqns[i].outvars):
            continue
        if i in uses:
            (var,) = eqns[i].outvars
            values[var] = jnp.asarray(rng.normal(0, _SPREAD, shaped(var).shape), shaped(var).dtype)
            continue
        ending.append(eqns[i])
        wanted.update(vars_of(eqns[i].invars))
    for var in flat.jaxpr.invars:
        if var in wanted and flat.kind(var) == "images":
            return False
        values[var] = jnp.ones(shaped(var).shape, shaped(var).dtype)
    if any(isinstance(values.get(var), Tracer) for var in wanted) or not ending:
        return False
    for eqn in reversed(ending):
        operands = [v.val if isinstance(v, core.Literal) else values[v] for v in eqn.invars]
        values.update(zip(eqn.outvars, bind(eqn, operands), strict=True))
    (output,) = (values[var] for var in outputs)
    return bool(((output >= 0) & (output <= 1)).all() & (output.max() > output.min()))
