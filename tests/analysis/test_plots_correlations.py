"""Figures of correlations and of LIBRA: values, intervals, colours, panels and who was chosen."""

import numpy as np
import pytest

from lswag_jax.analysis import libra, plots
from tests.helpers.figures import check_outside, dots, drawn, legend

NAMES = ["nwot", "synflow", "plain"], ["scene", "normal"]
VALUES = np.array([[0.9, 0.7], [0.5, np.nan], [-0.25, 0.05]])


def test_ranks():
    figure = drawn(plots.ranks([9.0, -np.inf, 5.0, np.nan], [0.3, 0.1, 0.2, 0.9], "lswag"))
    (axes,) = figure.axes
    assert dots(axes) == [[1, 1], [2, 2]]
    assert dots(axes, 1) == [[3, 3]]
    assert axes.get_title() == r"Spearman $\rho$ = 1.000, Kendall $\tau$ = 1.000, n = 3"
    assert axes.get_xlabel() == "rank by lswag (1 is best)"
    assert legend(figure) == ["failed, ranked last"]


@pytest.mark.parametrize("number", [1, 3, 4])
def test_rank_panels(number, rng):
    """A panel a data set, with its proxy, statistics, interval and number of networks."""
    scores, truth = rng.normal(size=(2, 40))
    scores[0] = -np.inf
    panel = {"scores": scores, "truth": truth, "name": "zico", "interval": (0.125, 0.5)}
    figure = plots.rank_panels([panel | {"dataset": f"set{i}"} for i in range(number)], "top1")
    check_outside(figure)
    assert len(figure.axes) == number
    for i, axes in enumerate(figure.axes):
        first, second, third = axes.get_title().splitlines()
        assert first == f"zico on set{i}"
        assert second.endswith("[0.125, 0.500]")
        assert third.endswith("n = 40")
    assert legend(figure) == ["failed, ranked last"]
    with pytest.raises(ValueError, match="at least one data set"):
        plots.rank_panels([])


def test_heat_map_and_averages():
    """A cell a value, grey where there is none; bars of the means of what there is."""
    axes, bar = drawn(plots.heat_map(*NAMES, VALUES)).axes
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.70", "0.50", "-0.25", "0.05"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == NAMES[0]
    assert bar.get_ylabel() == r"Spearman $\rho$"
    (axes,) = drawn(plots.averages(*NAMES, VALUES, "tau")).axes
    assert [b.get_width() for b in axes.patches] == pytest.approx([0.8, 0.5, -0.1])
    assert axes.get_yticklabels()[1].get_text() == "synflow (1 of 2)"
    assert axes.get_xlabel() == r"mean Kendall $\tau$ over 2 data sets"


def test_intervals_and_numbers_are_shown():
    more = {"low_KxD": VALUES - 0.1, "high_KxD": VALUES + 0.05, "title": "with top1"}
    more["n_KxD"] = np.array([[100, 2000], [90, np.nan], [100, 2000]])
    figure = plots.heat_map(*NAMES, VALUES, **more)
    check_outside(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["0.90", "[0.80, 0.95]"]
    assert texts[-2:] == ["0.05", "[-0.05, 0.10]"]
    columns = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert columns == ["scene\nn = 90 to 100", "normal\nn = 2,000"]
    figure = plots.averages(*NAMES, VALUES, **more)
    check_outside(figure)
    assert legend(figure) == ["scene, n = 90 to 100", "normal, n = 2,000"]
    lines = figure.axes[0].collections[1]  # behind the dots of the first data set
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [[0.8, 0.95], [0.4, 0.55], [-0.35, -0.2]])


def test_ten_data_sets_with_long_names_are_told_apart():
    names = [f"a rather long name of data set {i}" for i in range(10)]
    figure = plots.averages(["a", "b"], names, np.full((2, 10), 0.5), n_KxD=np.full((2, 10), 4096))
    check_outside(figure)
    assert legend(figure) == [f"{name}, n = 4,096" for name in names]
    handles = figure.legends[0].legend_handles
    looks = [(h.get_facecolor().tobytes(), h.get_paths()[0].vertices.tobytes()) for h in handles]
    assert len(set(looks)) == 10


@pytest.mark.parametrize(
    ("values", "scale", "bar"),
    [
        ([[0.6, 0.7], [0.8, 0.9]], (0.6, 0.9), (0.6, 0.9)),
        ([[-0.2, 0.4], [0.1, 0.3]], (-0.4, 0.4), (-0.2, 0.4)),  # white stays 0
        ([[0.5, 0.5], [0.5, np.nan]], (0.45, 0.55), (0.45, 0.55)),
        ([[np.nan] * 2] * 2, (0, 1), (0, 1)),
    ],
)
def test_colours_use_the_range_of_the_values(values, scale, bar):
    axes, colours = drawn(plots.heat_map(["a", "b"], ["x", "y"], np.array(values))).axes
    assert axes.images[0].get_clim() == pytest.approx(scale)
    assert colours.get_ylim() == pytest.approx(bar)


def test_figures_of_one_data_set_have_no_mean():
    figure = plots.averages(["a", "b"], ["svhn"], np.array([[0.5], [0.25]]))
    assert figure.axes[0].get_xlabel() == r"Spearman $\rho$ on svhn"


def test_candidates_mark_the_chosen_and_the_window(rng):
    y = rng.normal(size=200)
    noise = dict(zip("abcdef", (0.5, 0.55, 0.6, 0.62, 3, 9), strict=True))
    scores = {name: y + level * rng.normal(size=200) for name, level in noise.items()}
    selection = libra.select(scores, y, y + rng.normal(size=200))
    figure = plots.candidates(selection, "top1 of darts on svhn")
    check_outside(figure)
    rho, gain, bias = figure.axes
    names = [text.get_text() for text in rho.get_yticklabels()]
    for i, name in enumerate(selection.proxies, start=1):
        assert f"z{i}: {name}" in names
    assert len(selection.proxies) == 3
    best = max(c.rho for c in selection.candidates)
    window = next(patch for patch in rho.patches if (patch.get_label() or "").startswith("window"))
    assert (window.get_x(), window.get_width()) == pytest.approx((best - 0.1, 0.1))
    assert gain.get_xlabel().endswith("(bits)")
    assert bias.lines[1].get_xdata()[0] == selection.accuracy_bias
    colors = {bar.get_facecolor() for bar in rho.containers[0]}
    assert len(colors) == 5  # z1, z2, z3, others in the window, those outside
    assert figure._suptitle.get_text().endswith("(n = 200)\ntop1 of darts on svhn")
