"""A network as the tape runs it: a pure function of its variables, of images and of a hook."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with its variables.

    Attributes:
        apply: `apply(variables, images, hook) -> logits`. The hook is told of normalisations,
            feature maps and the end of what is scored; weights and activations are found in the
            traced program.
        variables: its parameters are the leaves under the key "params".
        rows: further arrays with a row for each of n samples, which `apply` takes last; or None.
        dead: whether what does not reach the logits is recorded too, as in the benchmarks.
    """

    apply: Callable[..., Array]
    variables: Mapping[str, Any]
    rows: Callable[[int], list] | None = None
    dead: bool = False

    def __call__(self, images: Any, hook: Callable | None = None) -> Array:
        """The logits."""
        return self.run(self.variables, self.inputs(images), hook or no_hook)

    def inputs(self, images: Any) -> tuple:
        """All that has the samples first: the images, and the further arrays."""
        if self.rows is None:
            return (images,)
        return images, self.rows(jax.tree.leaves(images)[0].shape[0])

    def run(self, variables: Any, inputs: tuple, hook: Callable) -> Array:
        """The logits of other variables and inputs."""
        images, *rows = inputs
        return self.apply(variables, images, hook, *rows)


def no_hook(*call: Any) -> Array:
    """A hook that records nothing."""
    return call[-1]


def leaves(variables: Mapping[str, Any]) -> tuple[dict[str, Array], list, Callable]:
    """The parameters by name, all other leaves, and what makes variables of both again."""
    flat, structure = jax.tree_util.tree_flatten_with_path(variables)
    names = [leaf_name(path) if is_parameter(path, leaf) else None for path, leaf in flat]
    params = {n: leaf for n, (_, leaf) in zip(names, flat, strict=True) if n is not None}
    others = [leaf for _, leaf in others_of(variables)]

    def join(params: Mapping[str, Array], others: list) -> Any:
        rest = iter(others)
        return structure.unflatten(next(rest) if n is None else params[n] for n in names)

    return params, others, join


def others_of(variables: Mapping[str, Any]) -> list[tuple[tuple, Any]]:
    """The leaves that are no parameters, with their paths."""
    flat = jax.tree_util.tree_leaves_with_path(variables)
    return [(path, leaf) for path, leaf in flat if not is_parameter(path, leaf)]


def is_parameter(path: tuple, leaf: Any) -> bool:
    """Whether a leaf of a network's variables is an array that is trained."""
    is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return is_float and bool(path) and getattr(path[0], "key", None) == "params"


def leaf_name(path: tuple) -> str:
    """`layer/parameter` of a leaf, without the collection and NNX's `value`."""
    keys = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path]
    keys = keys[1:] if keys[0] in ("params", "batch_stats", "rest") else keys
    return "/".join(keys[:-1] if keys and keys[-1] == "value" else keys)


def layer_name(leaf: str) -> str:
    """The layer's name of a weight: its module's where it is called `kernel`, else its own."""
    return leaf.removesuffix("kernel").removesuffix("/") if is_kernel(leaf) else leaf


def is_kernel(leaf: str) -> bool:
    """Whether a parameter is called `kernel`."""
    return leaf == "kernel" or leaf.endswith("/kernel")
