import numpy as np
import pytest
from matplotlib.collections import LineCollection

from mmlocalmamba.analysis.plot_scan_paths import plot_scan_paths


def path_of(axes) -> list[list[int]]:
    """Give the tokens, as column and row, in the order of the panel's coloured line."""
    line = [collection for collection in axes.collections if isinstance(collection, LineCollection)][-1]
    steps = line.get_segments()
    return [steps[0][0].astype(int).tolist(), *(step[1].astype(int).tolist() for step in steps)]


def test_a_panel_shows_the_order_of_its_direction():
    figure = plot_scan_paths(['h', 'v_flip', 'w2'], (2, 3))

    panels = figure.axes[:3]
    assert [axes.get_title() for axes in panels] == ['h', 'v_flip', 'w2']
    assert path_of(panels[0]) == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert path_of(panels[1]) == [[2, 1], [2, 0], [1, 1], [1, 0], [0, 1], [0, 0]]
    assert path_of(panels[2]) == [[0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [2, 1]]  # its padding is left out


def test_it_is_drawn_over_an_image_of_any_size(tmp_path):
    image = np.zeros((30, 50, 3), dtype=np.uint8)

    plot_scan_paths(['h'] * 5, (3, 5), image, 'five').savefig(tmp_path / 'paths.png')
    plot_scan_paths(['h'], (1, 1), image).savefig(tmp_path / 'paths.svg')

    assert (tmp_path / 'paths.png').stat().st_size > 0


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match='at least one direction'):
        plot_scan_paths([], (2, 3))
