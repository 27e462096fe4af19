import numpy as np

from growth_plot import plot_growth


def points(model, factor):
    return [{'model': model, 'side': 16 * n, 'tokens': n * n, 'ms': factor * n**3} for n in (4, 8, 16)]


def test_the_picture_has_a_line_per_model_and_a_linear_one(tmp_path):
    figure = plot_growth([*points('ours', 2.0), *points('Swin', 1.0)], 'a machine')
    (axes,) = figure.axes
    ours, swin, linear = axes.get_lines()
    assert [line.get_label() for line in (ours, swin, linear)] == ['ours', 'Swin', 'linear, through ours 128²']
    assert list(ours.get_ydata()) == [2.0 * 4**3, 2.0 * 8**3, 2.0 * 16**3]
    x, y = (np.asarray(data) for data in (linear.get_xdata(), linear.get_ydata()))
    np.testing.assert_allclose(y / x, 2.0 * 8**3 / 8**2)
    assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')
    assert [label.get_text() for label in axes.get_xticklabels()] == ['16\n64²', '64\n128²', '256\n256²']
    assert axes.get_title(loc='left') == 'a machine'
    figure.savefig(tmp_path / 'tokens.png')
    assert (tmp_path / 'tokens.png').read_bytes()[:4] == b'\x89PNG'
