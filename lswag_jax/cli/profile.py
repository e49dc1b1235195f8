"""Profiles the layers of random networks and picks L-SWAG's window; no accuracies are used.

    python -m lswag_jax.cli.profile --config=configs/quickstart.py --workdir=results/profile

The working directory receives config.json, archive.jsonl, window.json (which `--config.window`
takes) and profile.png. A killed run that is started again resumes where it stopped; --shard=k/n
works as in lswag_jax.cli.score.
"""

import pathlib
import time
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from lswag_jax.cli import common, loading, pictures, progress


def main(config: ConfigDict, workdir: str, shard: Any = None) -> None:
    """Profiles as `config` says and writes the window to `workdir`, or a shard's rows alone."""
    from lswag_jax.analysis import layer_kinds, layer_profile, plots, window
    from lswag_jax.scoring import devices as distributed
    from lswag_jax.scoring.table import ScoreTable

    space, scored = loading.load_space(config), loading.score_options(config)
    kinds = pictures.formats(config.plots.format)
    pickers = {
        "runs": lambda mean: window.pick(mean, config.profile.tau),
        "hull": lambda mean: window.pick(mean, config.profile.tau, hull=True),
        "steep": window.pick_steep,
    }
    picker = config.profile.picker
    if picker not in pickers:
        raise ValueError(f"profile.picker must be one of {tuple(pickers)}, got {picker!r}.")
    pickers[picker]([0.0, 1.0])  # a bad tau is told before the work
    options = config.options.lswag
    within = loading.in_section
    with within("profile", config.profile), within("options.lswag", options):
        proxy = layer_profile.LayerProfile(
            config.profile.statistic, options.grad_abs, options.ddof, options.bins
        )
    genotypes = layer_profile.random_genotypes(space, config.profile.num, config.seed)
    start = time.perf_counter()
    batch = loading.load_data(config, space)
    seconds, timing = {"data": time.perf_counter() - start}, {}
    identity = loading.identity(config, space, (proxy,), free={"total": len(genotypes)})
    if shard:
        genotypes, workdir = shard.share(genotypes), shard.folder(workdir)
    rows = loading.score_archive(
        "profile", workdir, identity, space, genotypes, batch, (proxy,), scored, timing
    )
    if shard or not distributed.is_first():
        return
    table = ScoreTable(rows, (proxy,))
    progress.log_statuses(table)
    profile = layer_profile.aggregate(table, layer_kinds.layer_kinds(space, genotypes[0]))
    picked = pickers[picker](profile.mean)
    folder = pathlib.Path(workdir)
    window.save(folder / "window.json", picked, profile, space=space.name, picker=picker)
    where = pictures.about(space.name, config.data.source)
    pictures.save({"profile": plots.profile(profile, picked, where)}, folder, kinds)
    means = " ".join(f"{value:.3f}" for value in profile.mean)
    logging.info("%s by depth bin: %s", profile.statistic, means)
    logging.info("window: %s", "all" if picked is None else f"{picked[0]},{picked[1]}")
    progress.log_seconds(seconds | timing)
    logging.info("results in %s", folder.resolve())


def run() -> None:
    """Entry point."""
    common.run(main, __doc__, "profile", "configs/quickstart.py", shared=True)


if __name__ == "__main__":
    run()
