"""The macro space of TransNAS-Bench-101: 3,256 skeletons of residual blocks."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import traverse_util

from lswag_jax.options import Share
from lswag_jax.spaces.base import Block, scale_params
from lswag_jax.spaces.genotype import mix
from lswag_jax.spaces.plan import WEIGHTED, Path, Plan, cut, flat_variables
from lswag_jax.spaces.transnas import network as networks
from lswag_jax.spaces.transnas.genotype import TransNASMacroGenotype
from lswag_jax.spaces.transnas.plan import HEADS, blocks, strides
from lswag_jax.spaces.transnas.space import TransNAS

DEPTHS = (4, 5, 6)
_LARGEST = (4, 4, 4, 3, 3, 3)  # all the channels that a place can have, and every shortcut
MAX_STRIDES, MAX_DOUBLINGS = 4, 3
_EXAMPLE = "1234-basic"


@dataclasses.dataclass(frozen=True)
class TransNASMacro(TransNAS[TransNASMacroGenotype]):
    """Four to six modules, 1 to 4 that halve the resolution, 1 to 3 that double the channels.

    Example:
        >>> space = TransNASMacro(task="jigsaw")
        >>> genotype = space.parse("64-1242-basic")
        >>> genotype.modules, space.num_params(genotype), len(space.genotypes())
        ((1, 2, 4, 2), 15795464, 3256)
    """

    name: str = "transnas_macro"

    genotype_class: ClassVar[type] = TransNASMacroGenotype
    _digits: ClassVar[str] = "four to six modules from 1 to 4, then 'basic'"

    @property
    def _max_strides(self) -> int:
        return MAX_STRIDES

    def _modules(self, g: TransNASMacroGenotype) -> tuple[int, ...]:
        return g.modules

    def _ops(self, g: TransNASMacroGenotype) -> None:
        return None

    def depth_extremes(self) -> tuple[TransNASMacroGenotype, ...]:
        """All genotypes, since shapes change with each."""
        return self.genotypes()

    def check(self, g: TransNASMacroGenotype) -> None:
        """Raises ValueError unless `g` is one of the 3,256 skeletons."""
        super().check(g)
        for what, value, low, high in (
            ("modules", g.depth, min(DEPTHS), max(DEPTHS)),
            ("modules that halve the resolution", strides(g.modules), 1, MAX_STRIDES),
            ("modules that double the channels", _doublings(g.modules), 1, MAX_DOUBLINGS),
        ):
            if not low <= value <= high:
                raise ValueError(f"{self.name} has {low} to {high} {what}, got {value}.")

    def format(self, g: TransNASMacroGenotype) -> str:
        """`g` as the benchmark's code, for example "64-1234-basic"."""
        return f"{self.width}-{''.join(map(str, g.modules))}-basic"

    def parse(self, text: str) -> TransNASMacroGenotype:
        """Reads what `format` writes.

        Raises:
            ValueError: the text has another form or is not of this space.
        """
        digits, cell = self._code(text, _EXAMPLE)
        if cell != "basic" or not digits or not set(digits) <= set("1234"):
            raise self._malformed(text, _EXAMPLE)
        g = TransNASMacroGenotype(tuple(int(digit) for digit in digits))
        self.check(g)
        return g

    def genotypes(self) -> tuple[TransNASMacroGenotype, ...]:
        """Lists all 3,256 genotypes, by depth and then in the order of their codes."""
        return _every_genotype()

    def mutate(
        self,
        rng: np.random.Generator,
        g: TransNASMacroGenotype,
        m_prob: Share = 0.2,
        s_prob: Share = 0.4,
    ) -> TransNASMacroGenotype:
        """Makes a mutant of `g`; draws that leave the space are repeated.

        Args:
            rng: source of randomness.
            g: the parent.
            m_prob: probability that a module's kind is drawn anew.
            s_prob: probability that the number of modules is drawn anew.
        """
        while True:
            modules = list(g.modules)
            if rng.random() < s_prob:
                depth = int(rng.choice(DEPTHS))
                modules = modules[:depth] + rng.integers(1, 5, max(depth - g.depth, 0)).tolist()
            modules = [int(rng.integers(1, 5)) if rng.random() < m_prob else m for m in modules]
            if _allowed(modules):
                return TransNASMacroGenotype(modules)

    def crossover(
        self, rng: np.random.Generator, a: TransNASMacroGenotype, b: TransNASMacroGenotype
    ) -> TransNASMacroGenotype | None:
        """Makes a child with each module of either parent; None for parents of different depth.

        None, too, where the child has too many or too few modules that stride or double.
        """
        if a.depth != b.depth:
            return None
        modules = mix(rng.random(a.depth) < 0.5, a.modules, b.modules)
        return TransNASMacroGenotype(tuple(modules)) if _allowed(modules) else None

    # Networks ---------------------------------------------------------------------------------

    def network(self) -> networks.TransNASNetwork:
        """The skeleton with the most channels in every place, whose variables `extract` cuts.

        It is not elastic: shapes change with every genotype, so networks are scored as chains.
        """
        return self._module(_LARGEST, None)

    def chain(self, g: TransNASMacroGenotype) -> list[Block]:
        """Stem, residual blocks and head; 63 kinds of residual blocks make all 3,256 networks."""
        module = self.build(g)
        name, make_head = module.head()
        return [
            Block("stem", networks.Stem(module.width, parent=None)),
            *(
                Block(block, networks.ResidualBlock(features, stride, parent=None))
                for block, (_, features, stride) in blocks(module.modules, module.width)
            ),
            Block(name, make_head(parent=None), not self.encoder_only),
        ]

    def extract(self, variables: Mapping[str, Any], g: TransNASMacroGenotype) -> dict[str, Any]:
        """Cuts the variables of `build(g)`: the first channels of those of `network`.

        Weights are rescaled to the initial scale of their own fan.
        """
        self.check(g)
        plan, fans_whole = self.plan(g), _fans(self.plan_of(_LARGEST, None))
        fans = _fans(plan)

        def factor(path: Path, value: jax.Array) -> float | None:
            del value
            layer = path[1:-1]
            return (fans_whole[layer] / fans[layer]) ** 0.5 if layer in fans else None

        if not self.own_task.dense:
            variables = self._gather_features(variables, plan)
        return scale_params(cut(plan, variables), factor)

    def _gather_features(self, variables: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
        """Brings the head's rows together that read the first features of each tile."""
        flat = flat_variables(dict(variables))
        path, outputs = ("params", "head", "linear", "kernel"), self.own_task.outputs
        linear = dict(plan.named_layers())["head", "linear"]
        features = linear.in_channels // self.own_task.tiles
        rows_TxFxK = flat[path].reshape(self.own_task.tiles, -1, outputs)[:, :features]
        return traverse_util.unflatten_dict(flat | {path: rows_TxFxK.reshape(-1, outputs)})


def _fans(plan: Plan) -> dict[Path, int]:
    """Channels that the initial scale of each weight layer depends on: of its input or output."""
    fans = {}
    for path, layer in plan.named_layers():
        if layer.present and layer.kind in WEIGHTED:
            # The head and decoders have PyTorch's default, the encoder Kaiming's with fan-out.
            by_input = path[0] in HEADS and layer.kind != "conv_transpose"
            fans[path] = layer.in_channels if by_input else layer.out_channels
    return fans


def _doublings(modules) -> int:
    return sum(kind in (2, 4) for kind in modules)


def _allowed(modules) -> bool:
    return 1 <= strides(modules) <= MAX_STRIDES and 1 <= _doublings(modules) <= MAX_DOUBLINGS


@functools.cache
def _every_genotype() -> tuple[TransNASMacroGenotype, ...]:
    every = (m for depth in DEPTHS for m in itertools.product((1, 2, 3, 4), repeat=depth))
    return tuple(TransNASMacroGenotype(m) for m in every if _allowed(m))
