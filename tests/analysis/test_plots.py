"""Figures show the numbers they are given, and leave matplotlib's global state alone."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from lswag_jax import proxies
from lswag_jax.analysis import plots
from lswag_jax.analysis.layer_profile import STATISTICS, Profile
from lswag_jax.scoring.table import ScoreTable


def table_of(swap) -> ScoreTable:
    """A table of `swap` scores with parameter counts 1, 2, ... millions."""
    rows = [
        {"id": str(i), "genotype": None, "params": (i + 1) * 10**6, "macs": 1, "seconds": 0.0}
        | {"degenerate": [False], "parts": {"swap": {"score": [score]}}}
        for i, score in enumerate(swap)
    ]
    return ScoreTable(rows, proxies.resolve("swap"))


def dots(axes, index: int = 0) -> list:
    return np.asarray(axes.collections[index].get_offsets()).tolist()


def drawn(figure) -> Figure:
    """The figure, after it was laid out without a warning."""
    figure.draw_without_rendering()
    return figure


def test_score_against_params():
    table = table_of([3.0, np.nan, 5.0])
    figure = drawn(plots.score_against_params(table, "swap", best=2))
    (axes,) = figure.axes
    assert dots(axes) == [[1, 3], [3, 5]]
    assert dots(axes, 1) == [[3, 5]]
    assert axes.get_title() == "swap against size (n = 3, 1 failed)"
    assert "millions" in axes.get_xlabel()
    failed_best = drawn(plots.score_against_params(table, "swap", best=1))
    assert len(failed_best.axes[0].collections) == 1


def test_best_so_far():
    (axes,) = drawn(plots.best_so_far([-np.inf, 2.0, 1.0, np.nan, 4.0], "lswag")).axes
    number, best = axes.lines[0].get_data()
    assert list(number) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(best, [np.nan, 2, 2, 2, 4])
    assert dots(axes) == [[2, 2], [3, 1], [5, 4]]
    assert dots(axes, 1) == [[5, 4]]
    assert axes.get_ylabel() == "lswag"
    assert "2 failed" in axes.get_title()


def test_front():
    columns = {"macs": [4, 1, 2, 3, 5], "accuracy": [6.0, 1.0, np.nan, 3.0, 5.0]}
    (axes,) = drawn(plots.front(columns, "macs", "accuracy")).axes
    assert dots(axes) == [[4, 6], [1, 1], [3, 3], [5, 5]]
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1, 1], [3, 3], [4, 6]]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert axes.get_title() == "Front of 3 (n = 5, 1 failed)"
    assert axes.get_xlabel() == "macs (smaller is better)"
    (axes,) = drawn(plots.front(columns, "+macs", "-accuracy")).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1, 1], [3, 3], [5, 5]]
    assert axes.lines[0].get_drawstyle() == "steps-pre"
    assert axes.get_ylabel() == "accuracy (smaller is better)"
    (axes,) = drawn(plots.front(columns, "macs", "accuracy", members=[4, 0])).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[4, 6], [5, 5]]
    with pytest.raises(ValueError, match="no column 'speed', it has macs, accuracy"):
        plots.front(columns, "speed", "accuracy")


def test_front_of_scores():
    table = table_of([3.0, np.nan, 5.0, 4.0])
    (axes,) = drawn(plots.front(table, "params", "swap")).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1e6, 3], [3e6, 5]]
    drawn(plots.front(table_of([np.nan]), "params", "swap"))
    with pytest.raises(ValueError, match="no column 'zico', it has swap"):
        plots.front(table, "params", "zico")


@pytest.mark.parametrize("fitness", [[], [-np.inf]])
def test_best_so_far_of_nothing(fitness):
    drawn(plots.best_so_far(fitness))


PARTS = {
    "lambda_l": np.array([[9.0] * 5, [1.0, 2.0, 3.0, 0.0, 4.0]]),
    "bins": np.array([[0.0] * 5, [0.0, 2.0, 5.0, -1.0, 7.0]]),
    "in_window": np.array([[1.0] * 5, [0.0, 1.0, 1.0, 0.0, 0.0]]),
    "psi_l": np.array([[1.0, 1.0, 1.0], [7.0, 0.0, 8.0]]),
    "psi": np.array([3.0, 13.0]),
}


def test_layer_factors():
    upper, lower = drawn(plots.layer_factors(PARTS, 1)).axes
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
    assert drawn(plots.layer_factors(PARTS, 0)).axes[0].get_legend() is None


def test_layer_factors_of_a_failed_network_and_of_too_few_parts():
    nothing = {key: np.full((1, *value.shape[1:]), np.nan) for key, value in PARTS.items()}
    drawn(plots.layer_factors(nothing))
    parts = {key: PARTS[key] for key in ("psi", "psi_l")}
    with pytest.raises(ValueError, match=r"missing are \['lambda_l', 'bins', 'in_window'\]"):
        plots.layer_factors(parts)


def test_profile():
    mean = np.array([1.0, np.nan, 3.0] + [2.0] * 7)
    count = np.array([4, 0] + [4] * 8)
    for statistic in STATISTICS:
        profile = Profile(mean, mean / 10, count, 4, statistic)
        (axes,) = drawn(plots.profile(profile, (2, 6))).axes
        x, y = axes.lines[0].get_data()
        assert list(x) == [5, 25, 35, 45, 55, 65, 75, 85, 95]
        assert list(y) == [1, 3, 2, 2, 2, 2, 2, 2, 2]
        shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
        np.testing.assert_allclose((shade.x0, shade.x1), (20, 70))
    (axes,) = drawn(plots.profile(profile)).axes
    assert not axes.patches
    assert axes.get_title() == "Layer profile (n = 4 networks), no window"


def test_ranks():
    (axes,) = drawn(plots.ranks([9.0, -np.inf, 5.0, np.nan], [0.3, 0.1, 0.2, 0.9], "lswag")).axes
    assert dots(axes) == [[1, 1], [2, 2]]
    assert dots(axes, 1) == [[3, 3]]
    assert axes.get_title() == r"Spearman $\rho$ = 1.000, Kendall $\tau$ = 1.000, n = 3"
    assert axes.get_xlabel() == "rank by lswag (1 is best)"


def test_save_writes_a_png(tmp_path):
    path = tmp_path / "a.png"
    plots.save(plots.best_so_far([1.0, 2.0]), path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert list(tmp_path.iterdir()) == [path]


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys; from lswag_jax import plots; assert 'matplotlib' not in sys.modules; "
        f"plots.save(plots.best_so_far([1.0, 2.0]), {str(tmp_path / 'a.png')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_heat_map_and_averages():
    """A cell a value, grey where there is none; bars of the means of what there is."""
    values = np.array([[0.9, 0.7], [0.5, np.nan], [-0.25, 0.05]])
    names = ["nwot", "synflow", "plain"], ["scene", "normal"]
    axes, bar = drawn(plots.heat_map(*names, values)).axes
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.70", "0.50", "-0.25", "0.05"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == names[0]
    assert bar.get_ylabel() == "rho"
    (axes,) = drawn(plots.averages(*names, values, "tau")).axes
    assert [b.get_width() for b in axes.patches] == pytest.approx([0.8, 0.5, -0.1])
    assert axes.get_yticklabels()[1].get_text() == "synflow (1 of 2)"
    assert axes.get_xlabel() == "mean tau over 2 data sets"
