"""A trained network as a folder: genotype, weights in two formats, and a model card."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from lswag_jax import spaces
from lswag_jax.data.decode import as_pixels, as_several
from lswag_jax.extras import extra
from lswag_jax.files import write_atomically
from lswag_jax.options import typed, typed_methods
from lswag_jax.spaces import modes
from lswag_jax.training.augment import AugmentOptions, Crop, evaluation_image
from lswag_jax.training.checkpoints import saving

DESCRIPTION, WEIGHTS, ORBAX, CARD = "model.json", "model.safetensors", "orbax", "README.md"


@typed_methods
@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network, or a super-network.

    Attributes:
        space: of the genotype.
        genotype: None for a super-network.
        variables: of `module`.
        mean, std: a channel, for pixels in [0, 1].
        crop: of the training images, which decides how others are cropped (`AugmentOptions.crop`).
        classes: names, or numbers where there are none.
        metrics: of the validation.
        provenance: how it came about: data, seed, epochs and so on.
    """

    space: spaces.Space
    genotype: Any
    variables: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Crop
    classes: Sequence[str | int]
    metrics: Mapping[str, float]
    provenance: Mapping[str, Any]

    @property
    def module(self) -> nn.Module:
        """The network: `build(genotype)`, or the elastic one of a super-network."""
        if self.genotype is None:
            return self.space.network()
        return self.space.build(self.genotype)

    def prepare(self, images: Any) -> np.ndarray:
        """Images as the network takes them.

        Args:
            images: one or several, of any size: paths, Pillow's images, or arrays [H, W] or
                [H, W, C], uint8, uint16 or floats in [0, 1]. Grey is repeated or colours made
                grey as the network needs; alpha is dropped.

        Returns:
            float32 [B, size, size, channels], resized, cropped and normalised.

        Raises:
            ValueError: an image is none of these or cannot be read, or there is none.
        """
        size, channels = self.space.image_size, self.space.channels
        options = AugmentOptions(crop=self.crop)
        several = as_several(images)
        if not several:
            raise ValueError("there is no image to predict.")
        named = [(x, f"image {i} of the input") for i, x in enumerate(several)]
        pixels = [
            evaluation_image(as_pixels(x, where), where, channels, size, options)
            for x, where in named
        ]
        scaled = np.stack(pixels).astype(np.float32) / np.float32(255)
        return (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def predict(self, images: Any) -> np.ndarray:
        """Probabilities [B, C] of one or several images; `prepare` and one call of the network.

        Raises:
            ValueError: as `prepare`; of a super-network, which needs a genotype (`inherit`).
        """
        if self.genotype is None:
            raise ValueError("a super-network needs a genotype to predict: give it one.")
        logits = _apply(self.module, self.variables, self.prepare(images))
        return np.asarray(jax.nn.softmax(logits))

    def inherit(self, genotype: Any) -> "Model":
        """The network of a genotype with this super-network's weights.

        Raises:
            ValueError: this is no super-network, or the genotype is not of its space.
        """
        if self.genotype is not None:
            raise ValueError("only a super-network gives weights to other genotypes.")
        variables = self.space.extract(self.variables, genotype)
        return dataclasses.replace(self, genotype=genotype, variables=variables, metrics={})


@functools.partial(jax.jit, static_argnums=0)
def _apply(module: nn.Module, variables: Any, images: jax.Array) -> Any:
    module = modes.in_mode(module)
    return module.apply(variables, images, **modes.arguments(type(module).__call__, 2))


@typed
def save(folder: str | os.PathLike, model: Model) -> None:
    """Writes `model.json`, `model.safetensors`, `orbax/` and a model card, all or nothing.

    Args:
        folder: is replaced if it exists.
        model: what to write.

    Raises:
        OSError: the files cannot be written, for example on a full disk; an earlier folder stays.
    """
    with extra("train"):
        import orbax.checkpoint as ocp
        from safetensors import numpy as safetensors

    folder = pathlib.Path(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    variables = jax.device_get(model.variables)
    flat = traverse_util.flatten_dict(variables, sep="/")
    arrays = {key: np.ascontiguousarray(value) for key, value in flat.items()}
    description = json.dumps(_describe(model), indent=2)
    try:
        with saving(f"the network cannot be saved to {folder}, what was there stays"):
            temporary.mkdir(parents=True)
            write_atomically(temporary / WEIGHTS, safetensors.save(arrays))
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save((temporary / ORBAX).resolve(), variables)
            write_atomically(temporary / DESCRIPTION, description + "\n")
            write_atomically(temporary / CARD, card(model))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(model: Model) -> dict[str, Any]:
    """What `model.json` holds."""
    genotype = None if model.genotype is None else model.genotype.to_json()
    return {
        "space": {"class": type(model.space).__name__} | model.space.describe(),
        "genotype": genotype,
        "id": None if genotype is None else model.space.format(model.genotype),
        "input": {"mean": list(model.mean), "std": list(model.std), "crop": model.crop},
        "classes": list(model.classes),
        "metrics": dict(model.metrics),
        "provenance": dict(model.provenance),
    }


@typed
def load(path: str | os.PathLike, space: spaces.Space | str | None = None) -> Model:
    """A trained network from its folder, or from the working directory of its training.

    Args:
        path: of the folder; weights are read from `model.safetensors`.
        space: of the network, where it is one of your own: the space or its `module:NAME`, since
            nothing that a file names is imported. None for a space of the package.

    Returns:
        The model, with `module`, `variables`, and `predict` for images of any size.

    Raises:
        FileNotFoundError: there is no trained network.
        ValueError: its files are damaged or do not belong together, or the space is not given or
            another one.

    Example:
        >>> lswag_jax.load("results/train").predict("shirt.png").shape  # doctest: +SKIP
        (1, 10)
    """
    with extra("train"):
        from safetensors import SafetensorError
        from safetensors import numpy as safetensors

    folder = pathlib.Path(path)
    if (folder / "model" / DESCRIPTION).is_file():
        folder /= "model"
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no trained network in {path}: {name} is missing.")
    with _damage(folder, SafetensorError):
        found = json.loads((folder / DESCRIPTION).read_bytes())
        flat = safetensors.load_file(folder / WEIGHTS)
        described = dict(found["space"])
        told = (described.pop("class"), described["name"])
    own = _own_space(space, told, path)
    with _damage(folder):
        own = own or _known_space(told[0], described)
        genotype = None if found["genotype"] is None else own.from_json(found["genotype"])
        fields = {key: found[key] for key in ("classes", "metrics", "provenance")}
        fields |= {key: tuple(found["input"][key]) for key in ("mean", "std")}
        crop = found["input"]["crop"]
    variables = traverse_util.unflatten_dict(flat, sep="/")
    return Model(own, genotype, variables, crop=crop, **fields)


@typed
def is_known(space: spaces.Space) -> bool:
    """Whether a file can tell all about a space: it is of a class of the package, without code."""
    cls = type(space)
    return getattr(spaces, cls.__name__, None) is cls and cls is not spaces.SimpleSpace


@contextlib.contextmanager
def _damage(folder: pathlib.Path, *others: type[Exception]) -> Iterator[None]:
    """Says of what fails to be read that the files are damaged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RecursionError, *others) as error:
        raise ValueError(f"the files of {folder} are damaged: {error}.") from error


def _own_space(given: Any, told: tuple[str, str], path: Any) -> spaces.Space | None:
    """The space that was given; None where the file tells of one by itself.

    Args:
        given: a space, its `module:NAME`, or None.
        told: class and name of the space in the file.
        path: that was to be loaded.

    Raises:
        ValueError: none was given where it is needed, or another one.
    """
    if given is None:
        if getattr(spaces, told[0], None) is not spaces.SimpleSpace:
            return None
        raise ValueError(
            f"the network in {path} is of {told[1]}, a space of your own: give the space, or "
            "module:NAME of it, as the argument space."
        )
    space = spaces.get(given) if isinstance(given, str) else given
    if (type(space).__name__, space.name) != told:
        raise ValueError(
            f"the network in {path} is of {told[1]} ({told[0]}), not of {space.name} "
            f"({type(space).__name__})."
        )
    return space


def _known_space(name: str, fields: Mapping[str, Any]) -> spaces.Space:
    """A space of the package from what `_describe` tells; ValueError for an unknown class."""
    cls = getattr(spaces, name, None)
    if not (isinstance(cls, type) and issubclass(cls, spaces.Space)):
        raise ValueError(f"unknown search space class {name!r}, give the argument space")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


@typed
def card(model: Model) -> str:
    """The model card, Markdown."""
    space, g = model.space, model.genotype
    size = f"{space.image_size} x {space.image_size} x {space.channels}"
    rows = {"search space": f"{space.name} ({type(space).__name__})", "input": size}
    if g is not None:
        rows |= {
            "genotype": f"`{space.format(g)}`",
            "parameters": f"{space.num_params(g):,}",
            "multiply-accumulates": f"{space.macs(g):,}",
        }
    rows["classes"] = f"{len(model.classes)}: {', '.join(map(str, model.classes[:10]))}"
    rows["classes"] += ", ..." if len(model.classes) > 10 else ""
    rows |= {f"validation {key}": f"{value:.4f}" for key, value in model.metrics.items()}
    rows |= {key: f"`{json.dumps(value)}`" for key, value in model.provenance.items()}
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    what = "super-network" if g is None else "network"
    given = "" if is_known(space) else ', space="module:NAME"'
    return (
        f"# A {what} trained by lswag_jax\n\n| | |\n|---|---|\n{table}\n\n"
        f'```python\nimport lswag_jax\n\nmodel = lswag_jax.load("this folder"{given})\n'
        "model.predict(images)  # probabilities [B, C]\n```\n\n"
        f"`{DESCRIPTION}` describes it, `{WEIGHTS}` and `{ORBAX}/` hold the same weights. It was "
        "validated on the data above only; whether it serves other images is not known.\n"
    )
