"""Forward mode without custom gradients: control flow, calls, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lswag_jax.capture.forward import forward


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, y_bar: (3 * x**2 * y_bar,))


def in_scan(x):
    return jax.lax.scan(lambda c, w: (c + w * cube(x), cube(c)), jnp.zeros(()), jnp.arange(3.0))


FUNCTIONS = {
    "plain": cube,
    "call": jax.jit(lambda x: cube(x) + x),
    "rematerialised": jax.checkpoint(lambda x: cube(x) * x),
    "branch": lambda x: jax.lax.cond(x > 0, lambda x: cube(x), lambda x: 2 * x, x),
    "switch": lambda x: jax.lax.switch(jnp.int32(1), (lambda x: x, cube), x),
    "scan": lambda x: in_scan(x)[0] + in_scan(x)[1].sum(),
    "mapped": lambda x: jax.vmap(cube)(jnp.stack([x, 2 * x])).sum(),
    "other rules stay": lambda x: jax.nn.relu(x) * jnp.tanh(cube(x)),
}
PLAIN = {
    "plain": lambda x: x**3,
    "call": lambda x: x**3 + x,
    "rematerialised": lambda x: x**4,
    "branch": lambda x: jnp.where(x > 0, x**3, 2 * x),
    "switch": lambda x: x**3,
    "scan": lambda x: 3 * x**3 + 0 + 0 + x**9,
    "mapped": lambda x: 9 * x**3,
    "other rules stay": lambda x: jax.nn.relu(x) * jnp.tanh(x**3),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(x64, name, compiled):
    def second(function):
        first = lambda t: jax.jvp(function, (t,), (1.0,))[1]  # noqa: E731
        return lambda t: jax.jvp(first, (t,), (1.0,))

    found = second(forward(FUNCTIONS[name]))
    for x in (0.7, -0.4):
        values = (jax.jit(found) if compiled else found)(jnp.asarray(x))
        np.testing.assert_allclose(values, second(PLAIN[name])(jnp.asarray(x)), rtol=1e-12)


def test_blocks_are_compiled_once(x64):
    """A call that comes again is the same program, whatever function it stands in."""
    traced = []

    @jax.jit
    def block(x):
        traced.append(1)
        return cube(x)

    for n in (1, 2, 3):

        def chain(x, n=n):
            for _ in range(n):
                x = block(x)
            return x

        jax.jvp(forward(chain), (jnp.asarray(1.1),), (1.0,))
    assert len(traced) == 1
