"""A candidate: one architecture with its weights, run in whatever way a proxy asks for."""

import collections
import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import rows
from lswag_jax.capture.network import Network, is_kernel, layer_name, leaf_name
from lswag_jax.capture.tape import Tape
from lswag_jax.spaces.depth import BinRange

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One architecture, its variables and what its space knows of it.

    Attributes:
        make: the network with these variables and this mode of BatchNorm, as the tape runs it.
        variables: its weights; of an elastic network zero where the architecture has none.
        batch_norm: mode in which per-sample gradients are taken, see `adapters.linen_network`.
        has_batch_norm: whether the mode matters.
        sizes: active sizes of an elastic network (`Space.encode`); None for an exact one.
        bin_range: bins that each layer can have (`Space.bin_range`); None for those it has.
        padded_maps: see `Space.padded_maps`.
        any_size: whether it takes images of any size.
        has_per_sample_arguments: whether it takes extra arrays with a row a sample, which only
            the first samples of the batch have.
        weights: names of the parameters that the tape found to be weights.
    """

    make: Callable[[Any, str], Any]  # a `Network` or a `chain.Chain`
    variables: Any
    batch_norm: str = "frozen"
    has_batch_norm: bool = False
    sizes: Mapping[str, Array] | None = None
    bin_range: BinRange | None = None
    padded_maps: bool = False
    any_size: bool = False
    has_per_sample_arguments: bool = False
    weights: frozenset[str] = frozenset()

    def network(self, batch_norm: str = "", variables: Any = None) -> Network:
        """The network in its own mode and with its own weights, or others."""
        variables = self.variables if variables is None else variables
        return self.make(variables, batch_norm or self.batch_norm)

    @property
    def is_exact(self) -> bool:
        """Whether this is a genotype's own network, not an elastic one."""
        return self.sizes is None

    @property
    def batch_mode(self) -> str:
        """Mode of BatchNorm for gradients of a whole mini-batch: those of training."""
        return "eval" if self.batch_norm == "eval" else "through"

    @property
    def is_coupled(self) -> bool:
        """Whether the samples of a batch see each other."""
        return self.has_batch_norm and self.batch_norm in ("frozen", "through")

    def beside_logits(self, recorded: Tape, batch_norm: str) -> list[Array]:
        """Activations, of which logits may be the rounding where a sample is normalised alone."""
        is_alone = self.has_batch_norm and batch_norm == "batch1_train"
        return [activation.post for activation in recorded.activations] if is_alone else []

    def with_kernels(self, kernels: Mapping[str, Array]) -> Any:
        """The variables with other kernels."""
        return map_variables(
            lambda name, leaf: (
                kernels.get(layer_name(name), leaf) if self.is_weight(name) else leaf
            ),
            self.variables,
        )

    def is_weight(self, name: str) -> bool:
        """Whether a parameter is a weight: one that was found, or is called `kernel`."""
        return name in self.weights or is_kernel(name)

    def kernels(self) -> dict[str, Array]:
        """Every stored weight by its layer's name; `Layer.of` gives a layer's part of one."""
        found = {}

        def keep(name: str, leaf: Array) -> Array:
            if self.is_weight(name):
                found[layer_name(name)] = leaf
            return leaf

        map_variables(keep, self.variables)
        return found


def map_variables(function: Callable[[str, Array], Array], variables: Any) -> Any:
    """`function(name, leaf)` of every array of floats; its name is `layer/parameter`."""

    def of_leaf(path: tuple, leaf: Any) -> Any:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return function(leaf_name(path), leaf)

    return jax.tree_util.tree_map_with_path(of_leaf, variables)


def shapes_of(variables: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every array by its name."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {leaf_name(path): leaf.shape for path, leaf in leaves}


@dataclasses.dataclass(frozen=True)
class Draws:
    """Random tensors of proxies: the same for all architectures of a run, or given.

    A tensor is drawn with its last axis first, so that the channels that an exact network has are
    drawn as the first ones of an elastic network are.

    Attributes:
        key: of the run.
        given: tensors by name in place of drawn ones.
        shapes: of the weights of the whole space by name, where the network has only the first
            entries of some, which are then drawn as those of the whole.
    """

    key: Array
    given: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def normal(self, name: str, shape: tuple[int, ...], dtype) -> Array:
        """Standard normal numbers."""
        return self._draw(name, shape, dtype, jax.random.normal)

    def sign(self, name: str, shape: tuple[int, ...], dtype) -> Array:
        """-1 and 1 with equal probability."""
        return self._draw(name, shape, dtype, jax.random.rademacher)

    def integers(self, name: str, shape: tuple[int, ...], high: int) -> Array:
        """Integers from 0 to `high` - 1."""
        if name in self.given:
            return jnp.asarray(self.given[name])
        return jax.random.randint(self._key(name), shape, 0, high)

    def weights(self, prefix: str, candidate: Candidate) -> Any:
        """Variables with kernels from N(0, 1), zero biases and fresh normalisation; others stay.

        A kernel is drawn as `prefix/layer/kernel`. That of an elastic network is zero where the
        given one is, since the architecture has no weight there; a layer of an exact network that
        starts at zero is drawn like the others.
        """
        is_exact = candidate.is_exact

        def ones(leaf: Array) -> Array:  # an elastic scale is zero where there is no channel
            return jnp.ones_like(leaf) if is_exact else (leaf != 0).astype(leaf.dtype)

        fresh = {"scale": ones, "var": jnp.ones_like}
        fresh |= {"bias": jnp.zeros_like, "mean": jnp.zeros_like}

        leaves: dict[str, jax.ShapeDtypeStruct] = {}

        def keep(name: str, leaf: Array) -> Array:
            if candidate.is_weight(name):
                shape = self.shapes.get(name, leaf.shape)
                leaves[f"{prefix}/{name}"] = jax.ShapeDtypeStruct(shape, leaf.dtype)
            return leaf

        map_variables(keep, candidate.variables)
        drawn = self._normals(leaves)

        def renew(name: str, leaf: Array) -> Array:
            if candidate.is_weight(name):
                new = drawn[f"{prefix}/{name}"][tuple(map(slice, leaf.shape))]
                return new if is_exact else jnp.where(leaf != 0, new, 0)
            return fresh.get(name.rpartition("/")[2], lambda leaf: leaf)(leaf)

        return map_variables(renew, candidate.variables)

    def _normals(self, leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Array]:
        """`normal` of each name and the shape of its leaf; those of one shape compile as one."""
        drawn, groups = {}, collections.defaultdict(list)
        for name, leaf in leaves.items():
            if name in self.given:
                drawn[name] = self.normal(name, leaf.shape, leaf.dtype)
            else:
                groups[leaf.shape, leaf.dtype].append(name)
        for (shape, dtype), names in groups.items():
            keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, np.array([*map(_hash, names)]))
            draw = functools.partial(_last_first, jax.random.normal, shape=shape, dtype=dtype)
            drawn.update(zip(names, rows(jax.vmap(draw)(keys)), strict=True))
        return drawn

    def _draw(self, name: str, shape: tuple[int, ...], dtype, draw: Callable) -> Array:
        if name in self.given:
            return jnp.asarray(self.given[name], dtype)
        return _last_first(draw, self._key(name), shape, dtype)

    def _key(self, name: str) -> Array:
        return jax.random.fold_in(self.key, _hash(name))


def _hash(name: str) -> np.uint32:
    return np.uint32(zlib.crc32(name.encode()))


def _last_first(draw: Callable, key: Array, shape: tuple[int, ...], dtype) -> Array:
    """What `draw` gives with the last axis first, moved back."""
    # Flat: the same numbers, but XLA takes several times as long to compile threefry of four axes.
    numbers = draw(key, (math.prod(shape),), dtype)
    return jnp.moveaxis(numbers.reshape(shape[-1], *shape[:-1]), 0, -1)
