"""Config files: found by name or path, completed by the defaults, and checked against them."""

import ast
import contextlib
import copy
import pathlib
import re
import runpy
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from ml_collections import ConfigDict

import lswag_jax
from lswag_jax import own
from lswag_jax.files import nearest_first
from lswag_jax.options import (
    Bound,
    Natural,
    NonNegative,
    Number,
    NumberOrZero,
    Seed,
    Several,
    check_value,
)

# What a value may be, by the type of its default, where that is not the type itself.
_KINDS = {tuple: tuple[float, ...], type(None): Any}
_Inside = Annotated[float, Bound(0, 1, above=True, below=True)]
# What values may be that no class of options has; told whichever binary they are for.
_BOUNDS = {
    "seed": Seed,
    "data.batch_size": Several,
    "data.gradient_batch": Several,
    "data.hold_out": _Inside,
    "score.num": Number,
    "score.chunk": Natural,
    "search.hold_out": _Inside,
    "profile.num": Number,
    "profile.tau": NonNegative,
    "correlate.resamples": NumberOrZero,
    "correlate.level": _Inside,
    "libra.seeds": Number,
}


def folder() -> pathlib.Path:
    """Where those of the package are: in it where it is installed, or beside it in a clone."""
    package = pathlib.Path(lswag_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find(text: str) -> str:
    """The path of a config with its variant, from a file's path or a config's name.

    Args:
        text: PATH or NAME, and perhaps `:VARIANT`. An existing file is taken as it is; the
            folder of the package's configs stands for a missing `configs/`.

    Raises:
        ValueError: there is neither such a file nor a config of this name.

    Example:
        >>> path, _, variant = find("quickstart:runlocal").partition(":")
        >>> pathlib.Path(path).name, variant
        ('quickstart.py', 'runlocal')
    """
    path, colon, variant = text.partition(":")
    if pathlib.Path(path).exists():
        return text
    known = sorted(file.stem for file in folder().glob("*.py"))
    name = path.removeprefix("configs/").removesuffix(".py")
    if name not in known:
        raise ValueError(f"no config called {path}: known are {nearest_first(name, known)}.")
    return f"{folder() / name}.py{colon}{variant}"


def load(
    text: str, binary: str, example: str, argv: Sequence[str], tell: Callable[[str], None]
) -> ConfigDict:
    """The config that a command line names, ready for its overrides of single keys.

    Args:
        text: PATH or NAME, and perhaps `:VARIANT`.
        binary: without `lswag-`; its config has keys of this name.
        example: a config that it takes.
        argv: the command line.
        tell: is told what is left out where the command line names another space.

    Raises:
        ValueError: no such config, one that cannot be loaded or is of another binary, or a key or
            value that no config of this binary has.
    """
    if not text.partition(":")[0].strip():
        raise ValueError(f"--config is empty: give one, for example --config={example}.")
    config = _run(text)
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise ValueError(f"get_config of {text} must return a ConfigDict, got {kind}.")
    if binary not in config:
        raise ValueError(f"{text} is no config of lswag-{binary}: give one such as {example}.")
    complete(config, binary)
    overrides = _overrides(argv)
    name = overrides.get("space.name") or config.space.name
    if name != config.space.name:
        with config.unlocked():
            config.space = _space(name, config.space, overrides, tell)
    for key in overrides:
        _check_key(config, key)
    return config


def complete(config: ConfigDict, binary: str) -> None:
    """Gives a config the keys that it lacks, with their defaults.

    Args:
        config: of a file; is changed.
        binary: that it is for.

    Raises:
        ValueError: a key that no config of this binary has, or a value of another kind.
    """
    from lswag_jax.cli.default_config import default_config
    from lswag_jax.cli.default_train_config import default_train_config

    default = default_train_config() if binary == "train" else default_config()
    default.space = {}  # whose keys are those of the space
    with config.unlocked(), config.ignore_type():
        _complete(config, default)
    check_value(str, "space.name", config.space.get("name"))


def _complete(given: ConfigDict, default: ConfigDict, section: str = "") -> None:
    """Completes a section; keys of a space are refused where it is made."""
    for key in given:
        if section != "space." and key not in default:
            raise ValueError(_no_key(f"{section}{key}", key, section, default))
    for key, value in default.items():
        name = f"{section}{key}"
        if key not in given:
            given[key] = copy.deepcopy(value)
        elif isinstance(value, ConfigDict):
            if not isinstance(given[key], ConfigDict):
                raise ValueError(f"{name} must be a section of keys, got {given[key]!r}.")
            _complete(given[key], value, f"{name}.")
        else:
            kind = _KINDS.get(type(value), type(value))
            given[key] = _with_inf(given[key])
            check_value(_BOUNDS.get(name, kind), name, given[key])


def _with_inf(value: Any) -> Any:
    """A tuple that the command line has as a text since it holds `inf`, such as `(5.0,inf)`."""
    is_text = isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str)
    if is_text and "inf" in value[0]:
        with contextlib.suppress(ValueError, SyntaxError):
            return ast.literal_eval(re.sub(r"\binf\b", "1e999", value[0]))
    return value


def _run(text: str) -> Any:
    """What `get_config` of a file gives."""
    path, *variant = find(text).split(":", 1)
    try:
        names = runpy.run_path(path, run_name="config")
        if "get_config" in names:
            return names["get_config"](*variant)
    except own.FAULTS as error:
        raise own.fault(f"config {text} cannot be loaded", error) from error
    raise ValueError(f"config {text} has no function get_config.")


def _overrides(argv: Sequence[str]) -> dict[str, str]:
    """Texts by the keys that a command line overrides; the next argument where there is no `=`."""
    found = {}
    for arg, following in zip(argv, [*argv[1:], ""], strict=False):
        if match := re.match(r"--?(?:no)?config\.([^=]*)(=?)(.*)", arg, re.DOTALL):
            found[match[1]] = match[3] if match[2] else following
    return found


def _space(
    name: str, given: ConfigDict, overrides: Mapping[str, str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """The section of a space that the command line names in place of a config's.

    It keeps what the config sets and the new space knows. A user's own space has its own values;
    of arguments without a default it keeps those that the command line overrides.
    """
    from lswag_jax import spaces
    from lswag_jax.cli.default_config import space_config

    section = space_config(name)
    if own.is_named(name):
        return {
            key: given[key]
            for key in spaces.arguments(name)
            if key in given and f"space.{key}" in overrides
        } | section
    default = {} if own.is_named(given.name) else space_config(given.name)
    changed = {k: v for k, v in given.items() if k != "name" and v != default.get(k)}
    if left := [f"{key}={value}" for key, value in changed.items() if key not in section]:
        tell(f"{', '.join(left)} is set for {given.name}, not for {name}: left out")
    return section | {key: value for key, value in changed.items() if key in section}


def _check_key(config: ConfigDict, key: str) -> None:
    """Raises ValueError for an override of what a config does not have."""
    section, node, parts = "", config, key.split(".")
    while parts and isinstance(node, ConfigDict) and parts[0] in node:
        section, node, parts = f"{section}{parts[0]}.", node[parts[0]], parts[1:]
    if parts:
        raise ValueError(_no_key(f"--config.{key}", parts[0], section, node))


def _no_key(name: str, key: str, section: str, known: Any) -> str:
    """Says that a config has no such key, and which there are, the nearest first."""
    where = section.removesuffix(".") or "a config"
    if not isinstance(known, ConfigDict):
        return f"there is no {name}: {where} is a value, {known!r}."
    return f"there is no {name}: {where} has {nearest_first(key, known) or 'no keys'}."
