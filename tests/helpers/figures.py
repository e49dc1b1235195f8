"""What tests of figures ask of them."""

from typing import Any

import numpy as np


def drawn(figure: Any) -> Any:
    """The figure, after it was laid out without a warning."""
    figure.draw_without_rendering()
    return figure


def dots(axes: Any, index: int = 0) -> list:
    """Places of the points of a scatter."""
    return np.asarray(axes.collections[index].get_offsets()).tolist()


def legend(figure: Any) -> list[str]:
    """Texts of a figure's legends."""
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def check_outside(figure: Any) -> None:
    """Fails where a legend or title covers axes or leaves the figure."""
    figure.draw_without_rendering()
    whole = figure.bbox
    boxes = [each.get_window_extent() for each in figure.legends]
    for box in boxes:
        for axes in figure.axes:
            assert not box.overlaps(axes.get_window_extent()), "a legend covers axes"
    titles = [axes.title for axes in figure.axes] + [figure._suptitle] * bool(figure._suptitle)
    boxes += [title.get_window_extent() for title in titles if title.get_text()]
    for box in boxes:
        assert box.x0 >= -1, "cut at the left"
        assert box.y0 >= -1, "cut at the bottom"
        assert box.x1 <= whole.x1 + 1, "cut at the right"
        assert box.y1 <= whole.y1 + 1, "cut at the top"
