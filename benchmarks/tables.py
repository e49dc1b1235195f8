"""Figures as data: a benchmark shows rows, which are printed and kept; pages are made of them.

A result is a JSON file of date, command, hardware, versions and tables. A table has a title, the
number of architectures, columns (name, and digits of floats) and rows of numbers, texts, intervals
and nulls.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "benchmarks/RESULTS.md", "docs/results.md")
END = "<!-- end of table -->"
_MARKED = re.compile(r"(<!-- table: (.*?) -->\n).*?(?=" + re.escape(END) + ")", re.DOTALL)

shown: list[dict[str, Any]] = []  # tables of the benchmark that runs


def show(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    digits: int | Mapping[str, int] = 3,
    n: int | None = None,
) -> None:
    """Prints rows as a table and keeps them.

    Args:
        title: names the table on the pages.
        rows: values by column, the same columns in each.
        digits: of floats, behind the point; of some columns by their names, 3 of the others.
        n: architectures that the table is about.
    """
    names = list(rows[0])
    of = digits.get if isinstance(digits, Mapping) else lambda name, _: digits
    columns = [{"name": name, "digits": of(name, 3)} for name in names]
    values = [[_plain(row[name]) for name in names] for row in rows]
    table = {"title": title, "n": n, "columns": columns, "rows": values}
    shown.append(table)
    print(f"\n{title}\n\n{markdown(table)}", flush=True)


def show_figures(title: str, figures: Mapping[str, Any], digits: int = 3) -> None:
    """The same of named figures, one a row."""
    show(title, [{"figure": name, "value": value} for name, value in figures.items()], digits)


INTERVAL = {"95 % interval": 2}  # digits


def correlations(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `report.summary` says of a proxy, by the names of the columns."""
    return {
        "proxy": row["proxy"],
        "Spearman": row["rho"],
        "95 % interval": (row["rho_low"], row["rho_high"]),
        "Kendall": row["tau"],
        "given #params": row["partial_rho"],
    }


def markdown(table: Mapping[str, Any]) -> str:
    """A kept table as Markdown."""
    columns = table["columns"]
    lines = [[column["name"] for column in columns], ["---"] * len(columns)]
    for row in table["rows"]:
        pairs = zip(row, columns, strict=True)
        lines.append([_cell(value, column.get("digits", 3)) for value, column in pairs])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("| --- ", "|---")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, tuples as lists."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value


def _cell(value: Any, digits: int | None) -> str:
    """As text; without digits a float has as many as it needs."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "[" + ", ".join(_cell(end, digits) for end in value) + "]"
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if digits is None else f"{value:.{digits}f}"


def read(file: str) -> dict[str, Any]:
    """A kept result."""
    return json.loads((RESULTS / f"{file}.json").read_text())


def table_of(name: str) -> dict[str, Any]:
    """The table that a page's mark names: FILE: TITLE, or the headline, whole or in short."""
    if name in ("headline", "headline in short"):
        return headline(SHORT if name.endswith("short") else tuple(HEADLINE))
    file, title = name.split(": ", 1)
    tables = {table["title"]: table for table in read(file)["tables"]}
    if title not in tables:
        raise ValueError(f"{file}.json has no table {title!r}; it has {', '.join(tables)}.")
    return tables[title]


def rewritten(text: str) -> str:
    """A page with each table between its marks made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{markdown(table_of(found[2]))}\n", text)


def rewrite_pages() -> None:
    """Writes the tables into every page."""
    for page in PAGES:
        path = ROOT / page
        path.write_text(rewritten(path.read_text()))


# Population, file and title of the tables that RESULTS.md sums up.
HEADLINE = {
    "ViT-Bench-101, CIFAR-100 with distillation": ("rank_vits", "vitbench, c100_kd_acc"),
    "ViT-Bench-101, Flowers with distillation": ("rank_vits", "vitbench, flower_kd_acc"),
    "ViT-Bench-101, CIFAR-100 from scratch": ("rank_vits", "vitbench, c100_base_acc"),
    "AutoFormer-Tiny super-network, ImageNet": ("rank_vits", "tiny, imagenet_top1_inherited"),
    "AutoFormer-Small super-network, ImageNet": ("rank_vits", "small, imagenet_top1_inherited"),
    "NAS-Bench-201, CIFAR-10": ("rank_cnns_nasbench201", "nb201_cifar10, cifar10_test200"),
    "NAS-Bench-101, CIFAR-10": ("rank_cnns", "nb101, val_accuracy"),
    "NAS-Bench-301, CIFAR-10": ("rank_cnns", "nb301, val_accuracy"),
    "TransNAS-Bench-101 micro, class_scene": ("rank_cnns", "micro_class_scene, val_accuracy"),
    "TransNAS-Bench-101 macro, class_scene": ("rank_cnns", "macro_class_scene, val_accuracy"),
    "small ViTs trained here, Fashion-MNIST": ("train_vits", "fashion_mnist"),
    "ViTs of the six tasks, CIFAR-10": ("rank_vit_tasks", "cifar10"),
    "ViTs of the six tasks, CIFAR-10 on a sphere": ("rank_vit_tasks", "cifar10_sphere"),
    "ViTs of the six tasks, rotated Fashion-MNIST": ("rank_vit_tasks", "fashion_rotation"),
}
# Those of the README.
SHORT = (
    "ViT-Bench-101, CIFAR-100 with distillation",
    "AutoFormer-Tiny super-network, ImageNet",
    "ViT-Bench-101, CIFAR-100 from scratch",
    "NAS-Bench-201, CIFAR-10",
    "TransNAS-Bench-101 macro, class_scene",
    "ViTs of the six tasks, CIFAR-10",
)


def headline(populations: Sequence[str]) -> dict[str, Any]:
    """Spearman of the main proxies on these populations."""
    rows = []
    for population in populations:
        file, title = HEADLINE[population]
        table = table_of(f"{file}: {title}")
        names = [column["name"] for column in table["columns"]]
        found = {row[0]: dict(zip(names, row, strict=True)) for row in table["rows"]}
        proxies = ("lswag", "zico", "swap", "nwot", "params", "macs")
        rhos = [found[name]["Spearman"] for name in proxies]
        best = max(rhos)
        first, *others = (f"**{rho:.3f}**" if rho == best > 0 else rho for rho in rhos)
        given = found["lswag"]["given #params"]
        rows.append([population, f"{table['n']:,}", first, given, *others])
    names = ("", "n", "L-SWAG", "given #params", "ZiCo", "SWAP", "NASWOT", "#params", "MACs")
    return {"columns": [{"name": name} for name in names], "rows": rows}
