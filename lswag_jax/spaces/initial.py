"""Initial variables: programs that draw them, and all of a convolutional network in one draw."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lswag_jax.spaces.plan import flat_variables


def jitted(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Jits what draws variables once, so that on a CPU it is compiled in a hurry.

    Example:
        >>> jitted(nn.Dense(2).init)(jax.random.key(0), jnp.ones((1, 9)))["params"]["bias"].tolist()
        [0.0, 0.0]
    """
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(draw, compiler_options=quick)


def torch_variables(module: nn.Module, key: jax.Array, *args: Any) -> dict[str, Any]:
    """What `module.init(key, *args)` gives for layers with PyTorch's default initialisation.

    Kernels [..., I, O] and the biases beside them are U(-b, b) with b = 1 / sqrt(fan-in), the
    product of the kernel's axes but the last. BatchNorm scales and variances are 1, its biases and
    means 0. A network of hundreds of kernels that draw one by one takes a minute to compile; this
    is one draw, cut.

    Example:
        >>> variables = torch_variables(nn.Dense(2), jax.random.key(0), jnp.ones((1, 9)))
        >>> bool((jnp.abs(variables["params"]["kernel"]) <= 1 / 3).all())
        True
    """
    shapes = flat_variables(jax.eval_shape(module.init, key, *args))
    bounds = {
        path[:-1]: math.prod(shape.shape[:-1]) ** -0.5
        for path, shape in shapes.items()
        if path[-1] == "kernel"
    }
    drawn = [path for path in shapes if path[:-1] in bounds]
    ends = np.cumsum([math.prod(shapes[path].shape) for path in drawn])
    numbers = jax.random.uniform(key, (int(ends[-1]),), jnp.float32, -1.0, 1.0)
    flat = {
        path: jnp.full(shape.shape, float(path[-1] in ("scale", "var")), shape.dtype)
        for path, shape in shapes.items()
    }
    for path, cut in zip(drawn, jnp.split(numbers, ends[:-1]), strict=True):
        flat[path] = cut.reshape(shapes[path].shape) * bounds[path[:-1]]
    return traverse_util.unflatten_dict(flat)
