"""Figures of layers: both factors, the profile, and attention told from MLPs."""

import numpy as np
import pytest

import lswag_jax
from lswag_jax import spaces
from lswag_jax.analysis import layer_profile, plots
from lswag_jax.analysis.layer_kinds import layer_kinds
from lswag_jax.analysis.layer_profile import STATISTICS, LayerProfile, Profile
from tests.helpers.figures import check_outside, drawn, legend

PARTS = {
    "lambda_l": np.array([[9.0] * 5, [1.0, 2.0, 3.0, 0.0, 4.0]]),
    "bins": np.array([[0.0] * 5, [0.0, 2.0, 5.0, -1.0, 7.0]]),
    "in_window": np.array([[1.0] * 5, [0.0, 1.0, 1.0, 0.0, 0.0]]),
    "psi_l": np.array([[1.0, 1.0, 1.0], [7.0, 0.0, 8.0]]),
    "psi": np.array([3.0, 13.0]),
}
KINDS = ("other", "attention", "MLP", "MLP", "attention")


def test_layer_factors():
    figure = drawn(plots.layer_factors(PARTS, 1))
    upper, lower = figure.axes
    inside, outside = upper.containers
    assert [bar.get_height() for bar in inside] == [2, 3]
    assert [bar.get_height() for bar in outside] == [1, 4]
    assert [label.get_text() for label in upper.get_xticklabels()] == [
        "0 %",
        "20 %",
        "50 %",
        "70 %",
    ]
    assert upper.get_title(loc="left") == r"$\Lambda$ = 5 over 2 layers"
    assert [bar.get_height() for bar in lower.containers[0]] == [7, 8]
    assert lower.get_title(loc="left").startswith(r"$\Psi$ = 13;")
    assert legend(figure) == ["in the window", "outside"]
    assert legend(plots.layer_factors(PARTS, 0)) == []


def test_attention_and_mlp_are_told_apart():
    """A colour a kind; what is absent has no bar, what is outside of the window is pale."""
    figure = plots.layer_factors(PARTS, 1, KINDS, "best of 5")
    check_outside(figure)
    assert legend(figure) == ["attention", "MLP", "other", "pale: outside the window"]
    bars = {bar.get_height(): bar for group in figure.axes[0].containers for bar in group}
    assert set(bars) == {0, 1, 2, 3, 4}  # 0 is of the legend's entries
    colors = {height: bar.get_facecolor() for height, bar in bars.items()}
    assert colors[2][:3] == colors[4][:3]  # both of attention
    assert len({colors[1][:3], colors[2][:3], colors[3][:3]}) == 3
    assert [colors[height][3] for height in (1, 2, 3, 4)] == [0.3, 1, 1, 0.3]
    with pytest.raises(ValueError, match="there are 5 weight layers, but 2 kinds"):
        plots.layer_factors(PARTS, 1, KINDS[:2])


def test_layer_factors_of_a_failed_network_and_of_too_few_parts():
    nothing = {key: np.full((1, *value.shape[1:]), np.nan) for key, value in PARTS.items()}
    drawn(plots.layer_factors(nothing))
    parts = {key: PARTS[key] for key in ("psi", "psi_l")}
    with pytest.raises(ValueError, match=r"missing are \['lambda_l', 'bins', 'in_window'\]"):
        plots.layer_factors(parts)


def a_profile(statistic):
    """Without a layer in the second bin."""
    mean = np.array([1.0, np.nan, 3.0] + [2.0] * 7)
    return Profile(mean, mean / 10, np.array([4, 0] + [4] * 8), 4, statistic)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_profile(statistic):
    (axes,) = drawn(plots.profile(a_profile(statistic), (2, 6))).axes
    x, y = axes.lines[0].get_data()
    assert list(x) == [5, 25, 35, 45, 55, 65, 75, 85, 95]
    assert list(y) == [1, 3, 2, 2, 2, 2, 2, 2, 2]
    shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    np.testing.assert_allclose((shade.x0, shade.x1), (20, 70))


def test_profile_without_a_window():
    (axes,) = drawn(plots.profile(a_profile("lambda_l"))).axes
    assert not axes.patches
    assert axes.get_title() == "Layer profile (n = 4 networks), no window"


def test_profile_by_kind():
    mean = np.arange(10.0)
    mlp = np.where(np.arange(10) > 2, mean + 1, np.nan)
    kinds = {"attention": mean - 1, "MLP": mlp}
    profile = Profile(mean, mean / 10, np.full(10, 3), 4, "lambda_l", kinds=kinds)
    figure = plots.profile(profile, (3, 7), "vit on svhn")
    check_outside(figure)
    everything, attention, other = figure.axes[0].lines
    assert list(everything.get_ydata()) == list(mean)
    assert list(attention.get_ydata()) == list(mean - 1)
    assert list(other.get_data()[0]) == [35, 45, 55, 65, 75, 85, 95]
    assert legend(figure)[-2:] == ["mean of attention", "mean of MLP"]


SMALL = spaces.AutoFormer(
    "mine", (16, 24), (2,), (1, 2), (2, 3), image_size=8, patch_size=4, num_classes=3
)


def test_kinds_are_those_of_the_traced_layers():
    """As many as L-SWAG measures in any window, and where each of them is."""
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    genotypes = SMALL.sample(np.random.default_rng(1), 2)
    lswag = [lswag_jax.proxies.get("lswag", window=window, label=label)
             for label, window in (("all", None), ("late", (6, 8)))]  # fmt: skip
    table = lswag_jax.score(SMALL, genotypes, images, np.arange(6) % 3, [*lswag, LayerProfile()])
    kinds = layer_kinds(SMALL, genotypes[0])
    block = ("attention", "attention", "MLP", "MLP")
    assert kinds == ("other", *block * 3, "other")
    for proxy in lswag:
        found = layer_kinds(SMALL, genotypes[0], proxy.window, proxy.bins)
        assert len(found) == table.parts[proxy.key]["lambda_l"].shape[1]
    assert len(found) < len(kinds)
    profile = layer_profile.aggregate(table, kinds)
    values, bins = (table.parts["layer_profile"][key] for key in ("values", "bins"))
    is_mlp = np.array(kinds) == "MLP"
    for b in range(10):
        of_bin = values[(bins == b) & is_mlp & np.isfinite(values)]
        expected = of_bin.mean() if of_bin.size else np.nan
        np.testing.assert_allclose(profile.kinds["MLP"][b], expected)
    assert set(profile.to_json()["kinds"]) == {"attention", "MLP"}
    assert layer_profile.aggregate(table).kinds == {}


def test_spaces_without_attention_have_no_kinds():
    space = spaces.get("nasbench201")
    assert layer_kinds(space, space.sample(np.random.default_rng(0), 1)[0]) == ()
