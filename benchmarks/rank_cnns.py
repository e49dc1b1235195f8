"""L-SWAG and the yardsticks against published accuracies of convolutional networks.

    python benchmarks/run.py rank_cnns --data=../shared/data --workdir=results/rank_cnns

Seeded genotypes of NAS-Bench-201 on batches of real CIFAR images, with every variant of L-SWAG that
`rank_cnns_report` compares; fewer of the other benchmarks. The window is picked from the layer
profile of other, random networks, without accuracies. Rows are appended as they come; a run that is
started again resumes.
"""

import argparse
import ast
import dataclasses
import json
import pathlib
import time

import numpy as np
import pyarrow.csv

import lswag_jax
from lswag_jax import data, runs, spaces
from lswag_jax.analysis import layer_profile, window
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring.table import ScoreTable

OTHERS = ("zico", "swap", "nwot", "params", "macs")


@dataclasses.dataclass(frozen=True)
class Case:
    """One population: a space, its ground truth and the images it is scored with.

    Attributes:
        space: name and arguments of the space.
        table: file of the ground truth, and the row filter (column, value) if it has several parts.
        images: file of the images.
        batch: images, and how many of them give gradients.
        num: genotypes.
    """

    space: dict
    table: str
    images: str
    batch: tuple[int, int] = (64, 64)
    num: int = 200
    only: tuple[str, str] | None = None
    full: bool = False


_NB201 = {"table": "nasbench201.csv.gz", "num": 1000, "full": True}
_MICRO = "nbsz_final_transbench101_micro.csv.gz"
_MACRO = "nbsz_early725_transbench101_macro.csv.gz"


def _transnas(kind: str, task: str) -> dict:
    return {"name": f"transnas_{kind}", "task": task, "image_size": 64, "decoder_width": 256}


CASES = {
    "nb201_cifar10": Case({"name": "nasbench201"}, images="cifar10.npz", **_NB201),
    "nb201_cifar100": Case(
        {"name": "nasbench201", "num_classes": 100}, images="cifar100.npz", **_NB201
    ),
    "nb201_in16": Case(
        {"name": "nasbench201", "num_classes": 120, "image_size": 16},
        images="cifar100.npz",
        **_NB201,
    ),
    "nb101": Case(
        {"name": "nasbench101"}, "nbsz_first500_nasbench101.csv.gz", "cifar10.npz", (32, 16)
    ),
    "nb301": Case({"name": "darts"}, "nbsz_early725_nasbench301.csv.gz", "cifar10.npz", (32, 16)),
    **{
        f"micro_{task}": Case(
            _transnas("micro", task), _MICRO, "oxford_pets.npz", (32, 16), only=("dataset", task)
        )
        for task in ("class_scene", "autoencoder", "jigsaw")
    },
    **{
        f"macro_{task}": Case(
            _transnas("macro", task), _MACRO, "oxford_pets.npz", (32, 16), only=("dataset", task)
        )
        for task in ("class_scene", "jigsaw")
    },
}


def read(case: Case, root: pathlib.Path) -> dict[str, np.ndarray]:
    """Columns of the case's table; NaN where a number is missing."""
    table = pyarrow.csv.read_csv(root / "tables" / case.table)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    if case.only:
        keep = columns[case.only[0]] == case.only[1]
        columns = {name: values[keep] for name, values in columns.items()}
    return columns


def genotype(space: spaces.Space, columns: dict[str, np.ndarray], i: int):
    """The genotype of row i."""
    if "arch_str" in columns:
        return space.parse(columns["arch_str"][i])
    return space.genotype_class.from_naslib(ast.literal_eval(str(columns["arch"][i])))


def batch_of(case: Case, space: spaces.Space, root: pathlib.Path, seed: int):
    """Inputs and labels of the space's task."""
    loaded = data.load_batch(
        str(root / "images" / case.images), case.batch[0], seed=seed, channels=3,
        image_size=case.space.get("image_size", 32), balanced=False,
    )  # fmt: skip
    if space.task.makes_labels:
        return space.task.from_images(loaded.images, seed)
    return loaded.images, loaded.labels


def variants(picked) -> list:
    """The readings of L-SWAG that Table 3 and the option grid compare, in shared passes."""
    options = {"signed": {"grad_abs": False}, "minibatch": {"var_over": "minibatch"}}
    options["minibatch_signed"] = {"var_over": "minibatch", "grad_abs": False}
    options["zico_samples"] = {"lambda_kind": "zico", "grad_abs": False}
    return [
        LSwag(label="lswag_picked", window=picked),
        LSwag(label="lswag_picked_window", window=picked, psi_range="window"),
        *(LSwag(label=f"lswag_{key}", **values) for key, values in options.items()),
    ]


def run(name: str, root: pathlib.Path, folder: pathlib.Path, arguments) -> None:
    """Scores one population, keeping every row."""
    case = CASES[name]
    columns = read(case, root)
    space = spaces.get(**case.space)
    num = min(arguments.num or case.num, len(columns["arch" if "arch" in columns else "arch_str"]))
    order = np.random.default_rng(arguments.seed).permutation(len(next(iter(columns.values()))))
    genotypes = [genotype(space, columns, i) for i in order[:num]]
    images, labels = batch_of(case, space, root, arguments.seed)
    folder.mkdir(parents=True, exist_ok=True)
    picked = pick(space, case, images, labels, folder, arguments)
    chosen = [LSwag(), *(variants(picked) if case.full else ()), *OTHERS]
    proxies = lswag_jax.proxies.resolve(chosen)
    timing: dict[str, float] = {}

    def evaluate(missing):
        return scoring.stream(
            space, missing, images, labels, proxies, seed=arguments.seed,
            gradient_batch=case.batch[1], timing=timing,
        )  # fmt: skip

    about = {"case": name, "seed": arguments.seed, "window": picked}
    began = time.perf_counter()
    with runs.Archive(folder, about) as archive:
        runs.extend(archive, 0, space, genotypes, evaluate)
        table = ScoreTable(archive, proxies)
    np.save(folder / "order.npy", order[:num])
    counts = {status: int((table.status == status).sum()) for status in set(table.status)}
    print(name, "window", picked, "status", counts, "seconds", round(time.perf_counter() - began))


def pick(space, case: Case, images, labels, folder: pathlib.Path, arguments):
    """The window of the layer profile of random networks, kept in the folder."""
    path = folder / "window.json"
    if not path.exists() and case.full:
        profile = layer_profile.profile(
            space, images, labels, n=arguments.profile, seed=arguments.seed + 1
        )
        window.save(path, window.pick(profile.mean), profile, space=space.name)
    return window.load(path) if path.exists() else None


def main() -> None:
    """Scores the populations asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/rank_cnns")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--num", type=int, default=0, help="genotypes; 0 for the case's own")
    parser.add_argument("--profile", type=int, default=60, help="networks of the layer profile")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(vars(arguments)))
    for name in arguments.cases.split(","):
        run(name, pathlib.Path(arguments.data), pathlib.Path(arguments.workdir) / name, arguments)


if __name__ == "__main__":
    main()
