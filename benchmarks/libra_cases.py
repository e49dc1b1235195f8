"""The benchmarks and tasks of the LIBRA paper's Tables 1 and 4 that public values cover."""

import dataclasses
import functools
import pathlib

import numpy as np

from lswag_jax import spaces
from lswag_jax.analysis import libra, tables
from lswag_jax.analysis.converters import convert
from lswag_jax.analysis.tables import GroundTruth, is_accuracy

NBSZ = ("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "params",
        "plain", "snip", "synflow", "zen")  # fmt: skip
AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
COVERED = 0.9  # share of our networks that a column must have
LATER = ("zen", "synflow", "epe_nas")  # of the June-2022 files, where the first files lack them


@dataclasses.dataclass(frozen=True)
class Case:
    """One column of Table 1.

    Attributes:
        space: of the networks.
        table: file with accuracies and scores.
        dataset: of the table.
        paper: rho that the paper prints for TE-NAS, T-CET, AZ-NAS and LIBRA.
        later: file with columns that the table has not, or only failed.
    """

    space: str
    table: str
    dataset: str
    paper: tuple[float, float, float, float]
    later: str = ""


def _nb201(dataset: str, *paper: float) -> Case:
    table = "nbsz_early725_nasbench201.csv.gz"
    return Case("nasbench201", table, dataset, paper, "nbsz_final_nasbench201.csv.gz")


def _micro(task: str, *paper: float) -> Case:
    table = "nbsz_early725_transbench101_micro.csv.gz"
    return Case("transnas_micro", table, task, paper, "nbsz_final_transbench101_micro.csv.gz")


def _macro(task: str, *paper: float) -> Case:
    return Case("transnas_macro", "nbsz_early725_transbench101_macro.csv.gz", task, paper)


CASES = {
    "nb201_cifar10": _nb201("cifar10", 0.70, 0.77, 0.91, 0.89),
    "nb201_cifar100": _nb201("cifar100", 0.67, 0.80, 0.90, 0.90),
    "nb201_in16": _nb201("ImageNet16-120", 0.64, 0.81, 0.89, 0.87),
    "nb101": Case(
        "nasbench101", "nbsz_first500_nasbench101.csv.gz", "cifar10", (0.12, 0.23, 0.54, 0.77)
    ),
    "nb301": Case("darts", "nbsz_early725_nasbench301.csv.gz", "cifar10", (0.37, 0.42, 0.70, 0.74)),
    "micro_autoencoder": _micro("autoencoder", -0.41, 0.31, 0.31, 0.45),
    "micro_room_layout": _micro("room_layout", 0.51, 0.34, 0.53, 0.57),
    "micro_class_object": _micro("class_object", 0.37, 0.49, 0.58, 0.61),
    "micro_class_scene": _micro("class_scene", 0.25, 0.70, 0.79, 0.79),
    "micro_jigsaw": _micro("jigsaw", 0.13, 0.54, 0.41, 0.60),
    "micro_normal": _micro("normal", 0.10, 0.46, 0.60, 0.76),
    "micro_segmentsemantic": _micro("segmentsemantic", 0.34, 0.64, 0.72, 0.87),
    "macro_class_object": _macro("class_object", 0.13, 0.49, 0.90, 0.92),
    "macro_class_scene": _macro("class_scene", 0.28, 0.63, 0.82, 0.91),
    "macro_jigsaw": _macro("jigsaw", 0.65, 0.44, 0.77, 0.82),
}
TABLE_4 = ("nb201_in16", "nb301", "micro_class_scene", "macro_class_scene")
# Rows of Table 4 with the paper's figures on TABLE_4's benchmarks.
PAIRS = {
    "gradient_free": (0.77, 0.63, 0.73, 0.89),
    "gradient_based": (0.80, 0.53, 0.73, 0.15),
    "mixed": (0.86, 0.56, 0.74, 0.22),
    "random": (0.62, 0.57, 0.41, 0.45),
    "max_ig": (0.64, 0.53, 0.62, 0.60),
    "min_ig": (0.86, 0.71, 0.77, 0.90),
}
THIRDS = {
    "none": (0.86, 0.71, 0.77, 0.90),
    "random": (0.85, 0.44, 0.72, 0.20),
    "min_bias": (0.85, 0.71, 0.79, 0.87),
    "bias_match": (0.87, 0.74, 0.79, 0.91),
}


def published(case: Case, root: pathlib.Path) -> GroundTruth:
    """Accuracies and scores of a case, one data set, without what failed everywhere."""
    space = spaces.get(case.space)
    table = _of(_converted(root / case.table, case.space), case.dataset)
    if case.later:
        there = table.metrics(case.dataset)
        later = _of(_converted(root / case.later, case.space), case.dataset)
        table, _ = table.join(later.only(name for name in LATER if name not in there), space)
    return table


@functools.cache
def _converted(path: pathlib.Path, space: str) -> GroundTruth:
    """A file holds up to seven cases and is read once."""
    return convert("nbsz_csv", path, spaces.get(space))


def _of(table: GroundTruth, dataset: str) -> GroundTruth:
    columns = {
        key: column
        for key, column in table.columns.items()
        if key[0] == dataset and (key[1] in NBSZ or is_accuracy(key[1]))
        if np.isfinite(column.values).any()
    }
    return dataclasses.replace(table, columns=columns)


def with_own(case: Case, root: pathlib.Path, scores: pathlib.Path) -> GroundTruth:
    """The networks of a table of our scores: our proxies, and the published ones that we lack.

    Of the case's files the one that has more of the networks is taken, and of all columns those
    that have nine in ten of them.
    """
    space, own = spaces.get(case.space), _covered(tables.read(scores))
    files = [published(case, root)]
    if case.later:
        files.append(_of(_converted(root / case.later, case.space), case.dataset))
    table = min(files, key=lambda t: len(own.align(t.genotypes).unmatched) - len(t))
    more = [name for name in table.metrics(case.dataset) if name not in own.metrics(case.dataset)]
    joined, _ = own.join(table.only(more), space)
    return _covered(joined).with_params(space)


def _covered(table: GroundTruth) -> GroundTruth:
    """A table without the columns that lack more than a tenth of its networks."""
    columns = {k: c for k, c in table.columns.items() if c.tried.mean() >= COVERED}
    return dataclasses.replace(table, columns=columns)


def benchmark(table: GroundTruth, dataset: str) -> libra.Benchmark:
    """The arrays of a table: its candidates are all but accuracies and AZ-NAS's parts."""
    names = [m for m in table.metrics(dataset) if not is_accuracy(m) and not m.startswith("az_")]
    if "flops" in names and "macs" in names:
        names.remove("macs")
    return libra.gather(table, dataset, "val_accuracy", {name: name for name in names})
