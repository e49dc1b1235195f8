"""A merge without labels: chosen once on half of the spaces, read once on the other half.

    python benchmarks/run.py --save universal --data=../shared/data

No network is scored: our kept scores (`benchmarks/scores/`) and the values that
NAS-Bench-Suite-Zero published decide, each by itself. What follows was written down and committed
before the first run.

Halves. Whole spaces, by turns from one list, that of `calibration` with the vision transformers
last: NAS-Bench-201, -101, -301, TransNAS micro, macro, ViT-Bench-101. The first, third and fifth
are the development half, the second, fourth and sixth are held out, of both kinds of values. It
is not blind: rho of single proxies and of some pairs had been looked at on all tables before.

Merges. One to four of the columns that every table of the development half has (of ours those that
every table of ours has), as they are oriented, by four rules of `proxies.merge`: the sum of log
ranks (AZ-NAS's), the mean rank, the smallest rank, and the sum of standardised values (a geometric
mean of these does not exist, as half of them are negative; that of ranks is the first rule).

Choice. Of each number of columns and rule: with one space left out, the merge with the best mean
over the other spaces that is nowhere more than .02 below #params there, read on the space left out.
The fewest columns, then the earliest rule, within .01 of the best such mean are taken, and of
these merges the best on the whole half, under the same condition.

Preset. `fitness="universal"` is the merge chosen on our scores if its held-out mean is above those
of MACs + NWOT and of L-SWAG + MACs; else the one chosen on public values if its held-out mean is
above that of MACs + NWOT there; else MACs + NWOT, the simplest of them.
"""

import argparse
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import libra_cases
import numpy as np
import tables as result_tables
from universal_tables import ORDER, Table, of_spaces, own, public, shared_columns

from lswag_jax.analysis import correlation, correlation_parts, libra
from lswag_jax.scoring import Fitness

DEVELOPMENT, HELD_OUT = ORDER[::2], ORDER[1::2]
RULES = ("log_rank_sum", "rank_sum", "min_rank", "z_sum")
MOST = 4  # columns of a merge
BELOW = 0.02  # how far a merge may be below #params on a table
NEAR = 0.01  # of left-out means, within which fewer columns are better
RESAMPLES = 400
YARDSTICKS = {
    "#params": Fitness("params"),
    "MACs": Fitness("macs"),
    "MACs + NWOT": Fitness(("macs", "nwot")),
    "L-SWAG + MACs": Fitness(("lswag", "macs")),
    "AZ-NAS's merge": Fitness(libra_cases.AZ_NAS),
}
LIBRA = "LIBRA, split halves (uses labels)"
# Columns of a merge that the tables of a space lack, and do without: the published NWOT, and a
# measure that vision transformers do not have.
LACKING = {("nb101", "nwot"), ("vitbench", "az_progressivity")}


def merges(columns: Sequence[str]) -> list[Fitness]:
    """Every set of one to four columns by every rule; of one column alone the rule is no matter."""
    sets = [s for k in range(1, MOST + 1) for s in itertools.combinations(columns, k)]
    return [Fitness(s, rule) for s in sets for rule in RULES if len(s) > 1 or rule == RULES[0]]


def merged(fitness: Fitness, table: Table) -> np.ndarray | None:
    """Scores [P] by the columns that the table has; None where it lacks one that it must have."""
    there = tuple(name for name in fitness.proxies if name in table.columns)
    lacking = {(table.space, name) for name in fitness.proxies} - {(table.space, n) for n in there}
    if not there or not lacking <= LACKING:
        return None
    return Fitness(there, fitness.rule).merge(table.columns)


def rhos(found: Sequence[Table], candidates: Sequence[Fitness]) -> np.ndarray:
    """Spearman's rho [M, T]; NaN where a table lacks a column."""
    rho = np.full((len(candidates), len(found)), np.nan)
    for t, table in enumerate(found):
        scores = {m: merged(fitness, table) for m, fitness in enumerate(candidates)}
        known = {m: values for m, values in scores.items() if values is not None}
        if known:
            values_MxP = np.array(list(known.values()))
            accuracy = np.broadcast_to(table.accuracy, values_MxP.shape)
            rho[list(known), t] = correlation.spearman(values_MxP, accuracy)
    return rho


def mean_of_spaces(rho: np.ndarray, found: Sequence[Table]) -> np.ndarray:
    """Mean over spaces [...] of the mean over each one's tables [..., T]."""
    names = np.array([table.space for table in found])
    parts = [rho[..., names == name].mean(-1) for name in dict.fromkeys(names.tolist())]
    return np.mean(parts, axis=0)


def best(rho: np.ndarray, size: np.ndarray, found: Sequence[Table]) -> tuple[int, bool]:
    """The merge with the best mean that is nowhere far below #params, and whether there is one.

    Args:
        rho: of the merges [M, T].
        size: of #params [T].
        found: the tables.
    """
    allowed = (rho - size).min(1) >= -BELOW
    mean = mean_of_spaces(rho, found)
    return int(np.argmax(np.where(allowed | ~allowed.any(), mean, -np.inf))), bool(allowed.any())


def left_out(
    rho: np.ndarray, size: np.ndarray, found: Sequence[Table], own_class: np.ndarray
) -> float:
    """Mean over spaces of what the best of a class on the other spaces has on the one left out."""
    names, means = np.array([table.space for table in found]), []
    for name in dict.fromkeys(names.tolist()):
        rest = names != name
        others = [table for table in found if table.space != name]
        chosen, _ = best(rho[own_class][:, rest], size[rest], others)
        means.append(rho[own_class][chosen, ~rest].mean())
    return float(np.mean(means))


def choose(found: Sequence[Table], candidates: Sequence[Fitness]) -> tuple[Fitness, list[dict]]:
    """The merge of the development half, and the left-out means by which its class was taken."""
    rho = rhos(found, candidates)
    size = rhos(found, [YARDSTICKS["#params"]])[0]
    classes = {
        (k, rule): np.array(
            [len(f.proxies) == k and (rule == f.rule or k == 1) for f in candidates]
        )
        for k in range(1, MOST + 1)
        for rule in RULES
    }
    classes = {key: own_class for key, own_class in classes.items() if own_class.any()}
    means = {key: left_out(rho, size, found, own_class) for key, own_class in classes.items()}
    good = [key for key, mean in means.items() if mean >= max(means.values()) - NEAR]
    own_class = np.flatnonzero(classes[good[0]])  # of the fewest columns, by the earliest rule
    chosen, _ = best(rho[own_class], size, found)
    rows = [
        {"columns": k} | {rule: means.get((k, rule)) for rule in RULES} for k in range(1, MOST + 1)
    ]
    return candidates[own_class[chosen]], rows


def resampled(found: Sequence[Table], scores: np.ndarray) -> np.ndarray:
    """Rho [R, M, T] of resamples: the networks of a space are drawn together for all its tables.

    Args:
        found: the tables.
        scores: [T] of arrays [M, P].
    """
    rng, values = np.random.default_rng(0), []
    draws: dict[str, tuple[dict[str, int], np.ndarray]] = {}
    for table, scores_MxP in zip(found, scores, strict=True):
        if table.space not in draws:
            texts = dict.fromkeys(
                text for t in found if t.space == table.space for text in t.networks
            )
            place = {text: i for i, text in enumerate(texts)}
            draws[table.space] = place, rng.integers(len(place), size=(RESAMPLES, len(place)))
        place, drawn = draws[table.space]
        index = np.full(len(place), -1)
        index[[place[text] for text in table.networks]] = np.arange(len(table.networks))
        rows = []
        for draw in drawn:
            at = index[draw]
            at = at[at >= 0]  # a task may lack some of its space's networks
            accuracy = np.broadcast_to(table.accuracy[at], (len(scores_MxP), len(at)))
            rows.append(correlation.spearman(scores_MxP[:, at], accuracy))
        values.append(rows)
    return np.moveaxis(np.array(values), 0, -1)


def half(
    found: Sequence[Table], chosen: Fitness, fits: Mapping[str, Fitness]
) -> tuple[list[dict], list[dict]]:
    """Rows of each merge: its rho on each table, and what it is worth together.

    Args:
        found: the tables of a half.
        chosen: what "chosen" is.
        fits: the others by name. One that some tables lack a column of has no second row.
    """
    named = {"chosen": chosen, **fits}
    rho = dict(zip(named, rhos(found, list(named.values())), strict=True))
    whole = [name for name in named if not np.isnan(rho[name]).any()]
    scores = [np.array([merged(named[name], table) for name in whole]) for table in found]
    drawn_RxMxT = resampled(found, scores)
    means = dict(zip(whole, mean_of_spaces(drawn_RxMxT, found).T, strict=True))
    size, rows = whole.index("#params"), []
    for m, name in enumerate(whole):
        margin = rho[name] - rho["#params"]
        worst = int(np.argmin(margin))
        of_worst = drawn_RxMxT[:, m, worst] - drawn_RxMxT[:, size, worst]
        row = {"merge": name, "mean of spaces": float(mean_of_spaces(rho[name], found))}
        row |= {"95 % interval": _interval(means[name])}
        is_size = m == size
        more = float(mean_of_spaces(rho[name] - rho["#params"], found))
        row |= {
            "minus #params": None if is_size else more,
            "95 % interval of it": None if is_size else _interval(means[name] - means["#params"]),
        }
        less, its = None, None
        if name != "chosen" and "chosen" in means:
            less = float(mean_of_spaces(rho["chosen"] - rho[name], found))
            its = _interval(means["chosen"] - means[name])
        row |= {"chosen minus it": less, "its interval": its}
        row |= {
            "worst margin to #params": None if is_size else float(margin[worst]),
            "where": None if is_size else found[worst].name,
            "that margin's interval": None if is_size else _interval(of_worst),
        }
        rows.append(row | _more([s[m] for s in scores], found, is_size=is_size))
    each = [_bare(n, text_of(f), found, rho[n]) for n, f in named.items() if not _none(rho[n])]
    return [*each, _libra(found)], rows


def _none(rho: np.ndarray) -> bool:
    return bool(np.isnan(rho).all())


def _bare(name: str, of: str, found: Sequence[Table], rho: np.ndarray) -> dict:
    """A row of rho on each table, where it is known."""
    row: dict = {"merge": name, "of": of}
    row |= {t.name: None if np.isnan(r) else float(r) for t, r in zip(found, rho, strict=True)}
    mean = mean_of_spaces(rho, found)
    return row | {"mean of spaces": None if np.isnan(mean) else float(mean)}


def text_of(fitness: Fitness) -> str:
    """The columns of a merge and its rule."""
    rule = "" if len(fitness.proxies) == 1 else f" ({fitness.rule})"
    return f"{', '.join(fitness.proxies)}{rule}"


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _more(scores: Sequence[np.ndarray], found: Sequence[Table], is_size: bool) -> dict:
    """Means over spaces of nDCG of the best tenth, and of rho given #params."""
    gains, given = [], []
    for values, table in zip(scores, found, strict=True):
        y = table.accuracy
        y = y - min(y.min(), 0.0)  # some tasks have negative values, which nDCG cannot take
        gains.append(correlation_parts.ndcg(values, y, max(len(y) // 10, 1)))
        params = table.columns["params"]
        given.append(correlation.partial_spearman(values, table.accuracy, params))
    return {
        "nDCG@10 %": float(mean_of_spaces(np.array(gains), found)),
        "given #params": None if is_size else float(mean_of_spaces(np.array(given), found)),
    }


def _libra(found: Sequence[Table]) -> dict:
    """LIBRA's rho on halves of each table that it was not chosen on."""
    rho = []
    for table in found:
        scores = {n: v for n, v in table.columns.items() if not n.startswith(("az_", "te_nas"))}
        options = libra.PRESETS["split_half"]
        result = libra.evaluate(scores, table.accuracy, table.columns["params"], options)
        rho.append(np.mean(result.split_half))
    return _bare(LIBRA, "another choice on each table", found, np.array(rho))


def hindsight(found: Sequence[Table], candidates: Sequence[Fitness], chosen: Fitness) -> list[dict]:
    """What looking at all tables would have chosen, which nobody can."""
    rho, size = rhos(found, candidates), rhos(found, [YARDSTICKS["#params"]])[0]
    known = np.flatnonzero(~np.isnan(rho).any(1))  # on every table
    rho, candidates = rho[known], [candidates[m] for m in known.tolist()]
    mean, margin = mean_of_spaces(rho, found), (rho - size).min(1)
    picks = {
        "best mean": int(np.argmax(mean)),
        f"best mean, nowhere more than {BELOW} below #params": best(rho, size, found)[0],
        "best worst margin": int(np.argmax(margin)),
    }
    if chosen in candidates:
        picks["the chosen"] = candidates.index(chosen)
    return [
        {"in hindsight": name, "of": text_of(candidates[m]), "mean of spaces": float(mean[m]),
         "worst margin to #params": float(margin[m])}
        for name, m in picks.items()
    ]  # fmt: skip


def judge(
    kind: str, found: list[Table], candidates: Sequence[Fitness]
) -> tuple[Fitness, dict[str, float]]:
    """Chooses, reads and shows one kind of values; the choice, and held-out means by merge."""
    development, held_out = of_spaces(found, DEVELOPMENT), of_spaces(found, HELD_OUT)
    chosen, rows = choose(development, candidates)
    result_tables.show(f"{kind}, left out", rows, 3, len(development))
    singles = [Fitness(name) for name in shared_columns(development)]
    single = singles[int(np.argmax(mean_of_spaces(rhos(development, singles), development)))]
    fits = {**YARDSTICKS, "best single proxy of the development half": single}
    for name, tables in (("development", development), ("held-out", held_out)):
        each, together = half(tables, chosen, fits)
        result_tables.show(f"{kind}, {name} half", each, 3, len(tables))
        result_tables.show(f"{kind}, {name} half together", together, 3, len(tables))
    result_tables.show(f"{kind}, in hindsight", hindsight(found, candidates, chosen))
    return chosen, {row["merge"]: row["mean of spaces"] for row in together}


def preset(
    ours: tuple[Fitness, Mapping[str, float]], theirs: tuple[Fitness, Mapping[str, float]]
) -> Fitness:
    """The merge that the rule makes the preset, from both choices and their held-out means."""
    rivals = (("MACs + NWOT", "L-SWAG + MACs"), ("MACs + NWOT",))
    for (chosen, means), names in zip((ours, theirs), rivals, strict=True):
        if means.get("chosen", -np.inf) > max(means[name] for name in names):
            return chosen
    return YARDSTICKS["MACs + NWOT"]


def main() -> None:
    """Judges our own scores and the public values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    root = pathlib.Path(parser.parse_args().data)
    ours, theirs = own(root), public(root)
    by_ours = judge("own", ours, merges(shared_columns(ours)))
    columns = shared_columns(of_spaces(theirs, DEVELOPMENT))
    by_theirs = judge("public", theirs, merges(columns))
    figures = {
        "chosen on our scores": text_of(by_ours[0]),
        "chosen on public values": text_of(by_theirs[0]),
        "preset by the rule": text_of(preset(by_ours, by_theirs)),
        "`universal` of the package": text_of(Fitness.parse("universal")),
    }
    result_tables.show_figures("preset", figures)


if __name__ == "__main__":
    main()
