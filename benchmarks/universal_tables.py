"""The tables that merges are compared on: columns of scores and what the networks reach."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import calibration
import libra_cases
import numpy as np

from lswag_jax import spaces
from lswag_jax.analysis import tables as score_tables

ORDER = ("nb201", "nb101", "nb301", "micro", "macro", "vitbench")
VITS = ("c100_kd_acc", "flower_kd_acc", "chaoyang_kd_acc")


@dataclasses.dataclass(frozen=True)
class Table:
    """One task of a space.

    Attributes:
        name, space: of the task; the space is one of `ORDER`.
        networks: texts, P of them.
        columns: scores [P] by proxy, larger is better; -inf where it failed.
        accuracy: [P], in percent where it is one.
    """

    name: str
    space: str
    networks: Sequence[str]
    columns: Mapping[str, np.ndarray]
    accuracy: np.ndarray


def own(root: pathlib.Path) -> list[Table]:
    """Tables of our own scores, with the columns that each network has."""
    found = [_own(n, calibration.cnn(n, root), n) for n in (*calibration.CNNS, "macro_jigsaw")]
    return found + [_own(target, calibration.vit(target, root), "vitbench") for target in VITS]


def _own(name: str, truth: Mapping[str, float], file: str) -> Table:
    kept = score_tables.read(calibration.SCORES / f"{file}.csv.gz")
    accuracy = np.array([truth.get(text, np.nan) for text in kept.genotypes])
    there = np.isfinite(accuracy)
    case = calibration.rank_cnns.CASES.get(file)
    space = spaces.get(**(case.space if case else {"name": "vitbench_autoformer"}))
    texts = [text for text, is_there in zip(kept.genotypes, there, strict=True) if is_there]
    columns = {m: v[there] for m, v in kept.select(kept.datasets[0]).items()}
    networks = [space.parse(text) for text in texts]
    columns["params"] = np.array([space.num_params(g) for g in networks], float)
    columns["macs"] = np.array([space.macs(g) for g in networks], float)
    columns = {m: v for m, v in columns.items() if not np.isnan(v).any()}
    return Table(name, _space_of(file), texts, columns, percent(accuracy[there]))


def public(root: pathlib.Path) -> list[Table]:
    """Tables of NAS-Bench-Suite-Zero's values; its FLOPs are called `macs`."""
    return public_of(ORDER, root)


def public_of(names: Sequence[str], root: pathlib.Path) -> list[Table]:
    """Those of some spaces."""
    found = []
    for name, case in libra_cases.CASES.items():
        if (space := _space_of(name)) not in names:
            continue
        values = libra_cases.benchmark(libra_cases.published(case, root / "tables"), case.dataset)
        columns = {"macs" if m == "flops" else m: v for m, v in values.scores.items()}
        accuracy = percent(values.accuracy)
        found.append(Table(name, space, values.genotypes, columns, accuracy))
    return found


def _space_of(name: str) -> str:
    return next(space for space in ORDER if name.startswith(space))


def percent(accuracy: np.ndarray) -> np.ndarray:
    """Accuracies in percent, where they are shares."""
    return accuracy * 100 if accuracy.min() >= 0 and accuracy.max() <= 1 else accuracy


def of_spaces(found: Iterable[Table], names: Sequence[str]) -> list[Table]:
    """The tables of some spaces."""
    return [table for table in found if table.space in names]


def shared_columns(found: Sequence[Table]) -> list[str]:
    """Columns that all tables have, by name."""
    return sorted(set.intersection(*(set(table.columns) for table in found)))
