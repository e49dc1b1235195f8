"""Rows: what is kept of one scored architecture, in tables, archives and JSON lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from lswag_jax.files import JsonNumber
from lswag_jax.options import Natural, check_value
from lswag_jax.proxies import Proxy, finish
from lswag_jax.spaces import Space
from lswag_jax.spaces.base import sizes


class Row(TypedDict):
    """One architecture's scores as plain values.

    Attributes:
        id: the genotype as text, or the name of a user's model.
        genotype: as JSON; None of a user's model.
        params: trainable parameters; None of a network that cannot be made.
        macs: multiply-accumulates of one sample's forward pass; None as above.
        seconds: that scoring took, compilation left out.
        degenerate: of each repeat [R], whether the logits do not depend on the input.
        parts: for each proxy its parts, lists with leading axis R.
        costs: of each measured cost (`proxies.Cost`) the seconds or bytes, by its key.
        coverage: of a user's model or space, what proxies see of it (`Coverage`).
        reason: of a user's model, why it is degenerate; absent where it is not.
        generation: of evolution, from 0; absent elsewhere.
        error: in place of `degenerate` and `parts`, why the architecture could not be run.
    """

    id: str
    genotype: Any
    params: int | None
    macs: int | None
    seconds: float
    degenerate: NotRequired[list[bool]]
    parts: NotRequired[dict[str, dict[str, list]]]
    costs: NotRequired[dict[str, float]]
    coverage: NotRequired[dict[str, Any]]
    reason: NotRequired[str]
    generation: NotRequired[int]
    error: NotRequired[str]


_FIELDS: dict[str, Any] = {
    "genotype": dict[str, Any] | None,
    "params": float | None,
    "macs": float | None,
    "seconds": float,
}
_PERHAPS: dict[str, Any] = {
    "degenerate": list[bool],
    "parts": dict[str, Any],
    "coverage": dict[str, Any],
    "generation": Natural,
    "error": str,
}


def check_row(row: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a row that scoring does not write, as of a file that was edited.

    Args:
        row: a mapping with a text `id`.
        where: what messages call it.
    """
    where = f"{where} ({row['id']!r})"
    missing = [key for key in _FIELDS if key not in row]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}.")
    for key, kind in (_FIELDS | _PERHAPS).items():
        if key in row:
            check_value(kind, key, row[key], where)
    for proxy, parts in row.get("parts", {}).items():
        check_value(dict[str, Any], f"parts.{proxy}", parts, where)
        for key, values in parts.items():
            if not isinstance(values, list):  # of very many: looked at more closely where it fails
                check_value(list[Any], f"parts.{proxy}.{key}", values, where)
    if "costs" in row:
        check_costs(row, where)
    if "error" not in row and None in (row["params"], row["macs"]):
        raise ValueError(f"{where} has no params or macs, and no error that says why.")


def parsed(line: bytes) -> dict[str, Any] | None:
    """What a line of JSON holds, if that has a text `id` as rows do; else None."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # also bytes that are not UTF-8
        return None
    return row if isinstance(row, dict) and isinstance(row.get("id"), str) else None


def read_row(line: bytes, where: str) -> Row:
    """A row from a line of JSON; ValueError, which calls it `where`, if it is none."""
    row = parsed(line)
    if row is None:
        raise ValueError(f"{where} is not a row of scores.")
    check_row(row, where)
    return cast(Row, row)


def check_costs(row: Mapping[str, Any], where: str) -> None:
    """`check_row` of a row of measured costs alone."""
    check_value(dict[str, Any], "costs", row.get("costs"), where)
    for name, cost in row["costs"].items():
        check_value(JsonNumber, f"costs.{name}", cost, where)


def population_rows(
    space: Space,
    genotypes: Sequence[Any],
    results: Sequence[Mapping[str, Any]] | str,
    proxies: Sequence[Proxy],
    seconds: float,
) -> Iterator[Row]:
    """Makes a row of each genotype.

    Args:
        space, genotypes: what was scored.
        results: of each repeat what `measure` returned, arrays with leading axis P; or a message
            where the architectures could not be run.
        proxies: configured proxies.
        seconds: that each took.
    """
    measured = None if isinstance(results, str) else measurements(results, proxies, len(genotypes))
    for i, genotype in enumerate(genotypes):
        counts = sizes(space, genotype)
        row: Row = {
            "id": space.format(genotype),
            "genotype": genotype.to_json(),
            "params": counts["params"],
            "macs": counts["macs"],
            "seconds": seconds,
        }
        yield cast(Row, row | ({"error": results} if measured is None else measured[i]))


def measurements(
    results: Sequence[Mapping[str, Any]], proxies: Sequence[Proxy], number: int
) -> list[dict[str, Any]]:
    """Makes the `degenerate` and `parts` of the rows of P architectures.

    Args:
        results: of each repeat what `measure` returned, arrays with leading axis P.
        proxies: configured proxies; those without passes have no parts.
        number: P.
    """
    finished = {
        proxy.key: [finish(proxy, result[proxy.key]) for result in results] if proxy.passes else []
        for proxy in proxies
    }
    return [
        {
            "degenerate": [bool(result["degenerate"][i]) for result in results] or [False],
            "parts": {
                name: {key: [np.asarray(r[key])[i].tolist() for r in repeats] for key in repeats[0]}
                if repeats
                else {}
                for name, repeats in finished.items()
            },
        }
        for i in range(number)
    ]
