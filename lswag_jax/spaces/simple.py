"""A space of your own without a plan: named choices, and a function that makes networks of them."""

import dataclasses
import functools
import keyword
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from lswag_jax.options import ImageSize, Share, Size
from lswag_jax.spaces import modes
from lswag_jax.spaces.base import Block, NetworkError, Space
from lswag_jax.spaces.genotype import BaseGenotype, choose, mix
from lswag_jax.spaces.initial import jitted
from lswag_jax.spaces.macs import count_macs

Scalar = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class SimpleSpace(Space[Any]):
    """A space of named choices whose networks a function makes.

    A genotype has a value of each choice as an attribute. Its text (`width=8,depth=1`) and JSON,
    sampling, mutation and crossover follow from the choices; parameters and multiply-accumulates
    are those of the traced network. Networks share no weights: each draws its own from the seed, as
    its module does, and each is scored by a program of its own.

    Args:
        choices: of each name its values: numbers, texts, True or False.
        build: makes a Flax module (`flax.linen`) of a genotype. It is called with images
            [B, image_size, image_size, channels], set for training or evaluation by an argument
            `train` if it has one, and gives logits [B, num_classes].
        name: what reports call it.
        image_size: in pixels.
        channels: of the image.
        num_classes: width of the logits.

    Raises:
        ValueError: choices that are none, no function, or a size below 1.

    Example:
        >>> def build(g):
        ...     conv = nn.Conv(g.width, (3, 3), strides=2, padding="SAME" if g.padded else "VALID")
        ...     return nn.Sequential([conv, nn.relu, lambda x: x.mean((1, 2)), nn.Dense(10)])
        >>> space = SimpleSpace({"width": (4, 8), "padded": (True, False)}, build, image_size=8)
        >>> g = space.parse("width=8,padded=True")
        >>> g.width, space.num_params(g), space.macs(g)
        (8, 314, 3536)
    """

    choices: Mapping[str, Sequence[Scalar]]
    # A field where other spaces have a method; `build` without a value is refused.
    build: Callable[[Any], nn.Module] = None  # pyright: ignore
    name: str = "simple"
    image_size: ImageSize = 32
    channels: Size = 3
    num_classes: Size = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", _checked(self.choices))
        super().__post_init__()

    @property
    def genotype_class(self) -> type[BaseGenotype]:  # pyright: ignore
        """The genotypes' class, which has the choices as fields."""
        return _genotype_class(tuple(self.choices))

    def describe(self) -> dict[str, Any]:
        """Tells what the space is in plain values; `build` by its name."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        name = getattr(self.build, "__qualname__", type(self.build).__qualname__)
        found["build"] = f"{self.build.__module__}:{name}"
        return found | {"choices": {key: list(values) for key, values in self.choices.items()}}

    # Genotypes --------------------------------------------------------------------------------

    def check(self, g: Any) -> None:
        """Raises ValueError unless `g` belongs to the space."""
        if type(g) is not self.genotype_class:
            raise ValueError(
                f"{self.name} holds genotypes as its sample and parse give them, got {g!r} of type "
                f"{type(g).__name__}."
            )
        for name, values in self.choices.items():
            value = getattr(g, name)
            if not any(type(value) is type(v) and value == v for v in values):
                known = ", ".join(map(str, values))
                raise ValueError(f"{name} of {self.name} must be of {known}, got {value!r}.")

    def format(self, g: BaseGenotype) -> str:
        """Names and values: `width=8,depth=1`."""
        self.check(g)
        return ",".join(f"{name}={getattr(g, name)}" for name in self.choices)

    def parse(self, text: str) -> Any:
        """Reads what `format` writes, the choices in any order."""
        parts = [part.partition("=") for part in text.replace(" ", "").split(",")]
        found = {name: value for name, _, value in parts}
        if set(found) != set(self.choices) or text.count("=") != len(self.choices):
            raise ValueError(f"a genotype of {self.name} has {self._form()}, got {text!r}.")
        genes = {}
        for name, values in self.choices.items():
            written = {str(value).replace(" ", ""): value for value in values}
            genes[name] = written.get(found[name], found[name])  # another is told by `check`
        return self.from_json(genes)

    def _form(self) -> str:
        """The form of a genotype's text, for messages."""
        return f"the form {','.join(f'{name}={v[0]}' for name, v in self.choices.items())}"

    def from_json(self, data: Mapping[str, Any]) -> Any:
        """Makes a checked genotype of a dictionary with a value of each choice."""
        if not isinstance(data, Mapping) or set(data) != set(self.choices):
            names = ", ".join(self.choices)
            shown = sorted(data) if isinstance(data, Mapping) else data
            raise ValueError(f"a genotype of {self.name} has the choices {names}, got {shown!r}.")
        return super().from_json(data)

    def _make(self, values: Sequence[Scalar]) -> Any:
        return self.genotype_class.of(*values)

    def sample_one(self, rng: np.random.Generator) -> Any:
        """Draws each choice uniformly: all genotypes are equally likely."""
        return self._make([choose(rng, v) for v in self.choices.values()])

    def mutate(
        self, rng: np.random.Generator, g: BaseGenotype, m_prob: Share = 0.2, s_prob: Share = 0.4
    ) -> Any:
        """Draws each choice anew with probability `m_prob`; `s_prob` has no use."""
        del s_prob
        fresh = _values(self.sample_one(rng))
        return self._make(mix(rng.random(len(fresh)) < m_prob, fresh, _values(g)))

    def crossover(self, rng: np.random.Generator, a: BaseGenotype, b: BaseGenotype) -> Any:
        """Makes a child with each choice of either parent."""
        return self._make(mix(rng.random(len(self.choices)) < 0.5, _values(a), _values(b)))

    # Counts -----------------------------------------------------------------------------------

    def plan(self, g: BaseGenotype) -> NoReturn:
        """Refuses: such a space is counted and scored without a plan."""
        raise NotImplementedError(f"{self.name} has no plan, its networks are traced instead.")

    def num_params(self, g: BaseGenotype) -> int:
        """Counts the trainable parameters of `g`."""
        return _num_params(self, g)

    def exact_macs(self, g: BaseGenotype) -> int:
        """Counts the multiply-accumulates of what the network computes for one image."""
        return _macs(self, g)

    # Networks ---------------------------------------------------------------------------------

    @property
    def any_size(self) -> bool:
        """Whether the networks take images of any size, which is not known."""
        return False

    def network(self) -> NoReturn:
        """Refuses: the networks share no weights."""
        raise NotImplementedError(f"{self.name} has no elastic network, only those of `build`.")

    def chain(self, g: BaseGenotype) -> list[Block]:
        """The whole network as one block."""
        return [Block("", _network(self, g))]

    def init(self, key: jax.Array) -> dict[str, Any]:
        """What initial variables are drawn from, there being none in common: the key's numbers."""
        return {"key": jax.random.key_data(key)}

    def extract(self, variables: Mapping[str, Any], g: BaseGenotype) -> dict[str, Any]:
        """Draws the initial variables of `build(g)` from the key."""
        return _draw(self, g)(jnp.asarray(variables["key"]))


def _checked(choices: Any) -> FrozenDict[str, tuple[Scalar, ...]]:
    """Choices that can be hashed; ValueError for what are none."""
    if not isinstance(choices, Mapping) or not choices:
        raise ValueError(
            f"choices must be a dictionary of names and their values, got {choices!r}."
        )
    found = {}
    for name, values in choices.items():
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"the name of a choice must be one of Python, got {name!r}.")
        own = unicodedata.normalize("NFKC", name)
        if own != name:
            raise ValueError(f"Python spells the name {name!r} of a choice {own!r}: do so, too.")
        if hasattr(BaseGenotype, name) or name == "genotype":
            raise ValueError(f"a choice must not be called {name!r}, as every genotype has that.")
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise ValueError(f"the values of {name} must be a sequence, got {values!r}.")
        values = [v.item() if isinstance(v, np.generic) else v for v in values]
        for value in values:
            _check_value(name, value)
        texts = {str(value).replace(" ", "") for value in values}
        if not values or len(texts) < len(values) or len(set(values)) < len(values):
            raise ValueError(f"{name} must have values, all different, got {values}.")
        found[name] = tuple(values)
    return FrozenDict(found)


def _check_value(name: str, value: Any) -> None:
    """Raise ValueError for what JSON or a genotype's text cannot hold."""
    good = isinstance(value, Scalar) and (not isinstance(value, float) or math.isfinite(value))
    if good and isinstance(value, str):
        good = value.isprintable() and bool(value.strip()) and not set(value) & set(",=")
    if not good:
        raise ValueError(
            f"a value of {name} must be a number, True, False or a text without , and =, got "
            f"{value!r}."
        )


@functools.cache
def _genotype_class(names: tuple[str, ...]) -> type[BaseGenotype]:
    return dataclasses.make_dataclass("Genotype", names, bases=(BaseGenotype,), frozen=True)


def _values(g: BaseGenotype) -> tuple[Scalar, ...]:
    return tuple(vars(g).values())


@functools.lru_cache(maxsize=1024)
def _network(space: SimpleSpace, g: Any) -> nn.Module:
    """What `build` makes of a genotype."""
    space.check(g)
    of = f"build of {space.name}"
    try:
        module = space.build(g)
    except Exception as error:  # the user's code
        why = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise NetworkError(f"{of} fails for {space.format(g)}: {why}.") from error
    if not isinstance(module, nn.Module):
        raise NetworkError(
            f"{of} must return a Flax module (flax.linen), got a {type(module).__name__} for "
            f"{space.format(g)}."
        )
    return module


def _evaluated(space: SimpleSpace, g: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The module of a genotype set for evaluation, and arguments that do the same."""
    module = modes.in_mode(_network(space, g))
    return module, modes.arguments(type(module).__call__, 2)


@functools.lru_cache(maxsize=8)
def _draw(space: SimpleSpace, g: Any) -> Callable[[jax.Array], dict[str, Any]]:
    """Initial variables of a network from a key's numbers; compiled once for all keys."""
    space.num_params(g)  # says what is wrong with a network that does not run
    module, arguments = _evaluated(space, g)

    def draw(numbers: jax.Array) -> dict[str, Any]:
        key, images = jax.random.wrap_key_data(numbers), jnp.zeros((1, *space.image_shape))
        return dict(module.init(key, images, **arguments))

    return jitted(draw)


def _shapes(space: SimpleSpace, g: Any) -> tuple[Any, jax.ShapeDtypeStruct]:
    """Shapes of a network's variables and of one image; ValueError where it does not run."""
    module, arguments = _evaluated(space, g)
    image = jax.ShapeDtypeStruct((1, *space.image_shape), jnp.float32)
    run = functools.partial(module.init_with_output, **arguments)
    try:
        logits, variables = jax.eval_shape(run, jax.random.key(0), image)
    except Exception as error:  # the user's code
        why = " ".join(str(error).split(" (http")[0].split("\n")[0].split()).rstrip(".")
        raise NetworkError(
            f"the network of {space.format(g)} of {space.name} cannot be run on images of shape "
            f"{space.image_shape}: {why}."
        ) from error
    shape = getattr(logits, "shape", None)
    if shape != (1, space.num_classes):
        got = type(logits).__name__ if shape is None else f"shape {shape}"
        raise NetworkError(
            f"the network of {space.format(g)} of {space.name} must give logits [B, "
            f"{space.num_classes}], as many as num_classes, got {got} for one image."
        )
    return variables, image


@functools.lru_cache(maxsize=2**16)
def _num_params(space: SimpleSpace, g: Any) -> int:
    variables, _ = _shapes(space, g)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.get("params", {})))


@functools.lru_cache(maxsize=2**16)
def _macs(space: SimpleSpace, g: Any) -> int:
    variables, image = _shapes(space, g)
    module, arguments = _evaluated(space, g)

    def logits(variables: Any, image: jax.Array) -> Any:
        output, _ = module.apply(variables, image, mutable=True, **arguments)
        return output

    return count_macs(logits, variables, image)
