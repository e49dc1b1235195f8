"""A run as it stands: its config and rows, read without touching a folder that may be at work."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from lswag_jax import proxies, spaces
from lswag_jax.options import Natural, check_value
from lswag_jax.proxies import Proxy
from lswag_jax.runs.archive import ARCHIVE, read_rows
from lswag_jax.runs.compare import CONFIG, VERSIONS, read_config
from lswag_jax.scoring.rows import Row, check_row
from lswag_jax.spaces import Space


class Run(NamedTuple):
    """What a folder holds.

    Attributes:
        config: of `config.json`.
        rows: of its archive and of its shards', each network once.
        total: networks that the run was to have; 0 where it does not say.
    """

    config: dict[str, Any]
    rows: list[Row]
    total: int


def read_run(workdir: str | os.PathLike) -> Run:
    """The run in a folder, finished or not.

    Raises:
        FileNotFoundError: no archive is there.
        ValueError: it has no rows yet, or its files are damaged.
    """
    folder = pathlib.Path(workdir)
    paths = [folder / ARCHIVE, *sorted(folder.glob(f"shard-*-of-*/{ARCHIVE}"))]
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise FileNotFoundError(f"there is no run in {folder}: no {ARCHIVE}, nor that of a shard.")
    found = [(row, f"row {i} of {p}") for p in paths for i, row in enumerate(read_rows(p)[0], 1)]
    if not found:
        raise ValueError(f"the run in {folder} has no rows yet.")
    config = read_config(paths[0].parent)
    _check_config(config, paths[0].parent)
    rows: dict[str, Row] = {}
    for row, where in found:
        check_row(row, where)
        rows.setdefault(row["id"], row)
    total = config.get("free", {}).get("total", 0)
    return Run(config, list(rows.values()), total)


def _check_config(config: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Raises ValueError for a config that scoring does not write, as of a file that was edited."""
    where = str(folder / CONFIG)
    for key in ("space", "proxies"):
        check_value(dict[str, Any], key, config.get(key), where)
    check_value(str, "space.name", config["space"].get("name"), where)
    if not config["proxies"]:
        raise ValueError(f"{where} names no proxies.")
    for key, entry in config["proxies"].items():
        check_value(dict[str, Any], f"proxies.{key}", entry, where)
        check_value(str, f"proxies.{key}.name", entry.get("name"), where)
    for key in ("search", "data", "free", VERSIONS):
        check_value(dict[str, Any], key, config.get(key, {}), where)
    check_value(Natural, "free.total", config.get("free", {}).get("total", 0), where)


def read_space(config: Mapping[str, Any]) -> Space | None:
    """The space of a run's config; None where it is of your own, whose code is not imported."""
    fields = {key: _tuples(value) for key, value in config["space"].items()}
    if fields["name"] not in spaces.names():
        return None
    try:
        return spaces.get(**fields)
    except ValueError:  # a space of your own that is called as one of the package
        return None


def read_proxies(config: Mapping[str, Any], others: Mapping[str, type[Proxy]]) -> list[Proxy]:
    """The configured proxies of a run's config.

    Args:
        config: of the run.
        others: classes of proxies that are not in the registry, by their names.

    Raises:
        ValueError: a proxy is not known.
    """
    found = []
    for entry in config.get("proxies", {}).values():
        options = {key: _tuples(value) for key, value in entry.items() if key != "name"}
        name = entry["name"]
        make = others.get(name)
        if make is None and name not in proxies.CLASSES:
            raise ValueError(
                f"the run measured {name}, a proxy of your own: name it, as --proxies=module:NAME."
            )
        found.append(make(**options) if make else proxies.get(name, **options))
    return found


def _tuples(value: Any) -> Any:
    """A value of JSON as options have it."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
