"""Figures of runs show the numbers they are given, and leave matplotlib's global state alone."""

import subprocess
import sys

import numpy as np
import pytest

from lswag_jax import proxies
from lswag_jax.analysis import plots
from lswag_jax.analysis.plots import style
from lswag_jax.scoring.table import ScoreTable
from tests.helpers.figures import check_outside, dots, drawn, legend


def table_of(swap, params=10**6) -> ScoreTable:
    """A table of `swap` scores with parameter counts 1, 2, ... millions."""
    rows = [
        {"id": str(i), "genotype": None, "params": (i + 1) * params, "macs": 1, "seconds": 0.0}
        | {"degenerate": [False], "parts": {"swap": {"score": [score]}}}
        for i, score in enumerate(swap)
    ]
    return ScoreTable(rows, proxies.resolve("swap"))


def test_score_against_params():
    table = table_of([3.0, np.nan, 5.0])
    figure = drawn(plots.score_against_params(table, "swap", best=2))
    (axes,) = figure.axes
    assert dots(axes) == [[1, 3], [3, 5]]
    assert dots(axes, 1) == [[3, 5]]
    assert axes.get_title() == "swap against size (n = 3, 1 failed)"
    assert axes.get_xlabel() == "parameters (millions)"
    failed_best = drawn(plots.score_against_params(table, "swap", best=1))
    assert len(failed_best.axes[0].collections) == 1


def test_sizes_are_thousands_or_millions_as_fits():
    figure = plots.score_against_params(table_of([1.0, 3.0, 2.0], 7000), "swap", 1, "darts on svhn")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "parameters (thousands)"
    assert dots(axes) == [[7, 1], [14, 3], [21, 2]]
    first, second = axes.get_title().splitlines()
    assert r"Spearman $\rho$ with size = 0.50" in first
    assert second == "darts on svhn"
    check_outside(figure)


def test_many_dots_are_small_and_an_image():
    """3,000 of them a tenth of the area of few; in a vector file they are an image."""
    few, many = style.dots(100), style.dots(3000)
    assert many["s"] < few["s"] / 4
    assert many["alpha"] < few["alpha"]
    assert (few["rasterized"], many["rasterized"]) == (False, True)
    figure = plots.score_against_params(table_of(np.arange(3000.0)), "swap", 5)
    assert figure.axes[0].collections[0].get_sizes()[0] == many["s"]
    assert len(style.as_bytes(figure, "svg")) < 400_000


def test_best_so_far():
    (axes,) = drawn(plots.best_so_far([-np.inf, 2.0, 1.0, np.nan, 4.0], "lswag")).axes
    number, best = axes.lines[0].get_data()
    assert list(number) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(best, [np.nan, 2, 2, 2, 4])
    assert dots(axes) == [[2, 2], [3, 1], [5, 4]]
    assert dots(axes, 1) == [[5, 4]]
    assert axes.get_ylabel() == "lswag"
    assert "2 failed" in axes.get_title()


def test_generations_are_marked():
    """Every second one is shaded, whatever its size; their numbers stand above."""
    figure = plots.best_so_far(np.arange(10.0), "lswag", [0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    check_outside(figure)
    (axes,) = figure.axes
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert spans == [(3.5, 5.5), (9.5, 10.5)]
    (above,) = axes.child_axes
    assert above.get_xlabel() == "generation"
    assert [text.get_text() for text in above.get_xticklabels()] == ["0", "1", "2", "3"]
    np.testing.assert_allclose(above.get_xticks(), [2, 4.5, 7.5, 10])
    with pytest.raises(ValueError, match="there are 2 evaluations, but 1 generations"):
        plots.best_so_far([1.0, 2.0], generations=[0])


def test_front():
    columns = {"macs": [4, 1, 2, 3, 5], "accuracy": [6.0, 1.0, np.nan, 3.0, 5.0]}
    figure = plots.front(columns, "macs", "accuracy", about="darts on svhn")
    check_outside(figure)
    (axes,) = figure.axes
    assert dots(axes) == [[4, 6], [1, 1], [3, 3], [5, 5]]
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1, 1], [3, 3], [4, 6]]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    assert axes.get_title() == "Front of 3 (n = 5, 1 failed)\ndarts on svhn"
    assert axes.get_xlabel() == "macs (smaller is better)"
    (axes,) = drawn(plots.front(columns, "+macs", "-accuracy")).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1, 1], [3, 3], [5, 5]]
    assert axes.lines[0].get_drawstyle() == "steps-pre"
    assert axes.get_ylabel() == "accuracy (smaller is better)"
    (axes,) = drawn(plots.front(columns, "macs", "accuracy", members=[4, 0])).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[4, 6], [5, 5]]
    with pytest.raises(ValueError, match="no column 'speed', it has macs, accuracy"):
        plots.front(columns, "speed", "accuracy")


def test_front_of_costs_has_the_units_of_windows():
    columns = {"latency": [0.002, 0.001], "memory": [2e6, 4e6]}
    (axes,) = drawn(plots.front(columns, "latency", "memory")).axes
    assert axes.get_xlabel() == "latency (ms, smaller is better)"
    assert axes.get_ylabel() == "memory (MB, smaller is better)"
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [1, 2]


def test_front_of_scores():
    table = table_of([3.0, np.nan, 5.0, 4.0])
    (axes,) = drawn(plots.front(table, "params", "swap")).axes
    assert np.transpose(axes.lines[0].get_data()).tolist() == [[1, 3], [3, 5]]
    assert axes.get_xlabel() == "params (millions, smaller is better)"
    drawn(plots.front(table_of([np.nan]), "params", "swap"))
    with pytest.raises(ValueError, match="no column 'zico', it has swap"):
        plots.front(table, "params", "zico")


@pytest.mark.parametrize("fitness", [[], [-np.inf]])
def test_best_so_far_of_nothing(fitness):
    drawn(plots.best_so_far(fitness))


def test_training_marks_the_best_epoch():
    rows = [
        {"epoch": e, "loss": 2.0 / e, "top1": top1} for e, top1 in ((1, 0.4), (2, 0.6), (3, 0.5))
    ]
    figure = plots.training(rows, rows, "darts")
    check_outside(figure)
    assert dots(figure.axes[1]) == [[2, 0.6]]
    assert legend(figure) == ["training", "validation", "best, 0.6000"]
    drawn(plots.training(rows))


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml")]
)
def test_save_writes_what_the_name_says_and_the_same_twice(kind, start, tmp_path):
    path, again = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    for each in (path, again):
        plots.save(plots.best_so_far([1.0, 2.0]), each)
    assert path.read_bytes().startswith(start)
    assert path.read_bytes() == again.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, again]


def test_save_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"written as \.png, \.pdf or \.svg, got '.*a\.jpg'"):
        plots.save(plots.best_so_far([1.0, 2.0]), tmp_path / "a.jpg")


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys; from lswag_jax import plots; assert 'matplotlib' not in sys.modules; "
        f"plots.save(plots.best_so_far([1.0, 2.0]), {str(tmp_path / 'a.png')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
