"""Old module paths of 0.1, kept for one release: each loads its new place when it is used."""

import importlib
import sys
import types
import warnings
from typing import Any

_MOVED = {
    "correlation": "analysis.correlation",
    "correlation_report": "analysis.report",
    "fitness": "scoring.fitness",
    "information": "analysis.information",
    "layer_profile": "analysis.layer_profile",
    "layers": "spaces.layers",
    "libra": "analysis.libra",
    "merge": "proxies.merge",
    "plots": "analysis.plots",
    "scores": "scoring.table",
    "sources": "data.sources",
    "sphere": "data.sphere",
    "table_converters": "analysis.converters",
    "tables": "analysis.tables",
    "window": "analysis.window",
}


class _MovedModule(types.ModuleType):
    """Stands at an old path and hands on what is asked of it, with a warning."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        old = self.__name__.removeprefix("lswag_jax.")
        new = f"lswag_jax.{_MOVED[old]}"
        warnings.warn(
            f"lswag_jax.{old} is now {new}; the old path goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(new), name)


def install() -> dict[str, types.ModuleType]:
    """The stand-ins by name, entered where `import` looks for them."""
    stand_ins: dict[str, types.ModuleType] = {
        name: _MovedModule(f"lswag_jax.{name}") for name in _MOVED
    }
    for module in stand_ins.values():
        sys.modules.setdefault(module.__name__, module)
    return stand_ins
