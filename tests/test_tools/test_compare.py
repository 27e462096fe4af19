import json

import pytest
import torch

from mmlocalmamba.analysis.comparison import Row, read_models


@pytest.fixture
def tool_module(tool):
    return tool('analysis/compare')


def published(tool_module, repo_dir, table, metric):
    """Give a published metric of a table's rows, in order."""
    known = {entry['Name']: entry['Results'][0]['Metrics'] for entry in read_models(repo_dir / 'model-index.yml')}
    return [known[tool_module.find_config(name).stem][metric] for name in tool_module.TABLES[table]]


@pytest.mark.parametrize(
    ('table', 'metric', 'values'),
    [
        ('2', 'Top 1 Accuracy', [73.1, 80.3, 75.8, 76.2, 81.2, 82.2, 83.5, 82.7, 83.7]),
        ('3', 'box AP', [38.2, 42.7, 44.2, 46.5, 46.7, 48.2, 48.4, 46.0, 46.2, 48.5, 48.7, 49.7, 49.9]),
        ('4', 'mIoU', [40.2, 43.4, 42.1, 44.4, 44.9, 46.4, 47.3, 47.9, 49.5, 50.0]),
        ('5', 'Top 1 Accuracy', [73.1, 74.1, 75.2, 75.8]),
    ],
)
def test_tables_have_the_papers_rows_in_its_order(tool_module, repo_dir, table, metric, values):
    assert published(tool_module, repo_dir, table, metric) == values


def test_a_table_stands_for_its_configs(tool_module):
    args = tool_module.parse_args(['--table', '5'])
    assert len(args.config) == 4
    assert args.config[0].endswith('configs/imagenet/ablation_vim_t_horizontal.py')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'give configs, or --table'),
        (['a.py', '--table', '3'], 'give configs, or --table'),
        (['a.py', 'b.py', '--checkpoints', 'a.pth'], 'wants one for each of 2 configs'),
        (['a.py', '--runs', '0'], '--runs wants a positive number, got 0'),
        (['a.py', '--plot', 'picture.xyz'], "no picture can be written as 'picture.xyz'"),
    ],
)
def test_wrong_arguments_are_named(tool_module, arguments, message, capsys):
    with pytest.raises(SystemExit):
        tool_module.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_a_missing_gpu_is_named(tool_module, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit):
        tool_module.parse_args(['a.py', '--device', 'cuda'])
    assert 'PyTorch sees no GPU here' in capsys.readouterr().err


def test_published_metrics_are_marked_and_measured_ones_are_not(tool_module):
    rows = [
        Row('ours', 'a.py', 45_000_000, 288_000_000_000, 0, 1.5, 3 << 20, {'box AP': 46.7}, {'box AP': 46.5}),
        Row('theirs', 'b.py', 48_000_000, 267_000_000_000, 0, 2.0, None, {'box AP': 42.7}),
    ]
    head, _, ours, theirs, mark = tool_module.to_text(rows).splitlines()
    assert head.split() == ['config', 'params,', 'M', 'FLOPs,', 'G', 'images/s', 'memory,', 'MiB', 'box', 'AP']
    assert ours.split() == ['ours', '45.0', '288.0', '1.50', '3', '46.5']
    assert theirs.split() == ['theirs', '48.0', '267.0', '2.00', '42.7*']
    assert mark == '* published by the authors, not measured here'


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_and_everything_is_written(tool_module, det_config, model_state, tmp_path, capsys):
    torch.save({'state_dict': model_state(det_config)}, 'model.pth')
    other = tmp_path / 'other.py'
    other.write_text(f'_base_ = [{str(det_config)!r}]\nmodel = dict(rpn_head=dict(num_convs=2))\n')
    options = ['--size', 'small', '--threads', '1', '--checkpoints', 'model.pth', 'none']
    tool_module.main([str(det_config), str(other), *options, '--out', 'new/found.json', '--plot', 'new/picture.svg'])
    ours, theirs = json.loads((tmp_path / 'new/found.json').read_text())['rows']
    assert (ours['name'], theirs['name']) == ('mask_rcnn_tiny', 'other')
    assert theirs['params'] - ours['params'] == 256 * 256 * 9 + 256
    assert theirs['flops'] > ours['flops']
    assert set(ours['measured']) == {'box AP', 'mask AP'}
    assert theirs['measured'] == ours['published'] == {}
    assert ours['memory'] is None or ours['memory'] > 4 * ours['params']
    assert '<svg' in (tmp_path / 'new/picture.svg').read_text()
    assert '1 x 3 x 64 x 64 pixels' in capsys.readouterr().out
