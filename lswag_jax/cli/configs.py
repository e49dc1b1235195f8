"""The config files that come with the package, found by name wherever it is installed."""

import pathlib

import lswag_jax
from lswag_jax.files import nearest_first


class Unknown(ValueError):
    """There is no such config."""


def folder() -> pathlib.Path:
    """Where they are: in the installed package, or beside it in a clone."""
    package = pathlib.Path(lswag_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find(text: str) -> str:
    """The path of a config with its variant, from a file's path or a config's name.

    Args:
        text: PATH or NAME, and perhaps `:VARIANT`. An existing file is taken as it is; the
            folder of the package's configs stands for a missing `configs/`.

    Raises:
        Unknown: there is neither such a file nor a config of this name.

    Example:
        >>> path, _, variant = find("quickstart:runlocal").partition(":")
        >>> pathlib.Path(path).name, variant
        ('quickstart.py', 'runlocal')
    """
    path, colon, variant = text.partition(":")
    if not path.strip() or pathlib.Path(path).exists():
        return text
    known = sorted(file.stem for file in folder().glob("*.py"))
    name = path.removeprefix("configs/").removesuffix(".py")
    if name not in known:
        raise Unknown(f"no config called {path}: known are {nearest_first(name, known)}.")
    return f"{folder() / name}.py{colon}{variant}"
