"""Ranking, plots and a summary of any run: finished, interrupted, or still at work.

    python -m lswag_jax.cli.report results/quickstart

Reads config.json and archive.jsonl of a run of lswag-score, lswag-search or lswag-profile, the rows
of its shards among them, or metrics.jsonl of lswag-train, and changes neither. The folder receives
ranking.csv, ranking.parquet, best.json, diagnosis.csv, plots, summary.md, and report.html, which
holds all of it in one file with tables that can be sorted; of a training curves, summary and page;
of the folder of lswag-correlate or lswag-libra summary and page, with the plots that they wrote.
"""

import datetime
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from lswag_jax.cli import common, findings, loading, pictures, progress, trust
from lswag_jax.cli.findings import Report
from lswag_jax.options import Natural, check_value

if TYPE_CHECKING:
    from lswag_jax.analysis.page import Table

METRICS = "metrics.jsonl"
METRIC_NAMES = ("loss", "top1", "top5")
TOP = 10  # networks that the summary lists
SHOWN = 1000  # networks that the page lists
CAPTIONS = {
    "best_so_far": "Fitness of each network in order of evaluation, and the best until then.",
    "front": "Two objectives, and the networks that no other one dominates.",
    "score_against_params": "Score of each network over its parameters.",
    "best_layers": "Both factors of L-SWAG in the best network, layer by layer.",
    "profile": "Mean and standard deviation of the layers of random networks over depth.",
    "training": "Loss and top-1 accuracy by epoch.",
} | findings.CAPTIONS


def main(
    workdir: str,
    out: str = "",
    by: str = "",
    own: str = "",
    format: str = "png",
    again: str = "",
    accuracies: str = "",
) -> None:
    """Reports on a run.

    Args:
        workdir: of the run.
        out: folder of the report; empty for the run's own.
        by: proxies to rank by, or a selection.json; empty for those of the run.
        own: proxies of your own that the run measured, each as module:NAME.
        format: of the plots, one or several of png, pdf and svg.
        again: folder of a run that scored the same networks once more; empty for none.
        accuracies: CSV file of accuracies of some of its networks; empty for none.
    """
    from lswag_jax.files import check_folder, write_atomically

    folder = pathlib.Path(workdir)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    kinds = pictures.formats(format, "--format")
    target = pathlib.Path(out or workdir)
    check_folder(target, "--out")
    target.mkdir(parents=True, exist_ok=True)
    asked = (by, own, again, accuracies)
    reads = _other(folder)
    if reads and any(asked):
        raise ValueError(
            f"--by, --proxies, --again and --trained are of scored networks, and {folder} has none."
        )
    found = reads(folder) if reads else _scores(folder, target, *asked)
    made = {k: v for k, v in found.figures.items() if not isinstance(v, pathlib.Path)}
    pictures.save(made, target, kinds)
    name = folder.resolve().name
    lines = [f"# {name}", "", *(f"- {fact}" for fact in found.facts), *found.lines]
    text = "\n".join(lines) + "\n"
    write_atomically(target / "summary.md", text)
    write_atomically(target / "report.html", _page(name, found))
    sys.stdout.write(text)
    logging.info("report in %s", target.resolve())


def _other(folder: pathlib.Path) -> Callable[[pathlib.Path], Report] | None:
    """What reads a folder that is not of scored networks."""
    if (folder / METRICS).is_file():
        return _training
    is_run = (folder / "config.json").is_file()
    return findings.read if findings.are_in(folder) and not is_run else None


def _page(name: str, found: Report) -> str:
    """The page of a report."""
    from lswag_jax.analysis import page

    shown = [
        page.Picture(figure, CAPTIONS.get(key, CAPTIONS["front"]))
        for key, figure in found.figures.items()
    ]
    settings = dict(_flat(found.config))
    about = page.Table("What was run", {"key": list(settings), "value": list(settings.values())})
    tables = [*found.tables, about] if settings else found.tables
    return page.render(name, found.facts, shown, tables)


def _flat(values: dict[str, Any], prefix: str = "") -> Any:
    """Keys and texts of a config, dotted where nested."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _scores(
    folder: pathlib.Path, target: pathlib.Path, by: str, own: str, again: str, accuracies: str
) -> Report:
    """Ranks the networks of an archive."""
    from lswag_jax import proxies as proxy_registry
    from lswag_jax.analysis.layer_profile import LayerProfile
    from lswag_jax.runs.reading import read_proxies, read_run, read_space
    from lswag_jax.scoring.fitness import Fitness
    from lswag_jax.scoring.table import ScoreTable
    from lswag_jax.search import Objectives, SearchResult, write_results
    from lswag_jax.search.results import first_usable
    from lswag_jax.training.supernet import InheritedAccuracy

    run = read_run(folder)
    named = (type(proxy_registry.get(name)) for name in loading.split(own))
    others = {cls.name: cls for cls in (InheritedAccuracy, LayerProfile, *named)}
    proxies = read_proxies(run.config, others)
    table = ScoreTable(run.rows, proxies)
    facts, space = _state(run, table), read_space(run.config)
    where = pictures.about(run.config["space"]["name"], run.config.get("data", {}).get("source"))
    if any(isinstance(proxy, LayerProfile) for proxy in proxies):
        return _profile(table, facts, folder, where, space)._replace(config=run.config)
    if run.config.get("search", {}).get("strategy") == "pruning":
        facts.append("of pruning: the rows are super-networks, which no ranking is made of")
        return Report(run.config, facts, {}, [], [])
    fitness = _fitness(run.config, by) or Fitness((first_usable(table),))
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
    figures = pictures.of_search(result, fitness, where, space)
    ranking = _ranking(result, fitness)
    trusted, diagnosis = trust.diagnose(table, again, target)
    lines = _top(result, fitness) + trusted + trust.predictions(result, accuracies, target)
    return Report(run.config, facts, figures, [ranking, diagnosis], lines)


def _fitness(config: dict[str, Any], by: str) -> Any:
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
    """How far a run is, and what became of its networks, a sentence each."""
    seconds = sum(row.get("seconds", 0.0) for row in run.rows)
    of = f" of {run.total:,}" if run.total else ""
    left = f", {run.total - len(table):,} to come" if run.total > len(table) else ""
    versions = ", ".join(run.config.get("versions", {})) or "before 0.2"
    lines = [
        f"{len(table):,}{of} networks of {run.config['space']['name']}{left}",
        f"scored in {datetime.timedelta(seconds=round(seconds))}, by lswag_jax {versions}",
    ]
    return [*lines, *progress.statuses(table)]


def _top(result: Any, fitness: Any) -> list[str]:
    """A table of the best networks, Markdown."""
    table = result.table
    lines = ["", f"Best by {fitness.name}:", "", "| rank | fitness | M params | M MACs | network |"]
    lines.append("|---|---|---|---|---|")
    for rank, i in enumerate(result.order[:TOP], start=1):
        row = table.rows[i]
        if "error" in row:  # whose size may be unknown
            continue
        sizes = f"{row['params'] / 1e6:.4g} | {row['macs'] / 1e6:.4g}"
        text = row["id"].replace("|", "\\|")  # which parts the columns
        lines.append(f"| {rank} | {result.fitness[i]:.6g} | {sizes} | `{text}` |")
    return lines


def _ranking(result: Any, fitness: Any) -> "Table":
    """The best networks with all their scores, for the page."""
    from scipy import stats

    from lswag_jax.analysis.page import Table

    table, shown = result.table, result.order[:SHOWN].tolist()
    ranks = stats.rankdata(-result.preference)
    columns: dict[str, list] = {
        "rank": [ranks[i] for i in shown],
        "fitness": [result.fitness[i] for i in shown],
        "params": [table.rows[i]["params"] for i in shown],
        "macs": [table.rows[i]["macs"] for i in shown],
    }
    for name in table:
        columns.setdefault(name, [table[name][i] for i in shown])
    columns["status"] = [table.status[i] for i in shown]
    if "generation" in table.rows[0]:
        columns["generation"] = [table.rows[i].get("generation") for i in shown]
    columns["network"] = [table.rows[i]["id"] for i in shown]
    more = len(table) > SHOWN
    note = f"the best {SHOWN:,} of {len(table):,}; ranking.csv has all. " if more else ""
    return Table(f"Ranking by {fitness.name}", columns, f"{note}Click a column to sort by it.")


def _profile(table: Any, facts: list[str], folder: pathlib.Path, where: str, space: Any) -> Report:
    """Plots the layers of a profile so far, and the window where one was picked."""
    from lswag_jax.analysis import layer_profile, plots, window
    from lswag_jax.analysis.layer_kinds import layer_kinds
    from lswag_jax.analysis.page import Table

    kinds = layer_kinds(space, space.from_json(table.rows[0]["genotype"])) if space else ()
    found = layer_profile.aggregate(table, kinds)
    file = folder / "window.json"
    picked = window.load(file, found.bins) if file.is_file() else None
    means = " ".join(f"{value:.3f}" for value in found.mean)
    facts.append(f"{found.statistic} by depth bin: {means}")
    columns = {"bin": range(len(found.mean)), "mean": found.mean, "std": found.std}
    columns |= {"layers": found.count} | {f"mean of {k}": v for k, v in found.kinds.items()}
    figures = {"profile": plots.profile(found, picked, where)}
    bins = Table(f"{found.statistic} over depth", columns)
    return Report({}, facts, figures, [bins], [])


def _training(folder: pathlib.Path) -> Report:
    """Plots a training so far."""
    from lswag_jax.analysis import plots
    from lswag_jax.analysis.page import Table
    from lswag_jax.runs.archive import read_rows
    from lswag_jax.runs.compare import read_config

    rows, config = read_rows(folder / METRICS)[0], read_config(folder)
    _check_training(folder, config, rows)
    for row in rows:  # a validation may be NaN, which a file has as a text
        row |= {key: float(row[key]) for key in METRIC_NAMES if key in row}
    kinds = {
        kind: [row for row in rows if row["id"].startswith(kind)] for kind in ("train", "eval")
    }
    if not kinds["train"]:
        raise ValueError(f"the training in {folder} has no metrics yet.")
    last = kinds["train"][-1]
    facts = [f"{config.get('genotype')} of {config['space']['name']}"]
    epochs = config["options"]["epochs"]
    facts.append(f"epoch {last['epoch']:.3g} of {epochs}, step {last['step']}, {_metrics(last)}")
    if kinds["eval"]:
        best = max(kinds["eval"], key=lambda row: row.get("top1", 0.0))
        facts.append(f"newest validation: {_metrics(kinds['eval'][-1])}")
        facts.append(f"best validation, epoch {best['epoch']:.3g}: {_metrics(best)}")
    names = {"eval": "Validation", "train": "Training"}
    tables = [
        Table(name, {key: [row.get(key) for row in kinds[kind]] for key in kinds[kind][0]})
        for kind, name in names.items()
        if kinds[kind]
    ]
    figures = {"training": plots.training(**kinds, about=config["space"]["name"])}
    return Report(config, facts, figures, tables, [])


def _check_training(
    folder: pathlib.Path, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Raises ValueError for files that training does not write, as of one that was edited."""
    from lswag_jax.files import JsonNumber

    where = f"{folder / 'config.json'}"
    for key in ("space", "options"):
        check_value(dict[str, Any], key, config.get(key), where)
    check_value(str, "space.name", config["space"].get("name"), where)
    check_value(Natural, "options.epochs", config["options"].get("epochs"), where)
    for row in rows:
        where = f"row {row['id']!r} of {folder / METRICS}"
        for key in ("epoch", "step"):
            check_value(float, key, row.get(key), where)
        for key in METRIC_NAMES:
            check_value(JsonNumber, key, row.get(key, 0.0), where)


def _metrics(row: dict[str, Any]) -> str:
    keys = [key for key in METRIC_NAMES if key in row]
    return ", ".join(f"{key} {row[key]:.4f}" for key in keys)


def run() -> None:
    """Entry point."""
    flags.DEFINE_string("out", "", "Folder of the report; empty for the run's own.")
    flags.DEFINE_string(
        "by", "", "Proxies to rank by, universal, or a selection.json; empty for the run's."
    )
    flags.DEFINE_string("proxies", "", "Proxies of your own that it measured, as module:NAME.")
    flags.DEFINE_string("format", "png", "Of plots made: png, pdf, svg, or several, as png,pdf.")
    flags.DEFINE_string("again", "", "Folder of a run that scored the same networks once more.")
    flags.DEFINE_string(
        "trained", "", "CSV file, columns id and accuracy, of networks you trained."
    )
    keys = ("out", "by", "proxies", "format", "again", "trained")

    def body(rest: list[str]) -> None:
        values: list[Any] = [flags.FLAGS[key].value for key in keys]
        main(rest[1], *values)

    try:
        common.start(body, _parse, __doc__ or "", {key: flags.FLAGS[key].help for key in keys})
    except KeyboardInterrupt:
        sys.exit(130)


def _parse(argv: list[str]) -> list[str]:
    """The command line, which must name one folder; a mistake ends the program with code 2."""
    argv = [arg for arg in argv if arg != "--nocompile_cache"]  # for scripts that call all binaries
    rest = common.parsed(argv)
    if len(rest) != 2:
        common.fail("give the folder of one run, for example lswag-report results/quickstart.")
    return rest


if __name__ == "__main__":
    run()
