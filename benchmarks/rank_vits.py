"""L-SWAG and the yardsticks against published accuracies of AutoFormer networks.

    python benchmarks/run.py rank_vits --data=../shared/data --workdir=results/rank_vits

Three populations of 100: ViT-Bench-101 (CIFAR-100 images) and seeded rows of the tiny and small
super-network tables (Oxford-IIIT Pet images), all at 224 px, 64 images for patterns and 16 for
gradients. The window is picked from the layer profile of other, random networks, without
accuracies. Rows are appended as they come; a run that is started again resumes.
"""

import argparse
import ast
import csv
import json
import pathlib

import numpy as np
import tables

import lswag_jax
from lswag_jax import data, runs
from lswag_jax.analysis import layer_profile, window
from lswag_jax.analysis import report as correlation_report
from lswag_jax.proxies import LSwag
from lswag_jax.scoring import population as scoring
from lswag_jax.scoring.table import ScoreTable

GRADIENT_BATCH, PATTERN_BATCH = 16, 64
CASES = {
    "vitbench": ("vitbench_autoformer", "vitbench101_autoformer.csv", "cifar100.npz"),
    "tiny": ("autoformer_tiny", "autoformer_supernet_imagenet.csv", "oxford_pets.npz"),
    "small": ("autoformer_small", "autoformer_supernet_imagenet.csv", "oxford_pets.npz"),
}
VITBENCH_TARGETS = (
    "c100_base_acc", "c100_kd_acc", "flower_base_acc", "flower_kd_acc", "chaoyang_base_acc",
    "chaoyang_kd_acc",
)  # fmt: skip


def load_rows(case: str, path: pathlib.Path, num: int, seed: int) -> list[dict[str, str]]:
    """Rows of a table: all of ViT-Bench-101, a seeded choice of a super-network's."""
    with open(path) as file:
        rows = [row for row in csv.DictReader(file) if row.get("space", case) == case]
    if len(rows) <= num:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), num, replace=False)
    return [rows[i] for i in chosen]


def genotype(row: dict[str, str]) -> lswag_jax.spaces.AutoFormerGenotype:
    """The genotype of a table's row."""
    dim = row.get("hidden_dim") or row["embed_dim"]
    heads, ratios = (ast.literal_eval(row[key]) for key in ("num_heads", "mlp_ratio"))
    return lswag_jax.spaces.AutoFormerGenotype(dim, heads, ratios)


def targets(case: str, rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """Accuracies to correlate with; NaN for the failed run of ViT-Bench-101's row 9."""
    names = VITBENCH_TARGETS if case == "vitbench" else ("imagenet_top1_inherited",)
    found = {name: np.array([float(row[name]) for row in rows]) for name in names}
    if case == "vitbench":
        found["flower_kd_acc"][[row["index"] == "9" for row in rows]] = np.nan
    return found


def pick_window(space, batch, folder: pathlib.Path, num: int, seed: int):
    """The window of the layer profile of random networks, kept in the folder."""
    path = folder / "window.json"
    if not path.exists():
        profile = layer_profile.profile(
            space, batch.images[:GRADIENT_BATCH], batch.labels[:GRADIENT_BATCH], n=num, seed=seed
        )
        window.save(path, window.pick(profile.mean), profile, space=space.name)
    return window.load(path)


def run_case(case: str, root: pathlib.Path, folder: pathlib.Path, arguments) -> None:
    """Scores one population and prints its tables."""
    name, table_name, images_name = CASES[case]
    rows = load_rows(case, root / "tables" / table_name, arguments.num, arguments.seed)
    batch = data.load_batch(
        str(root / "images" / images_name), PATTERN_BATCH, seed=arguments.seed, channels=3,
        image_size=224, balanced=False,
    )  # fmt: skip
    space = lswag_jax.spaces.get(name, num_classes=batch.num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    picked = pick_window(space, batch, folder, arguments.profile, arguments.seed)
    print(f"\n## {case}: {len(rows)} networks, {batch.source}, picked window {picked}", flush=True)
    proxies = lswag_jax.proxies.resolve(
        [
            LSwag(),
            LSwag(label="lswag_picked", window=picked),
            *("lswag_kernel", "zico", "swap", "nwot", "params", "macs"),
        ]
    )
    genotypes = [genotype(row) for row in rows]

    def evaluate(missing):
        return scoring.stream(
            space, missing, batch.images, batch.labels, proxies, seed=arguments.seed,
            gradient_batch=GRADIENT_BATCH,
        )  # fmt: skip

    about = {"case": case, "seed": arguments.seed, "window": picked}
    with runs.Archive(folder, about) as archive:
        runs.extend(archive, 0, space, genotypes, evaluate)
        report(case, ScoreTable(archive, proxies), targets(case, rows))


def report(case: str, table: ScoreTable, truths: dict[str, np.ndarray]) -> None:
    """Shows correlations with every target."""
    parts = table.parts["lswag"]
    scores = {name: table.values(name) for name in ("lswag", "lswag_picked")}
    scores |= {"Lambda (all)": parts["lambda"], "Psi": parts["psi"]}
    scores["Lambda (picked)"] = table.parts["lswag_picked"]["lambda"]
    others = ("lswag_kernel", "zico", "swap", "nwot", "params", "macs")
    scores |= {name: table.values(name) for name in others}
    statuses = {name: int((status != "ok").sum()) for name, status in table.statuses.items()}
    print(
        "not ok:", statuses, " seconds each:", round(float(np.median(table.column("seconds"))), 2)
    )
    for target, truth in truths.items():
        known = np.isfinite(truth)
        rows = correlation_report.summary(
            {name: value[known] for name, value in scores.items()},
            truth[known],
            table.column("params")[known],
        )
        shown = [tables.correlations(row) for row in rows]
        tables.show(f"{case}, {target}", shown, tables.INTERVAL, int(known.sum()))
        best = window.oracle(
            parts["lambda_l"][known], parts["bins"][known], parts["psi"][known], truth[known]
        )
        print(
            f"\noracle window (uses these labels): {best.window}, rho {best.rho:.3f}; all layers "
            f"{best.rho_all:.3f}",
            flush=True,
        )


def main() -> None:
    """Runs the populations asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--workdir", default="results/rank_vits")
    parser.add_argument("--cases", default="vitbench,tiny,small")
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--profile", type=int, default=20, help="networks of the layer profile")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(vars(arguments)))
    for case in arguments.cases.split(","):
        folder = pathlib.Path(arguments.workdir) / case
        run_case(case, pathlib.Path(arguments.data), folder, arguments)


if __name__ == "__main__":
    main()
