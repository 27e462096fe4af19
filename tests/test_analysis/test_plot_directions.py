from io import BytesIO

import pytest

from mmlocalmamba.analysis.plot_directions import direction_colors, plot_directions, plot_history
from mmlocalmamba.directions import CANDIDATES, published_directions


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_cell_of_figure_4_is_drawn():
    models = {name: published_directions(name) for name in ('local_vim', 'local_vmamba_tiny')}
    figure = plot_directions(models)
    assert [axes.get_title(loc='left') for axes in figure.axes] == list(models)
    assert len(texts(figure)) == 4 * (20 + 15)


def test_probabilities_are_written_into_the_cells():
    figure = plot_directions({'m': [('h', 'w2_flip')]}, {'m': [dict(h=0.25, w2_flip=0.75)]})
    assert texts(figure) == ['h\n0.25', "w2'\n0.75"]


@pytest.mark.parametrize('names', [CANDIDATES, ('h', 'v', 'w2', 'w3', 'w5', 'w7', 'w9_flip')])
def test_directions_have_colours_of_their_own(names):
    assert len(set(direction_colors(names).values())) == len(names)


def test_history_has_a_panel_per_block_and_a_line_per_candidate():
    records = [dict(iter=i, probabilities=[dict(h=0.5, v=0.5), dict(h=0.2, w2=0.8)]) for i in (0, 10)]
    figure = plot_history(records)
    lines = figure.axes[1].get_lines()
    assert [line.get_label() for line in lines] == ['h', 'w2']
    assert list(lines[1].get_ydata()) == [0.8, 0.8]
    legend = figure.legends[0].get_texts()
    assert [text.get_text() for text in legend] == ['h', 'v', 'w2']


MANY = [f'{path}{flip}' for path in ('h', 'v', 'w2', 'w3', 'w4', 'w13') for flip in ('', '_flip')]


@pytest.mark.parametrize('blocks', [1, 2, 12])
@pytest.mark.parametrize('names', [CANDIDATES, MANY])
def test_the_legend_lies_in_the_picture_and_on_nothing(blocks, names):
    records = [dict(iter=i, probabilities=[dict.fromkeys(names, 1 / len(names))] * blocks) for i in (0, 10)]
    for figure in (plot_directions({'model': [names] * blocks}), plot_history(records)):
        figure.savefig(BytesIO())
        legend = figure.legends[0].get_window_extent()
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0
        assert all(legend.y1 <= axes.get_tightbbox().y0 for axes in figure.axes if axes.get_visible())


def test_cells_are_of_one_size_in_all_panels():
    figure = plot_directions({'long': [('h',)] * 20, 'short': [('h',)] * 3})
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match='holds no records'):
        plot_history([])


def test_no_model_is_refused():
    with pytest.raises(ValueError, match='nothing to draw'):
        plot_directions({})
