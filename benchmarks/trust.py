"""What a score says of itself against what accuracies say: stability and true rho.

    python benchmarks/run.py --save trust --data=../shared/data

NAS-Bench-Suite-Zero published values of the same networks more than once, measured by other seeds
("early725", "first500" and "final"). Of each proxy and data set: Spearman of the two measurements
(stability), and of the first with the accuracies (rho). No network is scored here.
"""

import argparse
import itertools
import pathlib

import numpy as np
import pyarrow.csv
import tables

from lswag_jax.analysis.correlation import spearman

SPACES = ("nasbench201", "transbench101_micro")
DRAWS = ("first500", "early725", "final")
PROXIES = (
    "epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "plain", "snip",
    "synflow",
)  # fmt: skip
FEWEST = 100  # networks that both draws have
SHAKY, STABLE = 0.7, 0.9


def read(path: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Of each network, by data set and genotype, a number for each column (NaN for none).

    -1e8 is a failure.
    """
    table = pyarrow.csv.read_csv(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    found: dict[str, dict] = {}
    for i, key in enumerate(zip(columns["dataset"], map(str, columns["arch"]), strict=True)):
        values = {name: columns[name][i] for name in (*PROXIES, "val_accuracy") if name in columns}
        found[key] = {n: np.nan if v is None or v <= -1e7 else float(v) for n, v in values.items()}
    return found


def rows_of(space: str, root: pathlib.Path) -> list[dict]:
    """A row of each proxy, data set and pair of draws with enough networks in common."""
    paths = {draw: root / "tables" / f"nbsz_{draw}_{space}.csv.gz" for draw in DRAWS}
    draws = {draw: read(path) for draw, path in paths.items() if path.exists()}
    rows = []
    for (a, first), (b, second) in itertools.combinations(draws.items(), 2):
        common = first.keys() & second.keys()
        for dataset in sorted({key[0] for key in common}):
            keys = sorted(key for key in common if key[0] == dataset)
            truth = np.array([first[key]["val_accuracy"] for key in keys])
            for proxy in PROXIES:
                x, y = (np.array([d[k].get(proxy, np.nan) for k in keys]) for d in (first, second))
                both = np.isfinite(x) & np.isfinite(y) & np.isfinite(truth)
                if both.sum() < FEWEST:
                    continue
                stability, rho = spearman(x[both], y[both]), spearman(x[both], truth[both])
                rows.append(
                    {
                        "data": f"{space}, {dataset}", "draws": f"{a}, {b}", "proxy": proxy,
                        "networks": int(both.sum()), "stability": stability,
                        "ceiling": float(np.sqrt(max(stability, 0.0))), "rho": rho,
                    }
                )  # fmt: skip
    return rows


def main() -> None:
    """Shows the figures by stability, and every proxy's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    root = pathlib.Path(parser.parse_args().data)
    rows = [row for space in SPACES for row in rows_of(space, root)]
    stability, ceiling, rho = (
        np.array([r[k] for r in rows]) for k in ("stability", "ceiling", "rho")
    )
    size = np.abs(rho)
    groups = {
        f"under {SHAKY} (do not trust it)": stability < SHAKY,
        f"{SHAKY} to {STABLE} (somewhat noisy)": (stability >= SHAKY) & (stability < STABLE),
        f"from {STABLE} (stable)": stability >= STABLE,
    }
    shown = [
        {
            "stability": name, "entries": int(own.sum()),
            "absolute rho: median": float(np.median(size[own])),
            "least": float(size[own].min()), "most": float(size[own].max()),
            "within the ceiling": float((size <= ceiling)[own].mean()),
        }
        for name, own in groups.items() if own.any()
    ]  # fmt: skip
    tables.show("by stability", shown, 2, len(rows))
    figures = {
        "entries (proxy, data set, pair of draws)": len(rows),
        "Spearman of stability and absolute rho": spearman(stability, size),
        "Spearman of stability and absolute rho, one mean a proxy": spearman(
            *(_by_proxy(rows, values) for values in (stability, size))
        ),
        "share with absolute rho within the ceiling": float((size <= ceiling).mean()),
        "largest excess over it": float((size - ceiling).max()),
    }
    tables.show_figures("together", figures)
    tables.show("each", rows, 3, len(rows))


def _by_proxy(rows: list[dict], values: np.ndarray) -> np.ndarray:
    """Means over the entries of a proxy."""
    names = np.array([row["proxy"] for row in rows])
    return np.array([values[names == name].mean() for name in np.unique(names)])


if __name__ == "__main__":
    main()
