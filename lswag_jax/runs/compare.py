"""Whether the run of a folder may resume: what configs may differ in, and what a refusal says."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CONFIG = "config.json"
VERSIONS = "versions"  # of this package, each with the number of rows there before its first
_ABSENT = object()
_SHOWN = 5  # differences between two configs that an error names
# Keys that may differ on resuming. Rows record versions and genotypes themselves, and a longer
# search proposes the same networks first. "free" holds what only reports read.
_FREE = (VERSIONS, "free", "genotypes_sha256", "search.num", "search.epochs", "search.merge_last")
_ASKED = {"score.seed": "seed"}  # what a config calls a key
_DATA = ("data", "data_sha256")  # where images come from does not matter where they are the same


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The config of the run in a folder.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        found = json.loads((workdir / CONFIG).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{workdir} holds a run but no readable {CONFIG}.")
    return found


def check_same(workdir: pathlib.Path, config: Mapping[str, Any], exempt: Sequence[str]) -> None:
    """Refuses a config that would give other rows than those of the run in a folder.

    Args:
        workdir: of the run.
        config: of the run that is to resume there.
        exempt: keys, dotted where nested, that may differ too.

    Raises:
        ValueError: what differs, by its keys and both values.
    """
    found = dict(_differences(read_config(workdir), config))
    free = (*_FREE, *exempt)
    other_data = "data_sha256" in found
    differing = [
        f"{_ASKED.get(key, key.removeprefix('options.'))} ({what})"  # of training's options
        for key, what in found.items()
        if not _is_in(key, free)
        and (not _is_in(key, _DATA) or (other_data and key != "data_sha256"))
    ]
    if other_data and not differing and not _is_in("data_sha256", free):
        differing = ["the images or labels (of the same source, but not those of before)"]
    if differing:
        more = [f"{len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
        raise ValueError(
            f"workdir {workdir} holds a run of another config, which differs in "
            f"{', '.join(differing[:_SHOWN] + more)}: give another workdir."
        )


def _is_in(key: str, prefixes: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{prefix}.") for prefix in prefixes)


def _differences(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys at which two configs differ, and how."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in there | here:
            inner = f"{key}.{name}" if key else name
            yield from _differences(there.get(name, _ABSENT), here.get(name, _ABSENT), inner)
    elif _ABSENT in (there, here) and isinstance(there if here is _ABSENT else here, dict):
        yield key, "only there" if here is _ABSENT else "only here"
    elif there is _ABSENT or here is _ABSENT or json.dumps(there) != json.dumps(here):
        yield key, f"{_show(there)} there, {_show(here)} here"


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
