"""The tape: one forward and one backward pass of a network, with everything proxies read.

A network is run through an adapter (`lswag_jax.capture.adapters`) that hands every weight layer's
call to `mark`. The traced program is then evaluated equation by equation: at a mark the layer's
inputs are recorded and a zero perturbation is added to its output, at an activation function its
output is recorded. One `jax.vjp` with respect to the perturbations gives each sample's own output
cotangents, because the loss is the sum of the per-sample losses.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from lswag_jax.capture.activations import ACTIVATIONS, activation_of, gelu_input_of, name_of
from lswag_jax.capture.sample_calls import call_of_samples, of_samples
from lswag_jax.tasks import cross_entropy

Array = jax.Array
Params = dict[str, Array]

_MARK = "lswag_jax_layer"
_OPAQUE = ("scan", "while", "cond", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "inputs", "extra", "cotangent"),
    meta_fields=("name", "kind", "apply", "output_units", "after"),
)
@dataclasses.dataclass
class Call:
    """One call of a weight layer: `output = apply(params, inputs, extra)`."""

    name: str
    kind: str  # "weight", "norm", "feature", or "end" of what is scored
    apply: Callable[[Params, Array, Any], Array] | None
    params: Params
    inputs: Array
    extra: Any
    output_units: int  # elements of the output, a sample
    after: int  # weight layers before it
    cotangent: Array | None = None


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
        """Its own parameters, among them `kernel`."""
        return self.calls[0].params

    def anonymous(self) -> "Layer":
        """The layer without its name and place, so that like layers share a trace."""
        calls = [dataclasses.replace(call, name="", after=0) for call in self.calls]
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
                return call.apply(call.params | p, inputs, call.extra)

            _, pull = jax.vjp(output, {name: call.params[name] for name in names})
            (grads,) = pull(cotangent)
            total = grads if total is None else jax.tree.map(jnp.add, total, grads)
        return total


@functools.partial(jax.tree_util.register_dataclass, data_fields=("post",), meta_fields=("after",))
@dataclasses.dataclass
class Activation:
    """Output [B, ...] of an activation layer that runs after the first `after` weight layers."""

    post: Array
    after: int


@dataclasses.dataclass
class Tape:
    """What one pass recorded, in order of execution.

    Attributes:
        logits: [B, C].
        losses: loss of each sample [B].
        layers: weight layers; `cotangent` is None for those below `first_layer`.
        norms: normalisation layers.
        activations: outputs of the activation functions.
        pull: weight layers with the cotangents of sum_i weights_i loss_i, of weights [B].
    """

    logits: Array
    losses: Array | None
    layers: list[Layer]
    norms: list[Layer]
    activations: list[Activation]
    pull: Callable[[Array], list[Layer]] | None = None


Network = Callable[[Array, Callable], Array]
Loss = Callable[[Array, Array], Array]


def record(
    network: Network,
    images: Array,
    labels: Array | None = None,
    *,
    loss: Loss = cross_entropy,
    first_layer: int | Callable[[int], int] = 0,
) -> Tape:
    """Runs `network` forward and, where labels are given, back.

    Everything recorded has the samples as its leading axis, as proxies read it. Where the network
    folds windows, tokens or pixels into that axis, [B * k, ...] is recorded as [B, k, ...]: a
    sample's k rows must lie together. Rows in another order, as of [k, B, ...] flattened, have the
    same shape, cannot be told apart, and give wrong numbers.

    Args:
        network: `network(images, hook) -> logits`, see `lswag_jax.capture.adapters`.
        images: [B, ...].
        labels: [B], or None for a forward pass alone.
        loss: per-sample loss of (logits, labels).
        first_layer: index of the first weight layer whose cotangent is wanted, or a function of
            the number of layers that gives it; no backward pass is computed below.

    Raises:
        ValueError: no weight layer was captured; one runs inside a scan, loop or branch, or maps
            an axis that is not the batch's; or the leading axis of its inputs, its output or an
            activation is no multiple of the batch, as that of a learned token [1, N, D].
    """
    if hasattr(network, "record"):  # a chain of networks, each recorded by itself
        return network.record(images, labels, loss=loss, first_layer=first_layer)
    program = Program.trace(network, images)
    index, num_layers = layer_indices(program.names, program.kinds)
    if num_layers == 0:
        raise ValueError(
            "no weight layer was captured: the network has no module with a parameter called "
            "'kernel' (Linen) or no Linear, Conv or Einsum module (NNX)."
        )
    if labels is None:
        logits, calls, activations = program.run(program.zeros([False] * len(index)), images)
        return Tape(logits, None, layers_of(calls), layers_of(calls, "norm"), activations)
    if callable(first_layer):
        first_layer = first_layer(num_layers)

    def run(perturbations):
        logits, calls, activations = program.run(perturbations, images)
        return loss(logits, labels), (logits, calls, activations)

    zeros = program.zeros(program.wanted(first_layer))
    losses, back, (logits, calls, activations) = jax.vjp(run, zeros, has_aux=True)

    def pull(weights_B: Array) -> list[Call]:
        return with_cotangents(calls, back(weights_B)[0])

    recorded = pull(jnp.ones_like(losses))
    layers, norms = layers_of(recorded), layers_of(recorded, "norm")
    return Tape(logits, losses, layers, norms, activations, lambda w: layers_of(pull(w)))


@dataclasses.dataclass(frozen=True)
class Program:
    """A traced network, ready to be run with perturbations at its marks."""

    jaxpr: core.ClosedJaxpr  # a function of the images
    applies: list[tuple]  # name, kind, call, structure and shapes of the captured arrays, by mark
    marks: list[core.JaxprEqn]  # in order of execution

    @classmethod
    def trace(cls, network: Network, images: Array) -> "Program":
        """Traces `network(images, hook)`; see `record`."""
        applies: list[tuple] = []

        def forward(images: Array) -> Array:
            def hook(name, kind, apply, params, inputs, extra, output):
                captured = (params, inputs, extra)
                shapes = jax.tree.map(jnp.shape, (*captured, output))
                applies.append((name, kind, apply, jax.tree.structure(captured), shapes))
                return _mark(len(applies) - 1)(captured, output)

            return network(images, hook)

        jaxpr = jax.make_jaxpr(forward)(images)
        marks = [eqn for eqn in _equations(jaxpr.jaxpr) if _mark_index(eqn) is not None]
        return cls(jaxpr, applies, marks)

    @property
    def names(self) -> list[str]:
        """Name of the layer at each mark."""
        return [self.applies[_mark_index(eqn)][0] for eqn in self.marks]

    @property
    def kinds(self) -> list[str]:
        """Kind of the layer at each mark."""
        return [self.applies[_mark_index(eqn)][1] for eqn in self.marks]

    def wanted(self, first_layer: int) -> list[bool]:
        """Which marks have cotangents: layers from weight layer `first_layer` on."""
        index, _ = layer_indices(self.names, self.kinds)
        return [
            i >= first_layer and kind in ("weight", "norm")
            for i, kind in zip(index, self.kinds, strict=True)
        ]

    def zeros(self, wanted: Sequence[bool]) -> list[Array | None]:
        """A zero perturbation for each mark whose cotangent is wanted."""
        avals = [eqn.outvars[0].aval for eqn in self.marks]
        return [
            jnp.zeros(aval.shape, aval.dtype) if want else None
            for aval, want in zip(avals, wanted, strict=True)
        ]

    def run(
        self, perturbations: Sequence[Array | None], images: Array
    ) -> tuple[Array, list[Call], list[Activation]]:
        """The output, and what was recorded on the way."""
        recorder = _Recorder(self.applies, perturbations, len(images))
        (output,) = recorder.evaluate(self.jaxpr.jaxpr, self.jaxpr.consts, [images])
        return output, recorder.calls, recorder.activations


def with_cotangents(calls: Sequence[Call], cotangents: Sequence[Array | None]) -> list[Call]:
    """Calls with the cotangents of their outputs, a sample's together as its inputs are."""
    return [
        dataclasses.replace(call, cotangent=c if c is None else of_samples(c, len(call.inputs)))
        for call, c in zip(calls, cotangents, strict=True)
    ]


def layer_indices(names: Sequence[str], kinds: Sequence[str]) -> tuple[list[int], int]:
    """For each call the index of its weight layer, of a norm that of the one after; their number.

    A layer that is called more than once has the index of its first call.
    """
    place: dict[str, int] = {}
    index = []
    for name, kind in zip(names, kinds, strict=True):
        index.append(place.setdefault(name, len(place)) if kind == "weight" else len(place))
    return index, len(place)


def layers_of(calls: Sequence[Call], kind: str = "weight") -> list[Layer]:
    """Calls of one kind grouped by layer, in order of first execution."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        if call.kind == kind:
            groups.setdefault(call.name, []).append(call)
    return [Layer(name, kind, group) for name, group in groups.items()]


def _mark(index: int) -> Callable:
    """An identity on `output` that keeps `captured` visible in the traced program."""

    def mark(captured, output):
        del captured
        return output

    mark.__name__ = f"{_MARK}_{index}"
    return jax.jit(mark)


def _mark_index(eqn: core.JaxprEqn) -> int | None:
    name = name_of(eqn)
    return int(name.rsplit("_", 1)[1]) if name.startswith(_MARK) else None


def _inlined(eqn: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """The body of a call that is evaluated equation by equation."""
    if name_of(eqn) in ACTIVATIONS or _mark_index(eqn) is not None:
        return None
    if eqn.primitive.name in ("jit", "pjit"):
        return eqn.params["jaxpr"]
    if eqn.primitive.name in ("checkpoint", "remat", "remat2"):
        return core.ClosedJaxpr(eqn.params["jaxpr"], ())
    return None


def _equations(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Equations in order of execution, calls inlined; refuses marks that cannot be reached."""
    for eqn in jaxpr.eqns:
        body = _inlined(eqn)
        if body is not None:
            yield from _equations(body.jaxpr)
            continue
        if eqn.primitive.name in _OPAQUE and _MARK in str(eqn.params):
            raise ValueError(
                f"a weight layer runs inside a '{eqn.primitive.name}' (a scan, loop, branch or "
                "custom derivative), where it cannot be captured: unroll it, for example with a "
                "for loop."
            )
        yield eqn


class _Recorder:
    """Evaluates a traced network, perturbing at marks and recording activations."""

    def __init__(self, applies: Sequence[tuple], perturbations: Sequence[Array | None], batch: int):
        self._applies = applies
        self._batch = batch
        self._perturbations = iter(perturbations)
        self._ended = False
        self.calls: list[Call] = []
        self.activations: list[Activation] = []

    def evaluate(self, jaxpr: core.Jaxpr, consts: Sequence, args: Sequence) -> list:
        """Values of the program's outputs."""
        env: dict = {}

        def read(var):
            return var.val if isinstance(var, core.Literal) else env[var]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            x = gelu_input_of(eqn, jaxpr)
            operand = None if x is None else env[x]
            outputs = self._step(eqn, [read(var) for var in eqn.invars], operand)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _step(self, eqn: core.JaxprEqn, values: list, gelu_input: Array | None) -> list:
        index = _mark_index(eqn)
        if index is not None:
            return [self._mark(index, values)]
        body = _inlined(eqn)
        if body is not None:
            return self.evaluate(body.jaxpr, body.consts, values)
        outputs = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
        outputs = list(outputs) if eqn.primitive.multiple_results else [outputs]
        post = activation_of(eqn, values, outputs, gelu_input)
        if post is not None and not self._ended:
            post = of_samples(post, self._batch, "the output of an activation function")
            self.activations.append(Activation(post, self._num_layers()))
        return outputs

    def _num_layers(self) -> int:
        return len({call.name for call in self.calls if call.kind == "weight"})

    def _mark(self, index: int, values: list) -> Array:
        name, kind, apply, structure, shapes = self._applies[index]
        *captured, output = values
        params, inputs, extra = jax.tree.unflatten(structure, captured)
        if kind in ("weight", "norm"):
            now = (params, inputs, extra, output)
            apply, inputs = call_of_samples(name, apply, shapes, now, self._batch)
        size, after = output.size // self._batch, self._num_layers()
        self._ended |= kind == "end"
        self.calls.append(Call(name, kind, apply, params, inputs, extra, size, after))
        perturbation = next(self._perturbations)
        return output if perturbation is None else output + perturbation
