"""The binary that correlates: results, a join with scores, and one sentence for a mistake."""

import csv

import numpy as np
import pytest
from scipy import stats

from lswag_jax import proxies, spaces
from lswag_jax.analysis.tables import GroundTruth, Records
from lswag_jax.cli import correlate
from lswag_jax.cli.default_config import default_config
from lswag_jax.scoring.table import ScoreTable
from tests.helpers.binaries import run

SPACE = spaces.get("nasbench201")
GENOTYPES = list(dict.fromkeys(SPACE.sample(np.random.default_rng(0), 60)))[:50]
TEXTS = [SPACE.format(g) for g in GENOTYPES]


def column(values, metric, dataset="cifar10", texts=TEXTS):
    return Records(dataset, metric, texts, np.asarray(values, float), "made in a test")


def truth(rng, **more):
    """Accuracies of two data sets that go with a proxy, and further columns."""
    proxy = rng.normal(size=50)
    records = [column(proxy, "nwot", d) for d in ("cifar10", "cifar100")]
    for dataset, noise in (("cifar10", 0.3), ("cifar100", 1.0)):
        accuracy = 90 + proxy + noise * rng.normal(size=50)
        records.append(column(accuracy, "val_accuracy", dataset))
    records += [column(values, metric) for metric, values in more.items()]
    return GroundTruth.from_records(records)


def settings(path, **options):
    config = default_config("nasbench201")
    config.correlate.update({"truth": str(path), "resamples": 50} | options)
    return config


def rows_of(folder):
    with open(folder / "correlation.csv") as file:
        return {(row["dataset"], row["proxy"]): row for row in csv.DictReader(file)}


def test_a_table_by_itself(rng, tmp_path):
    flat = np.where(np.arange(50) < 45, 1.0, np.nan)
    table = truth(rng, flat=flat, synflow=np.where(np.arange(50) < 5, -1e8, rng.normal(size=50)))
    table.write(tmp_path / "truth.csv.gz")
    correlate.main(settings(tmp_path / "truth.csv.gz"), str(tmp_path / "out"))
    names = {"correlation.csv", "correlation.parquet", "heat_map.png", "averages.png"}
    names |= {"ranks.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    rows = rows_of(tmp_path / "out")
    # Parameter counts are the space's; what only one data set has is reported for it alone.
    assert set(rows) == {
        ("cifar10", "nwot"), ("cifar100", "nwot"), ("cifar10", "params"), ("cifar100", "params"),
        ("cifar10", "flat"), ("cifar10", "synflow"),
    }  # fmt: skip
    row = rows["cifar10", "nwot"]
    arrays = (table.values("cifar10", m) for m in ("nwot", "val_accuracy"))
    expected = stats.spearmanr(*arrays)
    assert float(row["rho"]) == pytest.approx(expected.statistic)
    assert float(row["rho_low"]) < float(row["rho"]) < float(row["rho_high"])
    assert float(row["gain_low"]) > 0  # more than parameters alone
    assert (rows["cifar10", "synflow"]["failures"], rows["cifar10", "synflow"]["n"]) == ("5", "50")
    assert rows["cifar10", "flat"]["undefined"] == "true"
    assert (rows["cifar10", "flat"]["missing"], rows["cifar10", "flat"]["n"]) == ("5", "45")


def score_run(folder, values, genotypes=GENOTYPES):
    """What `lswag-score` leaves of NASWOT."""
    folder.mkdir()
    rows = [
        {"id": SPACE.format(g), "genotype": g.to_json(), "params": SPACE.num_params(g),
         "macs": SPACE.macs(g), "seconds": 0.0, "degenerate": [False],
         "parts": {"nwot": {"score": [value]}}}
        for g, value in zip(genotypes, values, strict=True)
    ]  # fmt: skip
    ScoreTable(rows, proxies.resolve(["nwot", "params", "macs"])).to_parquet(
        folder / "scores.parquet"
    )


def test_scores_join_the_truth(rng, tmp_path):
    """Scores of a run on all data sets, or of a run for each; published columns do not disturb."""
    table = truth(rng)
    table.write(tmp_path / "truth.parquet")
    ours = rng.normal(size=50)
    ours[0] = np.nan  # a failure
    score_run(tmp_path / "a", ours)
    score_run(tmp_path / "b", ours[:20], GENOTYPES[:20])
    path, out = tmp_path / "truth.parquet", tmp_path / "out"
    correlate.main(settings(path, scores=str(tmp_path / "a")), str(out))
    rows = rows_of(out)
    assert {key[1] for key in rows} == {"nwot", "params", "macs"}
    accuracy = table.values("cifar100", "val_accuracy")
    worst = np.where(np.isnan(ours), -10, ours)
    row = rows["cifar100", "nwot"]
    assert float(row["rho"]) == pytest.approx(stats.spearmanr(worst, accuracy).statistic)
    assert row["failures"] == "1"
    each = f"cifar10={tmp_path / 'a'},cifar100={tmp_path / 'b' / 'scores.parquet'}"
    correlate.main(settings(path, scores=each, nan_policy="drop"), str(out))
    rows = rows_of(out)
    assert (rows["cifar10", "nwot"]["n"], rows["cifar100", "nwot"]["n"]) == ("49", "19")


def mistakes(rng):
    """Options, columns of the truth and what the sentence says."""
    one = np.where(np.arange(50) < 1, 90.0, np.nan)
    return {
        "no table": ({"truth": ""}, {}, "give correlate.truth"),
        "not there": ({"truth": "no.csv"}, {}, "there is no table no.csv"),
        "unknown benchmark": ({"truth": "nasbench999:x.csv"}, {}, "unknown kind of table"),
        "unknown metric": ({"metric": "top1"}, {}, "has no 'top1' on any of cifar10, cifar100"),
        "unknown data set": ({"datasets": "svhn"}, {}, "no data set 'svhn'"),
        "unknown proxy": ({"proxies": "lswga"}, {}, "'lswga' has no value"),
        "unknown policy": ({"nan_policy": "mean"}, {}, "nan_policy must be one of"),
        "unknown params": ({"params": "size"}, {}, "no 'size' on cifar10"),
        "constant": ({"metric": "flat"}, {"flat": np.ones(50)}, "flat on cifar10 is 1 for all 50"),
        "one": ({"metric": "top1"}, {"top1": one}, "known of 1 architectures"),
        "all missing": ({"metric": "a_acc", "proxies": "b"},
                        {"a_acc": np.where(np.arange(50) < 25, rng.normal(size=50), np.nan),
                         "b": np.where(np.arange(50) < 25, np.nan, 1.0)}, "'b' has no value"),
        "all failed": ({"proxies": "zen", "nan_policy": "drop"}, {"zen": np.full(50, -1e8)},
                       "'zen' has no value"),
        "bad scores": ({"scores": "nowhere"}, {}, "there is no table nowhere"),
        "no resample": ({"resamples": -1}, {}, "n of summary must be an integer from 0"),
    }  # fmt: skip


@pytest.mark.parametrize("name", mistakes(np.random.default_rng(0)))
def test_a_mistake_writes_nothing(name, rng, tmp_path):
    options, more, message = mistakes(rng)[name]
    truth(rng, **more).write(tmp_path / "truth.csv")
    config = settings(tmp_path / "truth.csv", **options)
    with pytest.raises((ValueError, OSError), match=message) as error:
        correlate.main(config, str(tmp_path / "out"))
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_scores_of_other_networks_are_refused(rng, tmp_path):
    some = GroundTruth.from_records([column(rng.normal(size=5), "val_accuracy", texts=TEXTS[:5])])
    some.write(tmp_path / "truth.csv")
    score_run(tmp_path / "a", rng.normal(size=10), GENOTYPES[20:30])
    config = settings(tmp_path / "truth.csv", scores=str(tmp_path / "a"))
    with pytest.raises(ValueError, match=r"none of the scored genotypes is in .*: 10 \("):
        correlate.main(config, str(tmp_path / "out"))


def test_the_binary(rng, tmp_path):
    """Exit code 0 and results without any table; exit code 2 and a sentence, nothing written."""
    score_run(tmp_path / "scores", rng.normal(size=50))
    command = ["--config=configs/correlate.py", f"--config.correlate.scores={tmp_path}/scores"]
    command += [f"--workdir={tmp_path}/out", "--config.correlate.metric=params"]
    command += ["--config.correlate.resamples=10", "--config.correlate.proxies=nwot,macs"]
    refused = run("correlate", *command, "--config.correlate.metric=top1", check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("error: the table has no 'top1'")
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()
    refused = run("correlate", *command, "--config.correlate.datasets=nope", check=False)
    assert "the table has no data set 'nope', it has scores." in refused.stderr
    result = run("correlate", *command)
    assert float(rows_of(tmp_path / "out")["scores", "macs"]["rho"]) > 0.9
    assert "weighted tau" in result.stderr
