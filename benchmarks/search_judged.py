"""Search judged by tables: regret of what random search and evolution find, by fitness.

    python benchmarks/run.py --save search_judged --data=../shared/data

No network is scored: published and kept values of whole benchmarks, and of parts of them, are
looked up. Regret is the best accuracy of the table minus that of the network that a search ends
with; its mean over seeds and a bootstrap interval. Each search looks at 200 networks, of tables
with a few hundred networks at 50. Proposals are those of `lswag_jax.search`; of a part of a space
the network of the part is taken whose genes differ the least. A fitness of which a table lacks a
column has no row. LIBRA's choice is made on another space's accuracies, by the columns that both
have. "any" is the mean regret of a network drawn at random. The figure goes to `--figure`.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.csv
import rank_vits
import tables as result_tables
import universal
import universal_tables
from universal_tables import Table

from lswag_jax import spaces
from lswag_jax.analysis import correlation, libra, plots
from lswag_jax.files import read_npz
from lswag_jax.scoring import Fitness
from lswag_jax.search import EvolutionOptions, RandomOptions, evolution, random_search

FITNESS = {
    "#params": Fitness("params"),
    "MACs": Fitness("macs"),
    "MACs + NWOT": Fitness(("macs", "nwot")),
    "L-SWAG": Fitness("lswag"),
    "L-SWAG + MACs": Fitness(("lswag", "macs")),
}
UNIVERSAL = Fitness.parse("universal")
LIBRA = "LIBRA of another space"
NUM, FEW = 200, 50  # networks a search looks at, and of a table of a few hundred
TASKS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "ImageNet16-120"}
WINDOWS = {"tiny": (5, 7), "small": (20, 26)}  # million parameters
Known = tuple[Mapping[str, float], float]  # values by column, and accuracy


class Pool(NamedTuple):
    """The networks that may be found.

    Attributes:
        name: of the table.
        space: whose proposals are taken.
        known: of a genotype its values and accuracy; None of one that the table does not have.
        listed: the genotypes of a part of a space, to which proposals are moved; none of a whole.
        columns: that each network has.
        accuracies: of all networks.
        libra: chosen on another space; None where no choice is left.
        num: networks that a search looks at.
    """

    name: str
    space: spaces.Space
    known: Callable[[Any], Known | None]
    listed: Sequence[Any]
    columns: Sequence[str]
    accuracies: np.ndarray
    libra: Fitness | None
    num: int


class Proposals:
    """A pool in the place of a space: what it draws and varies is in the pool."""

    def __init__(self, pool: Pool) -> None:
        self.space, self.known, self.listed, self.name = (
            pool.space, pool.known, pool.listed, pool.name,
        )  # fmt: skip
        self.format, self.from_json = pool.space.format, pool.space.from_json
        self.num_params, self.macs = pool.space.num_params, pool.space.macs
        self.genes = _codes(pool.listed)

    def sample(self, rng: np.random.Generator, n: int) -> list[Any]:
        """Random networks of the pool."""
        if self.listed:
            return [self.listed[i] for i in rng.integers(len(self.listed), size=n)]
        return self.space.sample(rng, n)

    def mutate(self, rng: np.random.Generator, g: Any, **options: float) -> Any | None:
        """The network of the pool that is nearest to a mutant."""
        return self._near(self.space.mutate(rng, g, **options))

    def crossover(self, rng: np.random.Generator, a: Any, b: Any) -> Any | None:
        """The network of the pool that is nearest to a child of two."""
        child = self.space.crossover(rng, a, b)
        return None if child is None else self._near(child)

    def _near(self, g: Any) -> Any | None:
        if not self.listed:
            return g if self.known(g) else None
        different = (self.genes != _codes([g])[0]).sum(1)
        return self.listed[int(np.argmin(different))]


WIDTH = 64  # places of a field of a genotype, of which the longest has 49


def _codes(genotypes: Sequence[Any]) -> np.ndarray:
    """Entries of genotypes [P, E], each field padded, so that like places line up."""
    rows = []
    for g in genotypes:
        fields = [np.ravel(value).tolist() for value in g.to_json().values()]
        rows.append([v for field in fields for v in field + [None] * (WIDTH - len(field))])
    return np.array(rows, dtype=object)


def nasbench201(root: pathlib.Path, columns: Mapping[str, np.ndarray], task: str) -> Pool:
    """All of NAS-Bench-201 on one data set; parameters and MACs are ours, NASWOT FreeREA's."""
    space = spaces.get("nasbench201")
    values = {
        "nwot": columns[f"{task}_freerea_naswot"],
        "synflow": columns[f"{task}_freerea_synflow"],
        "zen": columns[f"{task}_zen"],
    }
    values = {n: np.where(np.isfinite(v), v, -np.inf) for n, v in values.items()}
    place = {text: i for i, text in enumerate(columns["arch_str"].tolist())}
    accuracies = columns[f"{task}_test200"]

    @functools.cache
    def size(ops: tuple[str, ...]) -> dict[str, float]:  # of its operations, wherever they are
        g = space.genotype_class(ops)
        return {"params": float(space.num_params(g)), "macs": float(space.macs(g))}

    def known(g: Any) -> Known:
        i = place[space.format(g)]
        own = {name: float(value[i]) for name, value in values.items()}
        return size(tuple(sorted(g.ops))) | own, float(accuracies[i])

    names = ("params", "macs", *values)
    other = libra_of("nb301", universal_tables.public_of(("nb301",), root), names)
    return Pool(f"NAS-Bench-201, {TASKS[task]}", space, known, (), names, accuracies, other, NUM)


def nasbench101(root: pathlib.Path) -> Pool:
    """All of NAS-Bench-101, of which size alone is known."""
    space, arrays = spaces.get("nasbench101"), read_npz(root / "tables" / "nasbench101_full.npz")
    accuracies = universal_tables.percent(arrays["mean_test_acc_108"].astype(float))
    places: dict[bytes, list[int]] = {}
    for i, key in enumerate(arrays["hash4"]):
        places.setdefault(key.tobytes(), []).append(i)

    def known(g: Any) -> Known | None:
        found = places.get(bytes.fromhex(g.spec_hash()[:8]), [])
        if not found:
            return None
        params = float(space.num_params(g))
        # A few cells share the first four bytes of the hash, and differ in size.
        i = min(found, key=lambda i: abs(arrays["params_M"][i] - params / 1e6))
        return {"params": params, "macs": float(space.macs(g))}, float(accuracies[i])

    names = ("params", "macs")
    return Pool("NAS-Bench-101, all", space, known, (), names, accuracies, None, NUM)


def autoformer(root: pathlib.Path, size: str) -> Pool:
    """The sub-networks of a published super-network within a window of parameters."""
    path = root / "tables" / "autoformer_supernet_imagenet.csv"
    low, high = WINDOWS[size]
    rows = [
        row
        for row in rank_vits.load_rows(size, path, 10**6, 0)
        if low <= float(row["params_M"]) <= high
    ]
    values = {
        "params": np.array([float(row["params_M"]) for row in rows]),
        "macs": np.array([float(row["flops_M"]) for row in rows]),
    }
    accuracies = np.array([float(row["imagenet_top1_inherited"]) for row in rows])
    genotypes = [rank_vits.genotype(row) for row in rows]
    name = f"AutoFormer-{size.title()}, {low} to {high} M"
    return part(name, spaces.get(f"autoformer_{size}"), genotypes, values, accuracies, None)


def part(
    name: str,
    space: spaces.Space,
    genotypes: Sequence[Any],
    values: Mapping[str, np.ndarray],
    accuracies: np.ndarray,
    other: Fitness | None,
) -> Pool:
    """Some networks of a space, one of those that are twice."""
    place = {space.format(g): i for i, g in reversed(list(enumerate(genotypes)))}
    kept = [genotypes[i] for i in sorted(place.values())]

    def known(g: Any) -> Known | None:
        i = place.get(space.format(g))
        if i is None:
            return None
        return {n: float(v[i]) for n, v in values.items()}, float(accuracies[i])

    return Pool(name, space, known, kept, tuple(values), accuracies, other, FEW)


def of_table(name: str, table: Table, space: str, other: Fitness | None) -> Pool:
    """The networks of a table of scores."""
    own = spaces.get(space)
    genotypes = [own.parse(text) for text in table.networks]
    return part(name, own, genotypes, table.columns, table.accuracy, other)


def libra_of(space: str, found: Sequence[Table], columns: Sequence[str]) -> Fitness:
    """LIBRA's choice on the first table of a space, of the columns that it shares with another."""
    table = next(t for t in found if t.space == space)
    scores = {name: table.columns[name] for name in columns if name in table.columns}
    options = libra.PRESETS["split_half"]
    return libra.select(scores, table.accuracy, table.columns["params"], options).fitness


def regret(pool: Pool, fitness: Fitness, strategy: str, seed: int) -> float:
    """What one search loses; of networks that share the best fitness the mean."""
    proposals: Any = Proposals(pool)
    archive: list[Any] = []

    def evaluate(genotypes: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for g in genotypes:
            values, accuracy = pool.known(g) or ({}, np.nan)
            about = {"id": pool.space.format(g), "genotype": g.to_json()}
            yield about | {"values": values, "accuracy": accuracy}

    def merged(rows: Sequence[Any]) -> np.ndarray:
        names = dict.fromkeys(fitness.proxies)
        return fitness.merge({n: np.array([row["values"][n] for row in rows]) for n in names})

    if strategy == "random":
        options = RandomOptions(num=pool.num, seed=seed)
        random_search.search(proposals, evaluate, options, archive)
    else:
        size = pool.num // 10 if pool.num == NUM else pool.num // 5
        options = EvolutionOptions(
            epochs=pool.num // size - 1, population=size, select=max(size // 2, 4),
            crossover=size // 2, mutation=size // 2, seed=seed,
        )  # fmt: skip
        evolution.search(proposals, evaluate, merged, options, archive)
    scores = merged(archive)
    accuracies = np.array([row["accuracy"] for row in archive])
    return float(pool.accuracies.max() - accuracies[scores == scores.max()].mean())


def judge(pool: Pool, seeds: int) -> list[dict[str, Any]]:
    """A row of each fitness that the pool has the columns of."""
    fits = {f"{n}, universal" if f == UNIVERSAL else n: f for n, f in FITNESS.items()}
    if UNIVERSAL not in FITNESS.values():
        fits["universal"] = UNIVERSAL
    fits |= {LIBRA: pool.libra} if pool.libra else {}
    rows = []
    for name, fitness in fits.items():
        if not set(fitness.proxies) <= set(pool.columns):
            continue
        row = {"table": pool.name, "networks": len(pool.accuracies), "looked at": pool.num}
        row |= {"fitness": name, "of": universal.text_of(fitness)}
        for strategy in ("random", "evolution"):
            lost = np.array([regret(pool, fitness, strategy, seed) for seed in range(seeds)])
            row[strategy] = lost.mean()
            interval = correlation.bootstrap(lambda x: x.mean(-1), lost)
            row[f"{strategy}: 95 % interval"] = interval
        row["any"] = pool.accuracies.max() - pool.accuracies.mean()
        rows.append(row)
        print(pool.name, name, row["random"], row["evolution"], flush=True)
    return rows


def draw(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A panel a table: regret of each fitness with its interval, both strategies."""
    names = list(dict.fromkeys(row["table"] for row in rows))
    figure = plots.style.figure_of((10, 2.2 * -(-len(names) // 3)))
    grid = figure.subplots(-(-len(names) // 3), 3, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        own = [row for row in rows if row["table"] == name]
        for strategy, colour, shift in (
            ("random", plots.style.BLUE, -0.12), ("evolution", plots.style.ORANGE, 0.12),
        ):  # fmt: skip
            centre = np.array([row[strategy] for row in own])
            ends = np.array([row[f"{strategy}: 95 % interval"] for row in own]).T
            axes.errorbar(
                centre, np.arange(len(own)) + shift, xerr=np.abs(ends - centre), fmt="o",
                color=colour, markersize=4, label=strategy,
            )  # fmt: skip
        axes.set_yticks(range(len(own)), [row["fitness"] for row in own], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_title(name, fontsize=8, loc="right")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel("regret: points of accuracy lost (mean over seeds, 95 % interval)", fontsize=9)
    return figure


def main() -> None:
    """Shows the regrets and draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--figure", default="results/search_judged.png")
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.data)
    file = pyarrow.csv.read_csv(root / "tables" / "nasbench201.csv.gz")
    columns = {name: file[name].to_numpy() for name in file.column_names}
    ours, theirs = universal_tables.own(root), universal_tables.public_of(("nb101", "nb201"), root)
    shared = universal_tables.shared_columns(ours)
    scored = {t.space: t for t in ours if t.space in ("nb201", "nb101")}
    suite = next(t for t in theirs if t.space == "nb101")
    pools = [
        *(nasbench201(root, columns, task) for task in TASKS),
        nasbench101(root),
        of_table(
            "NAS-Bench-101, published scores", suite, "nasbench101",
            libra_of("nb201", theirs, tuple(suite.columns)),
        ),
        of_table(
            "NAS-Bench-201, our scores", scored["nb201"], "nasbench201",
            libra_of("nb301", ours, shared),
        ),
        of_table(
            "NAS-Bench-101, our scores", scored["nb101"], "nasbench101",
            libra_of("nb201", ours, shared),
        ),
        *(autoformer(root, size) for size in WINDOWS),
    ]  # fmt: skip
    rows = [row for pool in pools for row in judge(pool, arguments.seeds)]
    result_tables.show("regret", rows, 2)
    path = pathlib.Path(arguments.figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(draw(rows), path)
    print(path)


if __name__ == "__main__":
    main()
