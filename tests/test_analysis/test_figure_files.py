import argparse
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mmlocalmamba.analysis.figure_files import add_out_argument, figure_path, save_figure


def test_a_figure_is_written_in_every_format_that_is_named(tmp_path):
    parser = argparse.ArgumentParser()
    add_out_argument(parser, 'x.png')
    assert parser.parse_args([]).out == [Path('x.png')]
    paths = parser.parse_args(['--out', f'{tmp_path}/a.png', f'{tmp_path}/a.svg']).out
    figure = Figure()
    figure.text(0.5, 0.5, 'what can be searched')

    save_figure(figure, paths, 50)

    assert paths[0].read_bytes().startswith(b'\x89PNG')
    assert '>what can be searched<' in paths[1].read_text()


@pytest.mark.parametrize(('path', 'message'), [('a.jpg', 'must end in .png or .svg'), ('no/a.png', "no folder 'no'")])
def test_what_cannot_be_written_is_refused_before_anything_is_computed(path, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        figure_path(path)
