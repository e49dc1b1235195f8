"""Networks run as a chain of blocks, each compiled by itself.

Where shapes change with every genotype, one program cannot serve all of them; but the networks of
such a space are made of few kinds of blocks. Each kind is compiled once for any number of networks.
The backward pass runs a block's forward pass again, so that only the blocks' inputs are kept:
forward + backward cost a third more than in one program.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lswag_jax.capture import adapters, tape
from lswag_jax.spaces import Block

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Chain:
    """A network as the tape runs it: blocks one after the other.

    Args:
        blocks: in order of execution.
        variables: of the whole network.
        batch_norm: see `adapters.linen_network`.
    """

    blocks: Sequence[Block]
    variables: Mapping[str, Any]
    batch_norm: str = "frozen"

    def record(
        self,
        images: Array,
        labels: Array | None = None,
        *,
        loss: tape.Loss,
        first_layer: int | Callable[[int], int] = 0,
    ) -> tape.Tape:
        """What `tape.record` gives, with arrays that are there already."""
        x, inputs, calls, activations = images, [], [], []
        num_layers = 0
        for block, variables in zip(self.blocks, self._variables(), strict=True):
            inputs.append(x)
            x, recorded, posts = _forward(block.module, self._options(block), variables, x)
            calls.append([_placed(call, block.name, num_layers) for call in recorded])
            activations += [
                dataclasses.replace(a, num_layers_before=a.num_layers_before + num_layers)
                for a in posts
            ]
            num_layers += len(tape.layers_of(recorded))
        losses = None
        if labels is not None:
            losses, cotangent = _loss(loss, x, labels)
            first = first_layer(num_layers) if callable(first_layer) else first_layer
            calls = self._backward(inputs, calls, cotangent, first)
        flat = [call for block in calls for call in block]
        return tape.Tape(x, losses, tape.layers_of(flat), tape.layers_of(flat, "norm"), activations)

    def __call__(self, x: Array) -> Array:
        """The output, differentiable."""
        for block, variables in zip(self.blocks, self._variables(), strict=True):
            x = _output(block.module, self._options(block), variables, x)
        return x

    def parts(self) -> list[tuple[tape.Network, bool]]:
        """The blocks as networks, and whether each is scored."""
        networks = (
            adapters.linen_network(block.module, variables, batch_norm=self.batch_norm)
            for block, variables in zip(self.blocks, self._variables(), strict=True)
        )
        return [(n, block.is_scored) for n, block in zip(networks, self.blocks, strict=True)]

    def _backward(self, inputs, calls, cotangent: Array, first_layer: int) -> list[list]:
        """The calls with cotangents, from the last block to the one of `first_layer`."""
        found, blocks = list(calls), list(zip(self.blocks, self._variables(), strict=True))
        for i in reversed(range(len(blocks))):
            block, variables = blocks[i]
            before = sum(len(tape.layers_of(part)) for part in calls[:i])
            skip = max(first_layer - before, 0)
            if skip >= len(tape.layers_of(calls[i])) > 0:
                break
            options = self._options(block)
            cotangent, recorded = _pull(
                block.module, options, skip, variables, inputs[i], cotangent
            )
            found[i] = [_placed(call, block.name, before) for call in recorded]
        return found

    def _options(self, block: Block) -> tuple[str, bool]:
        return self.batch_norm, block.is_scored

    def _variables(self) -> list[dict[str, Any]]:
        """Each block's own."""
        return [
            {kind: tree[block.name] for kind, tree in self.variables.items() if block.name in tree}
            for block in self.blocks
        ]


def num_programs() -> int:
    """How many blocks' forward passes are compiled."""
    return cast(Any, _forward)._cache_size()


def drop_programs_when_full(share: float = 0.6) -> None:
    """Drops compiled programs where they take more than a share of a process's memory maps.

    A program of XLA's CPU backend takes dozens of maps, and where Linux grants no more
    (`vm.max_map_count`, 65,530 by default) LLVM fails and the process dies.
    """
    try:
        used = Path("/proc/self/maps").read_bytes().count(b"\n")
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:  # another system
        return
    if used > share * allowed:
        jax.clear_caches()


def _placed(call: tape.Call, block: str, layers_before: int) -> tape.Call:
    """A block's call with its name and place in the whole network."""

    def within(name: str) -> str:
        return f"{block}/{name}" if name else block

    return dataclasses.replace(
        call,
        name=within(call.name),
        leaf=within(call.leaf),
        bias=call.bias and within(call.bias),
        num_layers_before=call.num_layers_before + layers_before,
    )


def _program(module: nn.Module, options: tuple[str, bool], variables, x: Array) -> tape.Program:
    batch_norm, is_scored = options
    network = adapters.linen_network(module, variables, batch_norm=batch_norm)
    return tape.Program.trace(network, x, is_scored)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _output(module, options, variables, x: Array) -> Array:
    """Output of one block."""
    network = adapters.linen_network(module, variables, batch_norm=options[0])
    return network(x)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(module, options, variables, x: Array):
    """Output, calls and activations of one block."""
    program = _program(module, options, variables, x)
    output, calls, activations = program.run({}, x)
    return output, calls, activations if options[1] else []


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _pull(module, options, skip: int, variables, x: Array, cotangent: Array):
    """Cotangent of one block's input, and its calls with theirs."""
    program = _program(module, options, variables, x)

    def run(perturbations, x):
        output, calls, _ = program.run(perturbations, x)
        return output, calls

    _, back, calls = jax.vjp(run, program.zeros(skip), x, has_aux=True)
    cotangents, x_bar = back(cotangent)
    return x_bar, program.with_cotangents(calls, cotangents, skip)


@functools.partial(jax.jit, static_argnums=0)
def _loss(loss: tape.Loss, outputs: Array, labels: Array):
    """Losses [B] and the cotangent of the outputs of their sum."""
    losses, back = jax.vjp(lambda outputs: loss(outputs, labels), outputs)
    return losses, back(jnp.ones_like(losses))[0]
