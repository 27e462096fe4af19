import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.registry import MODELS

CONFIG = """
model = dict(
    type='mmlocalmamba.LocalVMamba',
    arch=dict(dims=[8], depths=[2], directions=[['h', 'v', 'w2', 'w7']] * 2),
    out_indices=(0,),
    d_state=2,
    search=True,
)
"""


@pytest.fixture
def draw(tool):
    """Run the tool; returns the picture that it wrote."""

    def run(*arguments):
        tool('analysis/plot_directions').main([*arguments, '--out', 'picture.png'])
        return cv2.imread('picture.png')

    return run


def test_published_directions(draw, capsys):
    picture = draw('local_vim', 'local_vmamba_tiny')
    assert capsys.readouterr().out == 'picture.png\n'
    assert len({tuple(colour) for colour in picture.reshape(-1, 3)}) > 8, 'a colour per direction'


def test_a_file_of_directions(draw):
    Path('d.json').write_text('[["h", "w7"], ["v", "w2_flip"]]')
    assert draw('d.json') is not None


def test_a_log(draw):
    lines = [json.dumps(dict(iter=i, epoch=0, probabilities=[dict(h=0.5 + i / 100, v=0.5 - i / 100)])) for i in (0, 9)]
    Path('log.jsonl').write_text('\n'.join(lines) + '\n')
    assert draw('log.jsonl') is not None


def test_a_checkpoint(draw):
    Path('search.py').write_text(CONFIG)
    torch.save(MODELS.build(Config.fromfile('search.py').model).state_dict(), 'search.pth')
    assert draw('search.py', '--checkpoint', 'search.pth', '--top-k', '2') is not None


def test_a_config_without_checkpoint_is_refused(draw):
    Path('search.py').write_text(CONFIG)
    with pytest.raises(ValueError, match=r'to draw what search\.py found, give its checkpoint'):
        draw('search.py')


def test_more_than_the_candidates_are_refused(draw):
    Path('search.py').write_text(CONFIG)
    torch.save(MODELS.build(Config.fromfile('search.py').model).state_dict(), 'search.pth')
    with pytest.raises(ValueError, match='cannot choose 5 directions in block 0, which has 4 candidates'):
        draw('search.py', '--checkpoint', 'search.pth', '--top-k', '5')


def test_an_unknown_model_is_refused(draw):
    with pytest.raises(ValueError, match="no published directions are called 'local_vim_huge'"):
        draw('local_vim_huge')


def test_logs_are_drawn_one_at_a_time(draw):
    with pytest.raises(ValueError, match='one search config or one log at a time'):
        draw('log.jsonl', 'local_vim')
