"""Ranking, plots and a summary of any run: finished, interrupted, or still at work.

    python -m lswag_jax.cli.report results/quickstart

Reads config.json and archive.jsonl of a run of lswag-score, lswag-search or lswag-profile, the rows
of its shards among them, or metrics.jsonl of lswag-train, and changes neither. The folder receives
ranking.csv, ranking.parquet, best.json, plots and summary.md; of a training curves and a summary.
"""

import datetime
import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from lswag_jax.cli import common, pictures, progress

METRICS = "metrics.jsonl"
TOP = 10  # networks that the summary lists


def main(workdir: str, out: str = "", by: str = "", own: str = "") -> None:
    """Reports on a run.

    Args:
        workdir: of the run.
        out: folder of the report; empty for the run's own.
        by: proxies to rank by, or a selection.json; empty for those of the run.
        own: proxies of your own that the run measured, each as module:NAME.
    """
    from lswag_jax.files import write_atomically

    folder = pathlib.Path(workdir)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    target = pathlib.Path(out or workdir)
    target.mkdir(parents=True, exist_ok=True)
    trained = (folder / METRICS).is_file()
    lines = _training(folder, target) if trained else _scores(folder, target, by, own)
    text = "\n".join(lines) + "\n"
    write_atomically(target / "summary.md", text)
    sys.stdout.write(text)
    logging.info("report in %s", target.resolve())


def _scores(folder: pathlib.Path, target: pathlib.Path, by: str, own: str) -> list[str]:
    """Ranks the networks of an archive; the lines of its summary."""
    from lswag_jax import proxies as proxy_registry
    from lswag_jax.analysis.layer_profile import LayerProfile
    from lswag_jax.runs.reading import read_proxies, read_run
    from lswag_jax.scoring.fitness import Fitness
    from lswag_jax.scoring.table import ScoreTable
    from lswag_jax.search import Objectives, SearchResult, write_results
    from lswag_jax.training.supernet import InheritedAccuracy

    run = read_run(folder)
    named = (type(proxy_registry.get(name)) for name in common.split(own))
    others = {cls.name: cls for cls in (InheritedAccuracy, LayerProfile, *named)}
    proxies = read_proxies(run.config, others)
    table = ScoreTable(run.rows, proxies)
    lines = [f"# {folder.name}", "", *_state(run, table)]
    if any(isinstance(proxy, LayerProfile) for proxy in proxies):
        return lines + _profile(table, target)
    if run.config.get("search", {}).get("strategy") == "pruning":
        return [*lines, "- of pruning: the rows are super-networks, which no ranking is made of"]
    fitness = _fitness(run.config, by, table) or Fitness((proxies[0].key,))
    missing = [name for name in fitness.proxies if name not in table]
    if missing:
        raise ValueError(
            f"the run in {folder} did not measure {missing[0]}, it has {', '.join(table)}."
        )
    objectives = fitness if isinstance(fitness, Objectives) else None
    result = SearchResult(table, fitness(table), fitness.proxies, objectives)
    write_results(result, target, run.config.get("space"))
    if result.refusal:
        raise ValueError(result.refusal)
    pictures.save_all(result, fitness, target)
    return lines + _top(result, fitness)


def _fitness(config: dict[str, Any], by: str, table: Any) -> Any:
    """What to rank by: as asked for, or as the run does; None where it does not."""
    from lswag_jax.scoring.fitness import Fitness
    from lswag_jax.scoring.objectives import Objectives

    if by:
        return Fitness.parse(by)
    found = config.get("free", {}).get("fitness") or config.get("fitness")
    if found and "objectives" in found:
        return Objectives.from_json(found)
    return Fitness.from_json(found) if found else None


def _state(run: Any, table: Any) -> list[str]:
    """How far a run is, and what became of its networks."""
    seconds = sum(row.get("seconds", 0.0) for row in run.rows)
    of = f" of {run.total:,}" if run.total else ""
    left = f", {run.total - len(table):,} to come" if run.total > len(table) else ""
    versions = ", ".join(run.config.get("versions", {})) or "before 0.2"
    lines = [
        f"- {len(table):,}{of} networks of {run.config['space']['name']}{left}",
        f"- scored in {datetime.timedelta(seconds=round(seconds))}, by lswag_jax {versions}",
    ]
    return [*lines, *(f"- {text}" for text in progress.statuses(table))]


def _top(result: Any, fitness: Any) -> list[str]:
    """A table of the best networks, Markdown."""
    table = result.table
    lines = ["", f"Best by {fitness.name}:", "", "| rank | fitness | M params | M MACs | network |"]
    lines.append("|---|---|---|---|---|")
    for rank, i in enumerate(result.order[:TOP], start=1):
        row = table.rows[i]
        sizes = f"{row['params'] / 1e6:.3f} | {row['macs'] / 1e6:.1f}"
        text = row["id"].replace("|", "\\|")  # which parts the columns
        lines.append(f"| {rank} | {result.fitness[i]:.6g} | {sizes} | `{text}` |")
    return lines


def _profile(table: Any, target: pathlib.Path) -> list[str]:
    """Plots the layers of a profile so far."""
    from lswag_jax.analysis import layer_profile, plots

    found = layer_profile.aggregate(table)
    plots.save(plots.profile(found), target / "profile.png")
    means = " ".join(f"{value:.3f}" for value in found.mean)
    return [f"- {found.statistic} by depth bin: {means}"]


def _training(folder: pathlib.Path, target: pathlib.Path) -> list[str]:
    """Plots a training so far; the lines of its summary."""
    from lswag_jax.analysis import plots
    from lswag_jax.runs.archive import read_rows
    from lswag_jax.runs.compare import read_config

    rows, config = read_rows(folder / METRICS)[0], read_config(folder)
    kinds = {
        kind: [row for row in rows if row["id"].startswith(kind)] for kind in ("train", "eval")
    }
    if not kinds["train"]:
        raise ValueError(f"the training in {folder} has no metrics yet.")
    plots.save(plots.training(**kinds), target / "training.png")
    last = kinds["train"][-1]
    lines = [f"# {folder.name}", "", f"- {config['genotype']} of {config['space']['name']}"]
    epochs = config["options"]["epochs"]
    lines.append(f"- epoch {last['epoch']:.3g} of {epochs}, step {last['step']}, {_metrics(last)}")
    if kinds["eval"]:
        best = max(kinds["eval"], key=lambda row: row.get("top1", 0.0))
        lines.append(f"- newest validation: {_metrics(kinds['eval'][-1])}")
        lines.append(f"- best validation, epoch {best['epoch']:.3g}: {_metrics(best)}")
    return lines


def _metrics(row: dict[str, Any]) -> str:
    keys = [key for key in ("loss", "top1", "top5") if key in row]
    return ", ".join(f"{key} {row[key]:.4f}" for key in keys)


def run() -> None:
    """Entry point."""
    flags.DEFINE_string("out", "", "Folder of the report; empty for the run's own.")
    flags.DEFINE_string("by", "", "Proxies to rank by, or a selection.json; empty for the run's.")
    flags.DEFINE_string("proxies", "", "Proxies of your own that it measured, as module:NAME.")
    if any(arg in ("--help", "-help", "-h", "--helpfull") for arg in sys.argv[1:]):
        sys.stdout.write(f"{__doc__}\nflags:\n")
        for key in ("out", "by", "proxies"):
            sys.stdout.write(f"  --{key}: {flags.FLAGS[key].help}\n")
        sys.exit(0)
    progress.set_up_log()
    try:
        app.run(_run, flags_parser=_parse)
    except common.USER_ERRORS as error:
        common.fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(rest: list[str]) -> None:
    main(rest[1], flags.FLAGS.out, flags.FLAGS.by, flags.FLAGS.proxies)


def _parse(argv: list[str]) -> list[str]:
    """The command line, which must name one folder; a mistake ends the program with code 2."""
    argv = [arg for arg in argv if arg != "--nocompile_cache"]  # for scripts that call all binaries
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        common.fail(error)
    if len(rest) != 2:
        common.fail("give the folder of one run, for example lswag-report results/quickstart.")
    return rest


if __name__ == "__main__":
    run()
