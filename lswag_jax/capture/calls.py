"""What the tape holds: layers, their calls, and activations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lswag_jax.arrays import widened

Array = jax.Array
Params = dict[str, Array]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "inputs", "extra", "cotangent"),
    meta_fields=(
        *("name", "kind", "apply", "output_units", "num_layers_before", "leaf", "index"),
        *("is_path", "bias"),
    ),
)
@dataclasses.dataclass
class Call:
    """One call of a layer: `output = apply(params, inputs, extra)`."""

    name: str
    kind: str  # "weight", "norm", or "end" of what is scored
    apply: Callable[[Params, Array, Any], Array] | None
    params: Params
    inputs: Array
    extra: Any
    output_units: int  # elements of the output, a sample
    num_layers_before: int  # weight layers that ran before it
    leaf: str = ""  # layer's name of the stored parameter
    index: tuple[int, ...] = ()  # of a slice of it along its first axes
    is_path: bool = False  # no product: what else a weight with one does, see `uses.Use`
    bias: str = ""  # name of the stored bias, with its place in a stack
    cotangent: Array | None = None

    def run(self, params: Params, inputs: Array) -> Array:
        """The output again, of other parameters and inputs."""
        assert self.apply is not None, f"{self.name} is no layer that can be run again"
        return widened(self.apply(params, inputs, self.extra))

    def channels(self, shape: Sequence[int]) -> np.ndarray:
        """Number of the channel of each output of a weight layer, flat; `shape` is a sample's."""
        assert self.apply is not None, f"{self.name} is no layer that can be run again"
        # `capture.products.Product`, or what runs it sample by sample
        return self.apply.channels(self.params, self.inputs, self.extra, shape)  # type: ignore[attr-defined]

    def middle(self) -> int:
        """Place in the flat kernel of a first channel's weight, of a convolution in its middle."""
        order, spatial = self._order(), self.spatial
        return int(order[tuple(n // 2 if a in spatial else 0 for a, n in enumerate(order.shape))])

    @property
    def spatial(self) -> tuple[int, ...]:
        """Axes of a weight layer's kernel, as its product reads it, that are positions.

        What a marked layer computes is out of sight: it is a convolution where its shapes are those
        of one, [B, ..., I] to [B, ..., O] by a kernel [*sizes, I, O], in groups or not. A `vmap` or
        a fold adds axes to both and leaves the kernel.
        """
        known = getattr(self.apply, "spatial", None)
        if known is not None:
            return known
        x, y = self.inputs.shape, jax.eval_shape(self.run, self.params, self.inputs).shape
        *sizes, i, o = self._order().shape
        fits = len(x) == len(y) >= len(sizes) + 2 and x[-1] % i == 0 and y[-1] == o
        return tuple(range(len(sizes))) if fits else ()

    def _order(self) -> np.ndarray:
        """Places in the flat stored kernel of what the product reads, in the product's shape.

        A kernel that is computed with before, alone or with other arrays, is taken to lie in the
        order in which it is stored.
        """
        kernel = self.params["kernel"]
        own = np.arange(kernel.size).reshape(kernel.shape)
        product: Any = self.apply  # a `capture.products.Product`
        if self.extra[0] or not product.weight.eqns:
            return own
        with jax.ensure_compile_time_eval():
            read = np.asarray(product.weight(jnp.asarray(own, float)))
        return read.astype(int) if np.array_equal(np.sort(read, None), own.ravel()) else own

    def by_channel(self, x: Array) -> Array:
        """An array of a weight layer's output's shape as [B, positions, channels]."""
        x_BxU, number_U = x.reshape(len(x), -1), self.channels(x.shape[1:])
        channels = int(number_U.max()) + 1
        if not np.array_equal(number_U, np.arange(len(number_U)) % channels):
            order_CxP = np.argsort(number_U, kind="stable").reshape(channels, -1)
            x_BxU = x_BxU[:, order_CxP.T.ravel()]
        return x_BxU.reshape(len(x), -1, channels)

    @property
    def output_cotangent(self) -> Array:
        """`cotangent` where it must be there."""
        if self.cotangent is None:
            raise ValueError(f"no cotangent was recorded for the output of {self.name!r}.")
        return widened(self.cotangent)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("calls",), meta_fields=("name", "kind")
)
@dataclasses.dataclass
class Layer:
    """A weight layer: its calls in order (more than one where a network shares weights)."""

    name: str
    kind: str
    calls: list[Call]

    @property
    def params(self) -> Params:
        """The layer's own parameters: `kernel`, the weight whatever its name, and maybe `bias`."""
        return self.calls[0].params

    @property
    def pairs(self) -> list[tuple[Array, Array]]:
        """Inputs and output cotangents of each call."""
        return [(call.inputs, call.output_cotangent) for call in self.calls]

    def of(self, stored: Mapping[str, Array]) -> Array:
        """The layer's part of an array in the shape of a stored parameter.

        Args:
            stored: arrays by their layer's name, see `Candidate.kernels`.
        """
        call = self.calls[0]
        array = stored[call.leaf]
        return array[call.index] if call.index else array

    @property
    def stored(self) -> tuple[str, ...]:
        """Names that its stored weight may have."""
        leaf = self.calls[0].leaf
        return leaf, f"{leaf}/kernel" if leaf else "kernel"

    def anonymous(self) -> "Layer":
        """The layer without its name and place, so that like layers share a trace."""
        calls = [
            dataclasses.replace(call, name="", num_layers_before=0, leaf="", index=(), bias="")
            for call in self.calls
        ]
        return Layer("", self.kind, calls)

    def gradient(self, names: Sequence[str], pairs: Sequence[tuple[Array, Array]]) -> Params:
        """Gradient of the parameters `names`, summed over the samples of `pairs`.

        Args:
            names: keys of `params`.
            pairs: for each call its inputs [b, ...] and output cotangents [b, ...].
        """
        total = None
        for call, (inputs, cotangent) in zip(self.calls, pairs, strict=True):

            def output(p: Params, call: Call = call, inputs: Array = inputs) -> Array:
                return call.run(call.params | p, inputs)

            own = {name: call.params.get(name, self.params[name]) for name in names}
            _, pull = jax.vjp(output, own)
            (grads,) = pull(cotangent)
            total = grads if total is None else jax.tree.map(jnp.add, total, grads)
        assert total is not None  # a layer has a call
        return total


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("post",), meta_fields=("num_layers_before",)
)
@dataclasses.dataclass
class Activation:
    """Output [B, ...] of an activation, and how many weight layers ran before it."""

    post: Array
    num_layers_before: int


def layers_of(calls: Sequence[Call], kind: str = "weight") -> list[Layer]:
    """Calls of one kind grouped by layer, in order of first execution."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        if call.kind == kind:
            groups.setdefault(call.name, []).append(call)
    return [
        Layer(name, kind, sorted(group, key=lambda call: call.is_path))
        for name, group in groups.items()
    ]
