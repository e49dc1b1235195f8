"""What a table says of itself: figures against what was put in, and that no label can enter."""

import inspect

import numpy as np
import pytest

from lswag_jax import proxies
from lswag_jax.scoring import ScoreTable
from lswag_jax.scoring.diagnosis import Diagnosis, diagnose

N = 60


def table(scores_PxR: np.ndarray, params=None, proxy: str = "snip") -> ScoreTable:
    """A table whose scores are given; NaN is a network that could not be run."""
    params = np.arange(len(scores_PxR)) if params is None else params
    rows = []
    for i, scores in enumerate(scores_PxR):
        row = {"id": f"n{i}", "genotype": {}, "params": int(params[i]), "macs": i % 7}
        if np.isnan(scores).any():
            row["error"] = "out of memory"
        else:
            row["degenerate"] = [False] * len(scores)
            row["parts"] = {proxy: {"score": scores.tolist()}}
        rows.append(row)
    return ScoreTable(rows, proxies.resolve(proxy))


def measured(rng, noise: float, repeats: int = 2) -> np.ndarray:
    quality = rng.normal(size=(N, 1))
    return quality + noise * rng.normal(size=(N, repeats))


def test_no_label_can_enter():
    assert list(inspect.signature(ScoreTable.diagnose).parameters) == ["self", "again"]
    assert list(inspect.signature(diagnose).parameters) == ["table", "again"]


def test_stability_is_the_correlation_of_two_measurements(rng):
    quiet = table(measured(rng, 0.01)).diagnose()["snip"]
    loud = table(measured(rng, 5.0)).diagnose()["snip"]
    assert quiet.stability > 0.99
    assert "stable" in quiet.sentence
    assert abs(loud.stability) < 0.4
    assert "do not trust it here" in loud.sentence


def test_the_mean_of_more_seeds_may_correlate_higher(rng):
    """The ceiling follows Spearman and Brown: quality is not above it but for sampling."""
    values = measured(rng, 2.0, repeats=8)
    found = table(values).diagnose()["snip"]
    assert found.ceiling > np.sqrt(found.over_seeds)
    r = found.over_seeds
    assert found.ceiling == pytest.approx(np.sqrt(8 * r / (1 + 7 * r)))


def test_a_second_table_counts_the_networks_of_both(rng):
    first = measured(rng, 0.1, repeats=1)
    second = first.copy()
    second[:30] = np.nan  # not run
    assert table(first).diagnose()["snip"].stability is None
    found = table(first).diagnose(table(second))["snip"]
    assert found.over_tables == pytest.approx(1.0)
    assert found.over_seeds is None
    assert found.failed == 0
    assert table(second).diagnose()["snip"].failed == 0.5
    assert table(first).diagnose(table(-first))["snip"].ceiling == 0


def test_size_ties_and_failures_are_told(rng):
    params = rng.permutation(N)
    size = table(np.stack([params, params], 1).astype(float), params).diagnose()["snip"]
    assert size.with_params == pytest.approx(1.0)
    assert "orders networks as #params does" in size.sentence
    against = table(-params[:, None].astype(float), params).diagnose()["snip"]
    assert "against #params" in against.sentence
    values = np.floor(measured(rng, 0.1, 1))
    values[:12] = np.nan
    found = table(values).diagnose()["snip"]
    assert found.failed == pytest.approx(0.2)
    assert found.tied > 0.9
    assert "20% of the networks have no score" in found.sentence
    assert "shared by several" in found.sentence


def test_saturated_patterns_are_told(rng):
    t = table(measured(rng, 0.1, 1), proxy="params")
    t.proxies = proxies.resolve("lswag")
    t.__dict__["parts"] = {"lswag": {"psi_saturation": np.repeat([1.0, 0.5], N // 2)}}
    t.scores["lswag"] = t.scores["params"]
    t.per_repeat["lswag"], t.statuses["lswag"] = t.per_repeat["params"], t.statuses["params"]
    found = t.diagnose()["lswag"]
    assert found.saturated == 0.5
    assert "50% of the networks have as many patterns as there can be" in found.sentence


@pytest.mark.parametrize("n", [0, 3])
def test_few_networks_say_nothing(rng, n):
    found = table(measured(rng, 0.1)[:n]).diagnose()["snip"]
    assert found.stability is None
    assert "too few to say anything" in found.sentence


def test_constant_scores():
    found = table(np.ones((N, 2))).diagnose()["snip"]
    assert (found.with_params, found.stability, found.tied) == (None, None, 1.0)
    assert "all networks have one size or one score" in found.sentence


def test_mistakes(rng):
    first = table(measured(rng, 0.1))
    other = table(measured(rng, 0.1), proxy="grad_norm")
    with pytest.raises(ValueError, match="second table has no proxy 'snip', it has grad_norm"):
        first.diagnose(other)
    for row in (stranger := table(measured(rng, 0.1))).rows:
        row["id"] += "x"
    with pytest.raises(ValueError, match="none of the networks of the first"):
        first.diagnose(stranger)


def test_to_json_has_every_figure(rng):
    found = table(measured(rng, 0.1)).diagnose()["snip"].to_json()
    assert {*Diagnosis.__dataclass_fields__, "stability", "ceiling", "sentence"} == set(found)
