"""Figures of what `vit_tasks` trained: how genotypes and seeds differ, what a choice explains."""

from typing import Any

import numpy as np


def accuracies(rows: list[dict[str, Any]], task: str) -> dict[str, list[float]]:
    """Accuracy with each seed by genotype."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["task"] == task:
            found.setdefault(row["genotype"], []).append(float(row["accuracy"]))
    return found


def choices(text: str) -> dict[str, float]:
    """What was chosen for a genotype, as numbers: means over the blocks where each has its own."""
    width, heads, ratios = text.split("/")
    of_blocks = {"heads": heads, "MLP ratio": ratios}
    means = {k: float(np.mean([float(x) for x in v.split(",")])) for k, v in of_blocks.items()}
    return {"width": float(width), "depth": heads.count(",") + 1.0} | means


def explained(numbers: np.ndarray, accuracy: np.ndarray) -> float:
    """Share of the variance of accuracies [P] that a linear function of numbers [P] explains."""
    if numbers.std() == 0 or accuracy.std() == 0:
        return 0.0
    return float(np.corrcoef(numbers, accuracy)[0, 1] ** 2)


def summary(rows: list[dict[str, Any]]) -> tuple[list[dict], list[dict]]:
    """Rows by task: how genotypes and seeds differ, and what each choice explains alone."""
    spread, shares = [], []
    params = {row["genotype"]: float(row["params"]) for row in rows}
    for task in dict.fromkeys(row["task"] for row in rows):
        found = {k: v for k, v in accuracies(rows, task).items() if np.isfinite(v).all()}
        mean = np.array([np.mean(values) for values in found.values()])
        twice = [values for values in found.values() if len(values) > 1]
        seeds = float(np.sqrt(np.var(twice, axis=1, ddof=1).mean())) if twice else None
        spread.append(
            {
                "task": task,
                "networks": len(found),
                "with two seeds": len(twice),
                "lowest": mean.min(),
                "highest": mean.max(),
                "between genotypes": mean.std(ddof=1) if len(mean) > 1 else None,
                "between seeds": seeds,
            }
        )
        columns = {k: [choices(text)[k] for text in found] for k in choices(next(iter(found)))}
        columns["log #params"] = [np.log(params[text]) for text in found]
        shares.append(
            {"task": task} | {k: explained(np.array(v), mean) for k, v in columns.items()}
        )
    return spread, shares
