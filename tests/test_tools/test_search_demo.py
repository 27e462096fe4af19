import json
from pathlib import Path

import cv2
import pytest


@pytest.mark.slow
def test_it_searches_trains_both_and_prints_their_accuracies(tool, capsys):
    tool('search/demo').main(['--work-dir', 'out', '--epochs', '2', '--seed', '1'])
    lines = capsys.readouterr().out.splitlines()[-4:]
    supernet, searched, fixed = (float(line.split()[-2]) for line in lines[:3])
    assert [line.split()[0] for line in lines[:3]] == ['supernet,', 'searched,', 'fixed,']
    assert min(supernet, searched) > 80 > fixed, 'half of the images are of either class'
    assert json.loads(Path('out/directions.json').read_text())['directions'][0] == ['v', 'v_flip']
    for name in ('searched.png', 'alpha.png'):
        assert f'out/{name}' in lines[3]
        assert cv2.imread(f'out/{name}') is not None
