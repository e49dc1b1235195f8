"""The table of docs/proxies.md, made from the registry and measured costs.

    python -m lswag_jax.proxies.catalogue docs/proxies.md benchmarks/results/proxy_cost.json

rewrites the part of the page between the two marks.
"""

import dataclasses
import inspect
import json
import pathlib
import sys
from collections.abc import Mapping

from lswag_jax import proxies
from lswag_jax.proxies import Proxy

BEGIN, END = "<!-- table: made by lswag_jax.proxies.catalogue -->", "<!-- end of table -->"
_COLUMNS = (
    "proxy",
    "paper",
    "what it measures",
    "data",
    "gradients",
    "family",
    "raw is better",
    "applies to",
    "options",
    "known weakness",
    "cost",
)


def table(costs: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown table of every registered proxy.

    Args:
        costs: for each measured setting the cost of each proxy in forward + backward passes; None
            where it does not apply.

    Example:
        >>> table({}).splitlines()[0].startswith("| proxy | paper |")
        True
    """
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for proxy in proxies.PROXIES.values():
        cells = _cells(proxy, costs)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _cells(proxy: type[Proxy], costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    fields = [field.name for field in dataclasses.fields(proxy) if field.name != "label"]
    figures = [each.get(proxy.name) for each in costs.values()]
    return [
        f"`{proxy.name}`",
        proxy.paper,
        (inspect.getdoc(proxy) or "").splitlines()[0].rstrip("."),
        proxy.data,
        "yes" if proxy.computes_gradients() else "no",
        proxy.family if proxy.needs else "none",
        "higher" if proxy.higher_is_better else "lower",
        proxy.networks,
        ", ".join(f"`{name}`" for name in fields) or "none",
        proxy.weakness,
        " / ".join("-" if f is None else f"{f:.2f}" for f in figures) if any(figures) else "",
    ]


def page(text: str, costs: Mapping[str, Mapping[str, float]]) -> str:
    """The page with its table made anew.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n\n{table(costs)}\n\n{END}{after}"


def main(path: str, costs: str) -> None:
    """Rewrites the page at `path`."""
    file = pathlib.Path(path)
    file.write_text(page(file.read_text(), json.loads(pathlib.Path(costs).read_text())["cost"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
